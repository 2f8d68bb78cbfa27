//! Dials kubelets over mutual TLS.
//!
//! That the cluster's authority vouches for the address is not enough: a node could name the machine of another one, or of an
//! API server, as its own. So the certificate must also be the node's, as RFC 6125 has servers identified: the signer
//! `kubernetes.io/kubelet-serving` gives each the common name `system:node:NAME` and the organization `system:nodes`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, client::TlsStream};
use troupe_api::auth::{unverifying, x509};

use crate::backends::{
    may_reach,
    place::{Kubelet, KubeletAddress},
};

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
    #[error("tls: the certificate of {address} is not the one of node {node:?}")]
    NotTheNode { address: String, node: String },
    /// It is no address that a machine or a pod has.
    #[error("dial tcp {address}: address not allowed")]
    NotAllowed { address: String },
    #[error("{0:?} is no host name")]
    Name(String),
}

impl DialError {
    /// Whether somebody answered whose certificate does not prove who that is.
    pub fn is_unverified(&self) -> bool {
        match self {
            DialError::NotTheNode { .. } => true,
            DialError::Tls { source, .. } => {
                let found = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                matches!(found, Some(rustls::Error::InvalidCertificate(_)))
            }
            _ => false,
        }
    }
}

/// Opens connections to kubelets.
#[derive(Clone)]
pub struct KubeletDialer {
    /// Trusts the kubelets' CA and shows the API server's client certificate; offers HTTP/1.1 only.
    pub tls: Arc<rustls::ClientConfig>,
    loopback: bool,
}

impl KubeletDialer {
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        KubeletDialer { tls, loopback: false }
    }

    /// Lets it reach this machine's own addresses, which a cluster's server must not: for tests.
    #[must_use]
    pub fn reaching_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// A connection whose peer proved to be the kubelet of that node at that address.
    ///
    /// # Errors
    /// When nobody answers there, or somebody else.
    pub async fn dial(&self, kubelet: &Kubelet) -> Result<TlsStream<TcpStream>, DialError> {
        let stream = self.dial_address(&kubelet.address).await?;
        // Of a resumed session these are the certificates of the first one.
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if shown.is_some_and(|certificate| is_of_node(certificate, &kubelet.node)) {
            return Ok(stream);
        }
        Err(DialError::NotTheNode { address: kubelet.address.authority(), node: kubelet.node.clone() })
    }

    /// A connection whose peer proved to be `address`, whatever it is.
    ///
    /// # Errors
    /// When nobody answers there, or somebody else.
    pub async fn dial_address(&self, address: &KubeletAddress) -> Result<TlsStream<TcpStream>, DialError> {
        self.dial_with(self.tls.clone(), address).await
    }

    /// A connection to whoever answers at `address`: who asks for one does not believe what comes. Our certificate is shown as ever.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn dial_unverified(&self, address: &KubeletAddress) -> Result<TlsStream<TcpStream>, DialError> {
        self.dial_with(Arc::new(unverifying(&self.tls)), address).await
    }

    async fn dial_with(&self, tls: Arc<rustls::ClientConfig>, address: &KubeletAddress) -> Result<TlsStream<TcpStream>, DialError> {
        let timeout = |_| DialError::Timeout { address: address.authority() };
        tokio::time::timeout(DIAL_TIMEOUT, self.connect(tls, address)).await.map_err(timeout)?
    }

    async fn connect(&self, tls: Arc<rustls::ClientConfig>, address: &KubeletAddress) -> Result<TlsStream<TcpStream>, DialError> {
        let authority = address.authority();
        let tcp =
            TcpStream::connect(&*self.resolve(address).await?).await.map_err(|source| DialError::Connect { address: authority.clone(), source })?;
        // A failure costs latency only.
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(address.host.clone()).map_err(|_| DialError::Name(address.host.clone()))?;
        TlsConnector::from(tls).connect(name, tcp).await.map_err(|source| DialError::Tls { address: authority, source })
    }

    /// Where the host is. A name may lead anywhere, so it is what it resolves to that is judged, and dialled.
    async fn resolve(&self, address: &KubeletAddress) -> Result<Vec<SocketAddr>, DialError> {
        let found = lookup_host((address.host.as_str(), address.port)).await;
        let found = found.map_err(|source| DialError::Connect { address: address.authority(), source })?;
        let allowed: Vec<SocketAddr> = found.filter(|found| may_reach(found.ip(), self.loopback)).collect();
        if allowed.is_empty() { Err(DialError::NotAllowed { address: address.authority() }) } else { Ok(allowed) }
    }
}

