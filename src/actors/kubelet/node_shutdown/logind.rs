//! What tells that the machine shuts down, and can make that wait: logind, behind a seam.

use std::{any::Any, io, path::PathBuf, time::Duration};

use async_trait::async_trait;

use crate::kubelet::dbus::BusError;

/// While it lives the machine waits before it shuts down, as long as logind lets it.
pub type Lock = Box<dyn Any + Send>;

/// Why logind cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum LogindError {
    #[error("{0}")]
    Bus(#[from] BusError),
    #[error("failed reading InhibitDelayMaxUSec property from logind: {0}")]
    Delay(BusError),
    #[error("unable to override inhibit delay by shutdown manager: cannot write {path}: {source}")]
    Override { path: PathBuf, source: io::Error },
    #[error("unable to reload logind conf: {0}")]
    Reload(BusError),
    #[error(
        "node shutdown manager was timed out after {attempts} attempts waiting for logind InhibitDelayMaxSec to update to {wanted:?} \
         (ShutdownGracePeriod), current value is {found:?}"
    )]
    NotUpdated { attempts: u32, wanted: Duration, found: Duration },
    #[error("failed creating systemd inhibitor: {0}")]
    Inhibit(BusError),
    #[error("failed to monitor shutdown: {0}")]
    Monitor(BusError),
}

/// Leads to logind.
#[async_trait]
pub trait LogindBus: Send + Sync {
    /// A new connection.
    ///
    /// # Errors
    /// When nobody answers.
    async fn connect(&self) -> Result<Box<dyn Logind>, LogindError>;
}

/// A connection to logind.
#[async_trait]
pub trait Logind: Send {
    /// How long the machine waits for whoever holds a lock.
    ///
    /// # Errors
    /// When it does not say.
    async fn inhibit_delay(&mut self) -> Result<Duration, LogindError>;

    /// Writes down that the machine is to wait so long; it counts once the configuration is read again.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn override_inhibit_delay(&mut self, delay: Duration) -> Result<(), LogindError>;

    /// Has the configuration read again, some time later.
    ///
    /// # Errors
    /// When nobody takes the request.
    async fn reload(&mut self) -> Result<(), LogindError>;

    /// Takes a lock.
    ///
    /// # Errors
    /// When none is given.
    async fn inhibit(&mut self) -> Result<Lock, LogindError>;

    /// Wants to be told of shutdowns from now on.
    ///
    /// # Errors
    /// When that is refused.
    async fn monitor(&mut self) -> Result<(), LogindError>;

    /// Waits for the next word: the machine shuts down, or does not any more.
    ///
    /// # Errors
    /// When the connection ends.
    async fn next(&mut self) -> Result<bool, LogindError>;
}
