//! Echoes (RFC 792; RFC 4443, section 4): which of several addresses answer, and how fast.
//!
//! Messages are made and recognised in `message.rs` (pure), sent over a raw socket in `host.rs`.

mod fake;
mod host;
mod message;

use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

use async_trait::async_trait;

pub use self::{fake::FakeEcho, host::HostEcho};

/// Asks for echoes.
#[async_trait]
pub trait Echo: Send + Sync + 'static {
    /// Asks all of `targets` once, at the same time, from the address `source`, whose family they are of. Gives how long those took that
    /// answered within `patience`.
    ///
    /// # Errors
    /// When nobody can be asked: `source` is no address of this machine, or raw sockets are not allowed.
    async fn ask(&self, source: IpAddr, targets: &[IpAddr], patience: Duration) -> io::Result<BTreeMap<IpAddr, Duration>>;
}