/// Whether a certificate names a node, as the signer of kubelets' certificates does.
fn is_of_node(certificate: &[u8], node: &str) -> bool {
    let named = x509::user_of(certificate).ok().flatten();
    named.is_some_and(|user| user.name.strip_prefix("system:node:") == Some(node) && user.groups == ["system:nodes"])
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use troupe_api::auth::{
        any_peer,
        pki::{LeafSpec, Pki},
        tls,
    };

    /// Answers handshakes on this machine with a certificate of the cluster's authority that has this subject.
    async fn peer(pki: &Pki, common_name: &str, organization: &str) -> u16 {
        let spec = LeafSpec {
            file: format!("{common_name}{organization}").replace(':', "-"),
            common_name: common_name.into(),
            organizations: vec![organization.into()],
            ips: vec![IpAddr::from([127, 0, 0, 1])],
            server: true,
            ..LeafSpec::default()
        };
        let config = tls::server_config(&pki.leaf(&spec).expect("a leaf"), pki.ca_pem()).expect("a TLS configuration");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // The ticket that lets a session be resumed is sent with the first words.
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    let _ = stream.write_all(b"hello").await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn only_the_nodes_own_certificate_is_its_kubelets() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let dialer = KubeletDialer::new(Arc::new(tls::client_config(pki.ca_pem(), None).expect("a TLS configuration"))).reaching_loopback();
        for (common_name, organization, believed) in [
            ("system:node:a", "system:nodes", true),
            ("system:node:b", "system:nodes", false),
            ("kube-apiserver", "others", false),
            ("a", "system:nodes", false),
            ("system:node:a", "others", false),
        ] {
            let address = KubeletAddress { host: "127.0.0.1".into(), port: peer(&pki, common_name, organization).await };
            let kubelet = Kubelet { node: "a".into(), address };
            // The second time the session may be resumed, without a certificate.
            for _ in 0..2 {
                match dialer.dial(&kubelet).await {
                    Ok(mut stream) => {
                        stream.read_to_end(&mut Vec::new()).await.expect("it says hello and ends");
                        assert!(believed, "{common_name} of {organization}");
                    }
                    Err(DialError::NotTheNode { node, .. }) => assert!(!believed && node == "a", "{common_name} of {organization}"),
                    Err(error) => panic!("{common_name} of {organization}: {error}"),
                }
            }
            assert!(dialer.dial_address(&kubelet.address).await.is_ok(), "its address is vouched for");
        }
    }

    #[tokio::test]
    async fn whoever_answers_is_believed_by_those_alone_who_ask_for_it() {
        let (ours, others) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (ours, others) = (Pki::open(ours.path()).expect("a CA"), Pki::open(others.path()).expect("a CA"));
        let dialer = KubeletDialer::new(Arc::new(tls::client_config(ours.ca_pem(), None).expect("a TLS configuration"))).reaching_loopback();
        let address = KubeletAddress { host: "127.0.0.1".into(), port: peer(&others, "system:node:a", "system:nodes").await };
        // What was said unverified is of no use to those who verify.
        for _ in 0..2 {
            let mut stream = dialer.dial_unverified(&address).await.expect("anybody will do");
            let mut said = String::new();
            stream.read_to_string(&mut said).await.expect("it says hello and ends");
            assert_eq!(said, "hello");
            let refused = dialer.dial_address(&address).await.expect_err("no CA of ours vouches for it");
            assert!(refused.is_unverified(), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_node_whose_address_is_this_machine_is_not_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"] {
            let address = KubeletAddress { host: host.into(), port };
            let refused = KubeletDialer::new(any_peer()).dial_address(&address).await.expect_err(host);
            assert!(matches!(refused, DialError::NotAllowed { .. }) && !refused.is_unverified(), "{host}: {refused}");
        }
        let accepted = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(accepted.is_err(), "nobody may have come");
    }
}
