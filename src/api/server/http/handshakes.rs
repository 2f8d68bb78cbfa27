//! TLS handshakes of a server's thread, which take turns.
//!
//! Anybody may ask for a handshake, and its key exchange and signature take as long as many a request. So the next one waits until
//! whoever else is ready has had its turn: a flood of them may use a processor, but delays those who are at work by no more than one
//! handshake at a time. How many wait is bounded by the connections of nobody.

use std::{io, sync::Arc, time::Duration};

use rustls::{ServerConfig, server::Acceptor};
use tokio::{net::TcpStream, sync::Semaphore, task::yield_now, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

/// A client has this long, its turn included.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module. Clones take turns with each other.
#[derive(Clone, Debug)]
pub struct Handshakes(Arc<Semaphore>);

impl Default for Handshakes {
    fn default() -> Self {
        Handshakes(Arc::new(Semaphore::new(1)))
    }
}

impl Handshakes {
    /// Shakes hands with a client. `None` where that fails, or takes too long.
    pub async fn shake(&self, tcp: TcpStream, config: Arc<ServerConfig>) -> Option<TlsStream<TcpStream>> {
        match timeout(PATIENCE, self.in_turn(tcp, config)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "no TLS session"),
            Err(_) => tracing::debug!("a client was too slow with TLS"),
        }
        None
    }

    async fn in_turn(&self, tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsStream<TcpStream>> {
        // Who says nothing has no turn, and keeps nobody waiting.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let turn = self.0.acquire().await.map_err(io::Error::other)?;
        // The key exchange and the signature are made here.
        let answered = hello.into_stream(config);
        yield_now().await;
        drop(turn);
        answered.await
    }
}
