//! Lets SPDY upgrades through the HTTP/1.1 server.
//!
//! The server hands over the raw bytes after a request's head for `Upgrade: websocket` only; what follows another
//! upgrade it would read as the next request. SPDY clients open a connection for each upgrade, so it is enough to look
//! at a connection's first head: one that asks for SPDY gets a second `Upgrade` line, naming WebSocket.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head that is longer passes unread; the server refuses it anyway.
const LONGEST_HEAD: usize = 128 << 10;
const CHUNK: usize = 4 << 10;
const MARK: &[u8] = b"upgrade: websocket\r\n";

/// A client's connection.
pub struct UpgradeIo<T> {
    io: T,
    first: First,
}

/// How far the first head is.
enum First {
    Coming(Vec<u8>),
    /// Read and looked at; the server has had this much of it.
    Replayed(Vec<u8>, usize),
    Done,
}

impl<T> UpgradeIo<T> {
    pub fn new(io: T) -> Self {
        UpgradeIo { io, first: First::Coming(Vec::new()) }
    }

    /// What is below.
    pub fn inner(&self) -> &T {
        &self.io
    }
}

/// The bytes that the server is to see, once enough have come to tell.
fn looked_at(mut bytes: Vec<u8>, ended: bool) -> Result<Vec<u8>, Vec<u8>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    match end {
        Some(end) => {
            if asks_for_spdy(&bytes[..end]) {
                bytes.splice(end + 2..end + 2, MARK.iter().copied());
            }
            Ok(bytes)
        }
        None if ended || bytes.len() > LONGEST_HEAD => Ok(bytes),
        None => Err(bytes),
    }
}

fn asks_for_spdy(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
        line[..colon].eq_ignore_ascii_case(b"upgrade") && line[colon + 1..].trim_ascii().eq_ignore_ascii_case(b"spdy/3.1")
    })
}

impl<T: AsyncRead + Unpin> AsyncRead for UpgradeIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.first {
                First::Done => return Pin::new(&mut this.io).poll_read(cx, out),
                First::Replayed(bytes, told) => {
                    let length = out.remaining().min(bytes.len() - *told);
                    out.put_slice(&bytes[*told..*told + length]);
                    *told += length;
                    if *told == bytes.len() {
                        this.first = First::Done;
                    }
                    return Poll::Ready(Ok(()));
                }
                First::Coming(bytes) => {
                    let mut chunk = [0; CHUNK];
                    let mut chunk = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(&mut this.io).poll_read(cx, &mut chunk))?;
                    bytes.extend_from_slice(chunk.filled());
                    this.first = match looked_at(std::mem::take(bytes), chunk.filled().is_empty()) {
                        Ok(bytes) => First::Replayed(bytes, 0),
                        Err(bytes) => First::Coming(bytes),
                    };
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for UpgradeIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spdy_upgrades_are_marked() {
        let look = |text: &str| looked_at(text.as_bytes().to_vec(), false).map(|bytes| String::from_utf8(bytes).expect("text"));
        let spdy = "POST /x HTTP/1.1\r\nHost: h\r\nUpgrade: SPDY/3.1\r\n\r\nrest";
        assert_eq!(look(spdy).expect("whole"), "POST /x HTTP/1.1\r\nHost: h\r\nUpgrade: SPDY/3.1\r\nupgrade: websocket\r\n\r\nrest");
        for other in ["GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            assert_eq!(look(other).expect("whole"), other);
        }
        assert!(look("GET / HTTP/1.1\r\nUpgrade: SPDY/3.1\r\n").is_err(), "more is to come");
    }
}
