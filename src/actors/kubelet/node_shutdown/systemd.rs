//! Logind over the system's message bus. What is called and written is upstream's, so that an administrator finds what he knows.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::logind::{Lock, Logind, LogindBus, LogindError};
use crate::{
    files::blocking,
    kubelet::dbus::{Arg, BusError, Call, Connection, SOCKET},
};

const SERVICE: &str = "org.freedesktop.login1";
const OBJECT: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SIGNAL: &str = "PrepareForShutdown";
/// Read after the administrator's own files.
const OVERRIDE: &str = "99-kubelet.conf";

/// The system's bus.
#[derive(Clone, Debug)]
pub struct SystemBus {
    /// [default: `/run/dbus/system_bus_socket`]
    pub socket: PathBuf,
    /// Where logind's configuration is amended. [default: `/etc/systemd/logind.conf.d`]
    pub configuration: PathBuf,
}

impl Default for SystemBus {
    fn default() -> Self {
        SystemBus { socket: SOCKET.into(), configuration: "/etc/systemd/logind.conf.d".into() }
    }
}

#[async_trait]
impl LogindBus for SystemBus {
    async fn connect(&self) -> Result<Box<dyn Logind>, LogindError> {
        let connection = Connection::open(&self.socket).await?;
        Ok(Box::new(Systemd { connection, configuration: self.configuration.clone() }))
    }
}

struct Systemd {
    connection: Connection,
    configuration: PathBuf,
}

fn manager<'a>(member: &'a str, args: &'a [Arg<'a>]) -> Call<'a> {
    Call { destination: SERVICE, path: OBJECT, interface: MANAGER, member, args }
}

#[async_trait]
impl Logind for Systemd {
    async fn inhibit_delay(&mut self) -> Result<Duration, LogindError> {
        let args = [Arg::Text(MANAGER), Arg::Text("InhibitDelayMaxUSec")];
        let get = Call { interface: "org.freedesktop.DBus.Properties", ..manager("Get", &args) };
        let (answer, _) = self.connection.call(&get).await.map_err(LogindError::Delay)?;
        answer.property().map(Duration::from_micros).ok_or(LogindError::Delay(BusError::Odd))
    }

    async fn override_inhibit_delay(&mut self, delay: Duration) -> Result<(), LogindError> {
        let folder = self.configuration.clone();
        let path = folder.join(OVERRIDE);
        let written = blocking(move || write_override(&folder, delay)).await;
        written.map_err(|source| LogindError::Override { path, source })
    }

    async fn reload(&mut self) -> Result<(), LogindError> {
        // SIGHUP has it read its configuration.
        let args = [Arg::Text("systemd-logind.service"), Arg::Text("all"), Arg::Int32(1)];
        let kill = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "KillUnit",
            args: &args,
        };
        self.connection.call(&kill).await.map(drop).map_err(LogindError::Reload)
    }

    async fn inhibit(&mut self) -> Result<Lock, LogindError> {
        let args = [Arg::Text("shutdown"), Arg::Text("kubelet"), Arg::Text("Kubelet needs time to handle node shutdown"), Arg::Text("delay")];
        let (answer, descriptors) = self.connection.call(&manager("Inhibit", &args)).await.map_err(LogindError::Inhibit)?;
        let lock = answer.descriptor().and_then(|index| descriptors.into_iter().nth(index));
        lock.map(|lock| Box::new(lock) as Lock).ok_or(LogindError::Inhibit(BusError::Odd))
    }

    async fn monitor(&mut self) -> Result<(), LogindError> {
        self.connection.hear(OBJECT, MANAGER, SIGNAL).await.map_err(LogindError::Monitor)
    }

    async fn next(&mut self) -> Result<bool, LogindError> {
        loop {
            let signal = self.connection.signal().await?;
            if signal.path != OBJECT || signal.interface != MANAGER || signal.member != SIGNAL {
                continue;
            }
            match signal.flag() {
                Some(is_active) => return Ok(is_active),
                None => tracing::error!("failed obtaining shutdown event, PrepareForShutdown event was not bool type as expected"),
            }
        }
    }
}

