//! Talking to a running cluster over HTTPS with the admin kubeconfig.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use troupe_api::auth::{kubeconfig::Kubeconfig, tls};

/// A cluster's API server.
pub struct Remote {
    kubeconfig: Kubeconfig,
    tls: tokio_rustls::TlsConnector,
}

impl Remote {
    /// The cluster of a kubeconfig file.
    pub fn open(path: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read(path).with_context(|| format!("cannot use {}: is a cluster up?", path.display()))?;
        let config = tls::client_config(&kubeconfig.ca_pem, Some(&kubeconfig.identity)).context("the kubeconfig's certificates are unusable")?;
        Ok(Remote { kubeconfig, tls: tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)) })
    }

    /// The server's address as the kubeconfig has it.
    pub fn server(&self) -> &str {
        &self.kubeconfig.server
    }

    /// GETs a path and returns code and body.
    pub async fn get(&self, path: &str) -> Result<(u16, Bytes)> {
        self.send("GET", path).await
    }

    /// Sends a request without a body and returns code and body.
    pub async fn send(&self, method: &str, path: &str) -> Result<(u16, Bytes)> {
        exchange(&self.kubeconfig.server, &self.tls, method, path).await
    }

    /// GETs JSON; a failed call becomes an error with the server's message.
    pub async fn get_json(&self, path: &str) -> Result<Value> {
        self.json("GET", path).await
    }

    /// POSTs nothing to a path that does something, and reads JSON.
    pub async fn post_json(&self, path: &str) -> Result<Value> {
        self.json("POST", path).await
    }

    async fn json(&self, method: &str, path: &str) -> Result<Value> {
        let (code, body) = self.send(method, path).await?;
        let value: Value = serde_json::from_slice(&body).with_context(|| format!("{path} answered {code} and no JSON"))?;
        if code >= 400 {
            bail!("{}", value["message"].as_str().unwrap_or("the server refused"));
        }
        Ok(value)
    }
}

/// Sends one request without a body over a connection of its own and returns code and body.
pub async fn fetch(server: &str, tls: rustls::ClientConfig, method: &str, path: &str) -> Result<(u16, Bytes)> {
    exchange(server, &tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls)), method, path).await
}

async fn exchange(server: &str, tls: &tokio_rustls::TlsConnector, method: &str, path: &str) -> Result<(u16, Bytes)> {
    let authority = server.strip_prefix("https://").with_context(|| format!("{server} is no https address"))?.trim_end_matches('/');
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    let stream = TcpStream::connect(authority).await.with_context(|| format!("nothing answers at {server}"))?;
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{server} has no usable name"))?;
    let stream = tls.connect(name, stream).await.context("the TLS handshake failed")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", authority)
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("the request failed")?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.context("the reply broke off")?.to_bytes();
    driver.abort();
    Ok((code, body))
}
