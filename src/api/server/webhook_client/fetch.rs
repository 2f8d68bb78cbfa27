//! One HTTPS exchange with a server that a configuration names: issuers of tokens, webhooks of kubeconfigs.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use rustls::ClientConfig;
use tokio::net::lookup_host;

use super::connections::{Connection, connect};

/// An `https` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    pub port: u16,
    pub authority: String,
    /// With the query.
    pub path: String,
}

impl Url {
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("parse {text:?}: {error}"))?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err(format!("{text:?} is no https URL")) };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = uri.authority().map_or_else(String::new, ToString::to_string);
        Ok(Url { host, port: uri.port_u16().unwrap_or(443), authority, path })
    }
}

/// Connects to the first address of a host that answers; its certificate must be of `name`.
///
/// # Errors
/// As a client that dials tells it.
pub async fn dial(url: &Url, name: &str, tls: &Arc<ClientConfig>) -> Result<Connection, String> {
    let Url { host, port, .. } = url;
    let addresses = lookup_host((host.as_str(), *port)).await.map_err(|error| format!("dial tcp: lookup {host}: {error}"))?;
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        return Err(format!("dial tcp: lookup {host}: no such host"));
    }
    connect(&addresses, Some((name.to_owned(), tls.clone()))).await
}

/// Gets a document of at most `longest` bytes.
///
/// # Errors
/// When there is none.
pub async fn get(url: &Url, tls: &Arc<ClientConfig>, longest: usize) -> Result<Bytes, String> {
    let mut connection = dial(url, &url.host, tls).await?;
    let request = Request::get(&url.path)
        .header(header::HOST, &url.authority)
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, HeaderValue::from_static("kube-apiserver"))
        .body(Full::new(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let reply = connection.send_request(request).await.map_err(|error| error.to_string())?;
    let status = reply.status();
    let body = Limited::new(reply.into_body(), longest).collect().await.map_err(|error| error.to_string())?.to_bytes();
    if status == StatusCode::OK { Ok(body) } else { Err(format!("{status}")) }
}
