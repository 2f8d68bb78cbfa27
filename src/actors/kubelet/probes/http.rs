//! A GET as probes make it: one connection, certificates not verified, the body not read to its end.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use troupe_api::auth::any_peer;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
}

impl Target {
    fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Makes the request; gives the status and where it redirects to. Redirects are not followed: they count as success.
pub async fn get(target: &Target) -> Result<(u16, Option<String>), String> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {}: connect: connection refused", target.authority()),
        _ => format!("dial tcp {}: {error}", target.authority()),
    })?;
    if !target.tls {
        return send(stream, target).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(any_peer()).connect(name, stream).await.map_err(|error| error.to_string())?;
    send(tls, target).await
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, target: &Target) -> Result<(u16, Option<String>), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // The connection ends with the sender; its error is the request's.
    let driver = tokio::spawn(async move { drop(connection.await) });
    let mut request = http::Request::builder().uri(&target.path).header("connection", "close");
    if !target.headers.contains_key("host") {
        request = request.header("host", target.authority());
    }
    if !target.headers.contains_key("user-agent") {
        request = request.header("user-agent", "kube-probe/1.36");
    }
    if !target.headers.contains_key("accept") {
        request = request.header("accept", "*/*");
    }
    for (name, value) in target.headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(name.as_str(), value.as_str());
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let reply = sender.send_request(request).await.map_err(|error| error.to_string());
    driver.abort();
    let reply = reply?;
    let location = reply.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((reply.status().as_u16(), location))
}
