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

#[cfg(test)]
mod tests {
    use std::{
        os::fd::OwnedFd,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Wake, Waker},
        time::Instant,
    };

    use super::*;

    /// A peer that always has more to say, for as many bytes as are left.
    struct Endless(usize);

    impl Socket for Endless {
        fn descriptor(&self) -> Option<OwnedFd> {
            None
        }
    }

    impl AsyncRead for Endless {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let length = out.remaining().min(self.0);
            if length == 0 {
                return Poll::Pending;
            }
            self.0 -= length;
            out.initialize_unfilled_to(length).fill(0);
            out.advance(length);
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_connection_that_always_has_more_gives_way_and_is_woken_for_the_rest() {
        const FRAME: usize = 9;
        let connection = Arc::new(Connection::new(0, Instant::now()));
        connection.vouch();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut metered = Metered::new(Endless(10 * TURN), connection);
        // How many bytes are read before it gives way, small frames at a time.
        let mut turn = || {
            let mut read = 0;
            loop {
                let mut frame = [0; FRAME];
                let mut out = ReadBuf::new(&mut frame);
                if Pin::new(&mut metered).poll_read(&mut Context::from_waker(&waker), &mut out).is_pending() {
                    return read;
                }
                read += out.filled().len();
            }
        };
        for number in 1..=5 {
            assert!((TURN..TURN + FRAME).contains(&turn()));
            assert_eq!(woken.0.load(Relaxed), number, "it goes on when others had their turn");
        }
        while turn() > 0 {}
        assert!(woken.0.load(Relaxed) <= 11, "who waits for the peer is not woken");
    }
}