fn write_override(folder: &Path, delay: Duration) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(OVERRIDE), format!("# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={}\n", delay.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSlice, Read},
        os::fd::AsRawFd,
    };

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
    };

    use super::*;
    use crate::kubelet::dbus::{decode, length, testing};

    /// The other side of a connection.
    struct Peer {
        stream: UnixStream,
        unread: Vec<u8>,
    }

    impl Peer {
        async fn fill(&mut self) {
            let mut chunk = [0_u8; 512];
            let count = self.stream.read(&mut chunk).await.expect("reads");
            assert!(count > 0, "the other side ended");
            self.unread.extend(&chunk[..count]);
        }

        async fn line(&mut self, line: &str) {
            while self.unread.len() < line.len() {
                self.fill().await;
            }
            let said: Vec<u8> = self.unread.drain(..line.len()).collect();
            assert_eq!(String::from_utf8_lossy(&said), line);
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.expect("writes");
        }

        /// The next call's member and serial.
        async fn call(&mut self) -> (String, u32) {
            loop {
                if self.unread.len() >= 16 {
                    let length = length(&self.unread).expect("a message");
                    if self.unread.len() >= length {
                        let bytes: Vec<u8> = self.unread.drain(..length).collect();
                        let call = decode(&bytes).expect("a message");
                        return (call.member, call.serial);
                    }
                }
                self.fill().await;
            }
        }

        async fn answers(&mut self, member: &str, signature: &str, body: &[u8]) {
            let (called, serial) = self.call().await;
            assert_eq!(called, member);
            self.send(&testing::answer(serial, signature, body, 0)).await;
        }
    }

    #[tokio::test]
    async fn logind_is_spoken_to_over_the_bus() {
        let place = tempfile::tempdir().expect("a directory");
        let (socket, configuration) = (place.path().join("bus"), place.path().join("logind.conf.d"));
        let listener = UnixListener::bind(&socket).expect("binds");
        let bus = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut peer = Peer { stream, unread: Vec::new() };
            let user = hex::encode(nix::unistd::geteuid().to_string());
            peer.line(&format!("\0AUTH EXTERNAL {user}\r\n")).await;
            peer.send(b"OK 1234deadbeef\r\n").await;
            peer.line("NEGOTIATE_UNIX_FD\r\n").await;
            peer.send(b"AGREE_UNIX_FD\r\n").await;
            peer.line("BEGIN\r\n").await;
            peer.answers("Hello", "s", b"\x04\0\0\0:1.7\0").await;
            peer.answers("Get", "v", &testing::property(5_000_000)).await;
            peer.answers("KillUnit", "", &[]).await;
            // Something else is said in between.
            peer.send(&testing::signal(OBJECT, MANAGER, SIGNAL, true)).await;
            let (called, serial) = peer.call().await;
            assert_eq!(called, "Inhibit");
            let (held, lock) = std::io::pipe().expect("a pipe");
            peer.stream.writable().await.expect("writes");
            let bytes = testing::answer(serial, "h", &[0, 0, 0, 0], 1);
            let given = [lock.as_raw_fd()];
            let message = [ControlMessage::ScmRights(&given)];
            sendmsg::<()>(peer.stream.as_raw_fd(), &[IoSlice::new(&bytes)], &message, MsgFlags::empty(), None).expect("sends");
            drop(lock);
            peer.answers("AddMatch", "", &[]).await;
            peer.send(&testing::signal(OBJECT, MANAGER, "PrepareForSleep", true)).await;
            peer.send(&testing::signal(OBJECT, MANAGER, SIGNAL, false)).await;
            (peer, held)
        };
        let node = async {
            let mut logind = SystemBus { socket, configuration: configuration.clone() }.connect().await.expect("connects");
            assert_eq!(logind.inhibit_delay().await.expect("a delay"), Duration::from_secs(5));
            logind.override_inhibit_delay(Duration::from_secs(30)).await.expect("writes");
            logind.reload().await.expect("reloads");
            let lock = logind.inhibit().await.expect("a lock");
            logind.monitor().await.expect("is told");
            assert!(logind.next().await.expect("a signal") && !logind.next().await.expect("a signal"));
            (logind, lock)
        };
        let ((peer, mut held), (mut logind, lock)) = tokio::join!(bus, node);
        let written = fs::read_to_string(configuration.join(OVERRIDE)).expect("is there");
        assert_eq!(written, "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=30\n");
        drop(lock);
        assert_eq!(held.read(&mut [0]).expect("reads"), 0, "nobody holds the lock any more");
        drop(peer);
        let ended = logind.next().await.expect_err("it ended");
        assert!(matches!(ended, LogindError::Bus(BusError::Closed)), "{ended}");
    }

    #[tokio::test]
    async fn without_a_bus_there_is_no_logind() {
        let place = tempfile::tempdir().expect("a directory");
        let bus = SystemBus { socket: place.path().join("none"), ..SystemBus::default() };
        let why = bus.connect().await.err().expect("nobody is there").to_string();
        assert!(why.starts_with("the message bus does not answer: "), "{why}");
    }
}
