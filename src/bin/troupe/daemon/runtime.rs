//! Finding or starting the container runtime. One of our own is kept running.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::task::JoinHandle;

use crate::{config::Config, containerd, images};

/// Starts the container runtime on a thread of its own, beside what else is started.
pub fn start_beside(config: Config) -> JoinHandle<Result<PathBuf>> {
    tokio::task::spawn_blocking(move || start(&config))
}

/// The runtime's socket: the one named, a running containerd's, or our own's.
fn start(config: &Config) -> Result<PathBuf> {
    if let Some(socket) = &config.container_runtime_endpoint {
        if !containerd::answers(socket) {
            bail!("no runtime answers on {}; start it, or leave the choice to troupe", socket.display());
        }
        return Ok(socket.clone());
    }
    let layout = config.containerd();
    let system = PathBuf::from(containerd::SYSTEM_SOCKET);
    let socket = if layout.running_pid().is_none() && containerd::answers(&system) {
        system
    } else {
        layout.ensure()?;
        let socket = layout.socket();
        layout.keep()?;
        socket
    };
    if let Some(dir) = &config.image_dir {
        images::import_missing(&socket, dir).context("cannot import images")?;
    }
    Ok(socket)
}
