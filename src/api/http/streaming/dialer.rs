//! Dials kubelets over mutual TLS.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::place::KubeletAddress;

/// A kubelet has this long to accept and finish the handshake.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no connection came to be. Reads as what clients see.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("dial tcp {address}: connect: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("dial tcp {address}: i/o timeout")]
    Timeout { address: String },
    #[error("tls: {source} ({address})")]
    Tls { address: String, source: std::io::Error },
    #[error("{0:?} is no host name")]
    Name(String),
}

/// Opens connections to kubelets.
#[derive(Clone)]
pub struct KubeletDialer {
    /// Trusts the kubelets' CA and shows the API server's client certificate; offers HTTP/1.1 only.
    pub tls: Arc<rustls::ClientConfig>,
}

impl KubeletDialer {
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        KubeletDialer { tls }
    }

    /// A connection whose peer proved to be `address`.
    ///
    /// # Errors
    /// When nobody answers there, or somebody else.
    pub async fn dial(&self, address: &KubeletAddress) -> Result<TlsStream<TcpStream>, DialError> {
        let timeout = |_| DialError::Timeout { address: address.authority() };
        tokio::time::timeout(DIAL_TIMEOUT, self.connect(address)).await.map_err(timeout)?
    }

    async fn connect(&self, address: &KubeletAddress) -> Result<TlsStream<TcpStream>, DialError> {
        let authority = address.authority();
        let tcp = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(|source| DialError::Connect { address: authority.clone(), source })?;
        // A failure costs latency only.
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(address.host.clone()).map_err(|_| DialError::Name(address.host.clone()))?;
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(name, tcp).await.map_err(|source| DialError::Tls { address: authority, source })
    }
}
