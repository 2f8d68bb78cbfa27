//! A GET as probes make it: one connection, certificates not verified, the body not read to its end.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

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
    let tls = TlsConnector::from(unverified()).connect(name, stream).await.map_err(|error| error.to_string())?;
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

fn unverified() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("ring knows the default versions");
    Arc::new(builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth())
}

/// Takes any certificate: a probe asks whether somebody answers, not who.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
