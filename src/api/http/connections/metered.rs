//! A socket whose connection hears of what goes over it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, PeerSocket, Socket};

/// Reads no more than its connection may send, and tells when the peer takes nothing. Whoever waits for the peer to leave is given the
/// socket.
#[derive(Debug)]
pub struct Metered<T> {
    io: T,
    connection: Arc<Connection>,
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
        Metered { io, connection }
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
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        self.connection.received(out.filled().len() - before);
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
