//! Telling a service manager how the daemon is (sd_notify). Without one all of this does nothing.

use std::{
    ffi::OsStr,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// All runs.
pub fn ready() {
    tell("READY=1");
}

/// Stopping has begun.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Shows signs of life as often as the service manager wants them; from the thread that takes signals.
pub async fn watchdog() {
    let wanted = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
    let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let Some(period) = wanted.filter(|period| ours && !period.is_zero()) else { return std::future::pending().await };
    loop {
        tell("WATCHDOG=1");
        tokio::time::sleep(period / 2).await;
    }
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::debug!(%error, state, "the service manager was not told");
    }
}

/// Sends to a socket in the file system, or with `@` in the abstract namespace.
fn send(socket: &OsStr, state: &str) -> std::io::Result<()> {
    let bytes = socket.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_hears_on_either_kind_of_socket() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("binds");
        let name = format!("troupe-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).expect("a name");
        let by_name = UnixDatagram::bind_addr(&abstract_name).expect("binds");
        send(path.as_os_str(), "READY=1").expect("sends");
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").expect("sends");
        for (socket, want) in [(by_path, "READY=1"), (by_name, "STOPPING=1")] {
            let mut buffer = [0; 32];
            let length = socket.recv(&mut buffer).expect("receives");
            assert_eq!(&buffer[..length], want.as_bytes());
        }
    }
}
