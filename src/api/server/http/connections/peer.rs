//! Whether the other end of a socket is still there, although nobody reads what it sent last.

use std::os::fd::{AsFd, OwnedFd};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};
use tokio::net::TcpStream;

/// What is below a connection.
pub trait Socket {
    /// Another descriptor of the socket; `None` where there is none to be had.
    fn descriptor(&self) -> Option<OwnedFd>;
}

impl Socket for TcpStream {
    fn descriptor(&self) -> Option<OwnedFd> {
        self.as_fd().try_clone_to_owned().ok()
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn descriptor(&self) -> Option<OwnedFd> {
        self.get_ref().0.descriptor()
    }
}

impl Socket for tokio_rustls::client::TlsStream<TcpStream> {
    fn descriptor(&self) -> Option<OwnedFd> {
        self.get_ref().0.descriptor()
    }
}

/// A socket that is held by others too. While this lives, so does the connection.
#[derive(Debug)]
pub struct PeerSocket(OwnedFd);

impl PeerSocket {
    pub fn of(socket: &impl Socket) -> Option<Self> {
        socket.descriptor().map(PeerSocket)
    }

    /// Whether the peer sends no more: it has closed its end, or the connection broke. What it sent before may be unread.
    pub fn is_hung_up(&self) -> bool {
        let wanted = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut asked = [PollFd::new(self.0.as_fd(), wanted)];
        // Not every flag has a name there; none is told but what was asked for, and that the connection broke.
        poll(&mut asked, PollTimeout::ZERO).is_ok() && asked[0].any() != Some(false)
    }

    /// Breaks the connection when it is closed, so that the peer hears of it however much it has not read.
    pub fn break_on_close(self) {
        // One that is broken already needs nothing.
        let _ = setsockopt(&self.0, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("bound"));
        let (near, far) = tokio::join!(near, listener.accept());
        (near.expect("connects"), far.expect("accepts").0)
    }

    async fn hangs_up(socket: &PeerSocket) {
        let heard = async {
            while !socket.is_hung_up() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(5), heard).await.expect("it is heard of");
    }

    #[tokio::test]
    async fn a_peer_that_left_is_noticed_behind_what_nobody_read() {
        let (near, mut far) = pair().await;
        let socket = PeerSocket::of(&near).expect("a descriptor");
        far.write_all(&[7; 1000]).await.expect("sends");
        assert!(!socket.is_hung_up());
        drop(far);
        hangs_up(&socket).await;
    }

    #[tokio::test]
    async fn a_broken_connection_is_heard_of_by_a_peer_that_takes_no_more() {
        let (mut near, far) = pair().await;
        let (socket, heard) = (PeerSocket::of(&near).expect("a descriptor"), PeerSocket::of(&far).expect("a descriptor"));
        let full = async { while near.write_all(&[7; 1 << 16]).await.is_ok() {} };
        assert!(timeout(Duration::from_millis(300), full).await.is_err(), "nobody reads it");
        socket.break_on_close();
        assert!(!heard.is_hung_up());
        drop(near);
        hangs_up(&heard).await;
    }
}
