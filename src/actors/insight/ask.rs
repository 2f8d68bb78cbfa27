//! One question to one peer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use troupe_api::auth::tls::{self, RenewableCertificate, TlsError};
use troupe_api_server::{
    backends::place::Kubelet,
    http::streaming::{KubeletDialer, client},
};

use super::peers::{Peer, Proof};

/// A peer has this long to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// No more of an answer is read.
const MOST: usize = 64 << 20;

/// What an API server shows to its peers, and whom it trusts.
#[derive(Clone)]
pub struct Credentials {
    pub ca_pem: String,
    pub identity: Arc<RenewableCertificate>,
}

/// Asks peers.
#[derive(Clone)]
pub struct Asker {
    credentials: Arc<Credentials>,
    by_authority: KubeletDialer,
}

impl Asker {
    /// # Errors
    /// When the credentials cannot be used.
    pub fn new(credentials: Credentials) -> Result<Self, TlsError> {
        let tls = tls::renewable_client_config(&credentials.ca_pem, credentials.identity.clone())?;
        Ok(Asker { by_authority: KubeletDialer::new(Arc::new(tls)), credentials: Arc::new(credentials) })
    }

    async fn dial(&self, peer: &Peer) -> Result<TlsStream<TcpStream>, String> {
        let dialled = match &peer.proof {
            Proof::Node(node) => self.by_authority.dial(&Kubelet { node: node.clone(), address: peer.address.clone() }).await,
            Proof::Authority => self.by_authority.dial_address(&peer.address).await,
            Proof::Certificate(fingerprint) => self.pinned(fingerprint).map_err(|error| error.to_string())?.dial_address(&peer.address).await,
        };
        dialled.map_err(|error| error.to_string())
    }

    fn pinned(&self, fingerprint: &str) -> Result<KubeletDialer, TlsError> {
        let tls = tls::pinned_client_config(fingerprint, self.credentials.identity.clone())?;
        // Nobody else has that certificate, so processes of one machine may meet there.
        Ok(KubeletDialer::new(Arc::new(tls)).reaching_loopback())
    }

    /// Code and body of what a peer answers; why it does not where it does not.
    pub async fn ask(&self, peer: &Peer, method: Method, path: &str) -> Result<(u16, Bytes), String> {
        let asking = self.exchange(peer, method, path);
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("it did not answer in time".into()))
    }

    async fn exchange(&self, peer: &Peer, method: Method, path: &str) -> Result<(u16, Bytes), String> {
        let stream = self.dial(peer).await?;
        client::ask(stream, method, path, peer.address.authority(), MOST).await
    }
}

/// What a refusal says.
pub fn refusal(code: u16, body: &[u8]) -> String {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    match told["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("it answered {code}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]).trim()),
    }
}
