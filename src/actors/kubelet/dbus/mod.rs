//! A connection to a message bus (D-Bus), as much of it as conversations with systemd and logind need: calls one at a time, and signals.

mod wire;

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
    time::Duration,
};

use nix::{
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
    unistd::geteuid,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

#[cfg(test)]
pub use self::wire::testing;
pub use self::wire::{Arg, Call, Malformed, Message, Property, Variant, decode, length};
use self::wire::{ERROR, HEAD, SIGNAL, encode};

/// Where the system's bus listens.
pub const SOCKET: &str = "/run/dbus/system_bus_socket";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(25);
/// Descriptors that come with one message at most.
const DESCRIPTORS: usize = 16;
/// A line of the greeting is no longer.
const LONGEST_LINE: usize = 4096;
/// Signals that nobody asked for yet.
const WAITING: usize = 64;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the message bus does not answer: {0}")]
    Io(#[from] io::Error),
    #[error("the message bus ended the connection")]
    Closed,
    #[error("the message bus does not let this process in: {0}")]
    Refused(String),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("{name}: {message}")]
    Failed { name: String, message: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the answer has another type than expected")]
    Odd,
}

/// A call of the bus itself.
fn of_bus<'a>(member: &'a str, args: &'a [Arg<'a>]) -> Call<'a> {
    Call { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus", member, args }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    unread: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    signals: VecDeque<Message>,
    serial: u32,
}

impl Connection {
    /// Connects to the bus at this socket, as the user of this process.
    ///
    /// # Errors
    /// When there is none, or it lets this process not in.
    pub async fn open(socket: &Path) -> Result<Self, BusError> {
        let stream = UnixStream::connect(socket).await?;
        let (unread, descriptors, signals) = (Vec::new(), VecDeque::new(), VecDeque::new());
        let mut connection = Connection { stream, unread, descriptors, signals, serial: 0 };
        timeout(PATIENCE, connection.greet()).await.map_err(|_| BusError::Late)??;
        connection.call(&of_bus("Hello", &[])).await?;
        Ok(connection)
    }

    /// Asks for the signals of an object that this member of an interface is.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn hear(&mut self, path: &str, interface: &str, member: &str) -> Result<(), BusError> {
        let rule = format!("type='signal',interface='{interface}',member='{member}',path='{path}'");
        self.call(&of_bus("AddMatch", &[Arg::Text(&rule)])).await.map(drop)
    }

    async fn greet(&mut self) -> Result<(), BusError> {
        let user = hex::encode(geteuid().to_string());
        self.stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes()).await?;
        self.expect("OK").await?;
        self.stream.write_all(b"NEGOTIATE_UNIX_FD\r\n").await?;
        self.expect("AGREE_UNIX_FD").await?;
        self.stream.write_all(b"BEGIN\r\n").await?;
        Ok(())
    }

    async fn expect(&mut self, word: &str) -> Result<(), BusError> {
        let line = loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                break String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            if self.unread.len() > LONGEST_LINE {
                return Err(BusError::Odd);
            }
            self.fill().await?;
        };
        if line.split(' ').next() == Some(word) { Ok(()) } else { Err(BusError::Refused(line)) }
    }

    /// Calls and waits for the answer, with the descriptors that came with it.
    ///
    /// # Errors
    /// When the call fails, or nobody answers.
    pub async fn call(&mut self, call: &Call<'_>) -> Result<(Message, Vec<OwnedFd>), BusError> {
        self.serial = self.serial.wrapping_add(1).max(1);
        let serial = self.serial;
        self.stream.write_all(&encode(serial, call)).await?;
        let (answer, descriptors) = timeout(PATIENCE, self.answer(serial)).await.map_err(|_| BusError::Late)??;
        if answer.kind == ERROR {
            let message = answer.text().unwrap_or_default();
            return Err(BusError::Failed { name: answer.error, message });
        }
        Ok((answer, descriptors))
    }

    async fn answer(&mut self, serial: u32) -> Result<(Message, Vec<OwnedFd>), BusError> {
        loop {
            let (message, descriptors) = self.message().await?;
            if message.reply_to == Some(serial) {
                return Ok((message, descriptors));
            }
            if message.kind == SIGNAL && self.signals.len() < WAITING {
                self.signals.push_back(message);
            }
        }
    }

    /// Waits for the next signal, for as long as that takes.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn signal(&mut self) -> Result<Message, BusError> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let (message, _) = self.message().await?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    async fn message(&mut self) -> Result<(Message, Vec<OwnedFd>), BusError> {
        loop {
            if self.unread.len() >= HEAD {
                let length = length(&self.unread)?;
                if self.unread.len() >= length {
                    let bytes: Vec<u8> = self.unread.drain(..length).collect();
                    let message = decode(&bytes)?;
                    let count = message.descriptors.min(self.descriptors.len());
                    return Ok((message, self.descriptors.drain(..count).collect()));
                }
            }
            self.fill().await?;
        }
    }

    /// Reads what there is, and waits for something.
    async fn fill(&mut self) -> Result<(), BusError> {
        let mut chunk = [0_u8; 4096];
        let (stream, socket) = (&self.stream, self.stream.as_raw_fd());
        let (count, descriptors) = stream.async_io(Interest::READABLE, || receive(socket, &mut chunk)).await?;
        if count == 0 {
            return Err(BusError::Closed);
        }
        self.unread.extend(&chunk[..count]);
        self.descriptors.extend(descriptors);
        Ok(())
    }
}

/// Reads bytes and the descriptors that come with them.
fn receive(socket: RawFd, chunk: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut slices = [IoSliceMut::new(chunk)];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket, &mut slices, Some(space.as_mut_slice()), flags)?;
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(given) = message {
            // SAFETY: the kernel made them for this process in this very call, and nobody else knows them.
            descriptors.extend(given.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    Ok((received.bytes, descriptors))
}
