//! The parts of a cluster as assemblies, and the daemons `troupe control-plane` and `troupe node` made of them.
//!
//! `troupe up` is made of the same assemblies, in one process.

pub mod control_plane;
mod election;
pub mod node;
mod notify;
mod reach;
pub mod runtime;

use std::{future::Future, path::Path, time::Duration};

use anyhow::{Context, Result};
use troupe_actors::runtime::system::{System, SystemOptions};

use crate::instance::PidFile;

/// Units have this long to stop in good order.
const STOPPING: Duration = Duration::from_secs(5);

/// Something that runs until it is stopped.
pub trait Running {
    /// Stops it in good order.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Starts what `start` makes in a process of this name, tells a service manager, waits for a signal, and stops it again.
fn run<R: Running, F: Future<Output = Result<R>>>(pid_file: &Path, process: String, start: impl FnOnce(System) -> F) -> Result<()> {
    let _pid_file = PidFile::claim(pid_file)?;
    let threads = actix::System::new();
    threads.block_on(async move {
        let system = System::new(SystemOptions { process, ..SystemOptions::default() }).context("cannot start the actor system")?;
        let running = start(system.clone()).await?;
        notify::ready();
        let end = until_told(&system).await;
        notify::stopping();
        running.stop().await;
        system.shutdown(STOPPING).await;
        end
    })
}

/// Waits for a signal to stop.
///
/// # Errors
/// When units gave up that nobody restarts: the daemon should be started again.
pub async fn until_told(system: &System) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = system.broken() => Err(anyhow::anyhow!("{why}; a supervisor should start troupe again")),
        () = notify::watchdog() => unreachable!("the watchdog is served for ever"),
    }
}
