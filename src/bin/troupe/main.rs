//! `troupe`: control plane and node of one machine in one process, and the commands to run and look at it.

mod containerd;
mod images;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A container orchestrator that speaks the Kubernetes API, built as a troupe of supervised actors
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build and import the container images that Troupe and its samples use
    #[command(subcommand)]
    Images(images::ImagesCommand),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Images(command) => images::run(command),
    }
}
