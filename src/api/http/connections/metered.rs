//! A socket whose connection hears of what goes over it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, PeerSocket, Socket};

/// A connection that read so many bytes in a row gives way to the others of its thread: many small frames or requests fit into them.
const TURN: usize = 32 << 10;

/// Reads no more than its connection may send, and tells when the peer takes nothing. Whoever waits for the peer to leave is given the
/// socket.
#[derive(Debug)]
pub struct Metered<T> {
    io: T,
    connection: Arc<Connection>,
    /// Bytes that were read since it last waited.
    turn: usize,
}

impl<T> Drop for Metered<T> {
    fn drop(&mut self) {
        self.connection.closed();
    }
}

impl<T: Socket> Metered<T> {
    fn show_socket(&self) {
        if self.connection.wants_socket() {
            self.connection.watch_socket(PeerSocket::of(&self.io));
        }
    }
}

impl<T> Metered<T> {
    pub fn new(io: T, connection: Arc<Connection>) -> Self {
        Metered { io, connection, turn: 0 }
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl<T: AsyncRead + Socket + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.show_socket();
        if !self.connection.may_read() {
            // Nothing wakes the reader: a reply may still go out, and then the connection ends.
            return Poll::Pending;
        }
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = out.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, out) else {
            self.turn = 0;
            return Poll::Pending;
        };
        read?;
        let read = out.filled().len() - before;
        self.turn += read;
        self.connection.received(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Socket + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.connection.written(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.show_socket();
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.connection.written(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.connection.written(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
