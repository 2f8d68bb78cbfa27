//! A GET as probes make it: a connection of its own, certificates not verified, of the body no more read than is shown. Redirects within
//! a host are followed (upstream's `RedirectChecker`). And one that is made for what it brings ([`fetch`]).

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
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

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    location: Option<String>,
    /// At most `SHOWN` bytes of it.
    pub body: String,
}

/// A reply with as much of its body as was wanted.
struct Raw {
    status: http::StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

/// As much of a body is read, in bytes.
const SHOWN: usize = 10 << 10;
/// Requests that one probe makes at most.
const HOPS: usize = 10;
/// What tells who asks: not for other hosts than the first, as upstream's client.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "cookie2", "www-authenticate"];

/// Makes the request and goes where it leads to within the same host. Gives the last reply; one that leads to another host is such.
///
/// # Errors
/// When a request fails, or no end is reached.
pub async fn follow(first: &Target) -> Result<Reply, String> {
    let mut target = first.clone();
    for _ in 0..HOPS {
        let reply = get(&target).await?;
        let next = reply.location.as_deref().filter(|_| leads(reply.status)).and_then(|location| target.leads_to(location));
        match next.filter(|next| next.host == first.host) {
            Some(next) => target = next,
            None => return Ok(reply),
        }
    }
    Err("stopped after 10 redirects".into())
}

/// Gets a document of at most `longest` bytes, wherever it is by now; whoever has it over TLS shows a certificate that `tls` trusts.
///
/// # Errors
/// When a request fails, the end of it is no document, or one that is too large.
pub async fn fetch(first: &Target, tls: &Arc<ClientConfig>, longest: usize) -> Result<Vec<u8>, String> {
    let mut target = first.clone();
    for _ in 0..HOPS {
        let reply = exchange(&target, tls, longest + 1).await?;
        let next = reply.location.as_deref().filter(|_| leads(reply.status.as_u16())).and_then(|location| target.leads_to(location));
        target = match next {
            Some(mut next) => {
                if next.host != first.host {
                    next.headers.retain(|name, _| !CREDENTIALS.contains(&name.as_str()));
                }
                next
            }
            None if reply.status != http::StatusCode::OK => return Err(format!("{target}: {}", reply.status)),
            None if reply.body.len() > longest => return Err(format!("{target}: more than {longest} bytes")),
            None => return Ok(reply.body),
        };
    }
    Err("stopped after 10 redirects".into())
}

/// Whether a reply says where to ask instead.
fn leads(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

impl Target {
    /// A URL of `http` or `https`, asked for with these headers; those of its user, if it names one, go along.
    pub fn parse(url: &str, headers: BTreeMap<String, String>) -> Option<Target> {
        let (_, rest) = url.split_once("://")?;
        let nowhere = Target { tls: false, host: String::new(), port: 0, path: "/".into(), headers: BTreeMap::new() };
        let found = nowhere.leads_to(url).filter(|found| !found.host.is_empty())?;
        let user = rest.split(['/', '?']).next()?.rsplit_once('@').map(|(user, _)| user);
        let mut headers: BTreeMap<_, _> = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        if let Some(user) = user {
            let with_password = if user.contains(':') { user.to_owned() } else { format!("{user}:") };
            let plain = percent_encoding::percent_decode_str(&with_password).collect::<Vec<u8>>();
            headers.entry("authorization".into()).or_insert_with(|| format!("Basic {}", BASE64_STANDARD.encode(plain)));
        }
        Some(Target { headers, ..found })
    }

    /// Where a `Location` leads from here; nowhere if it is none for HTTP.
    fn leads_to(&self, location: &str) -> Option<Target> {
        let (tls, rest) = match location.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, Some(rest)),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, Some(rest)),
            // A query may hold such a thing, too.
            Some((before, _)) if !before.contains(['/', '?']) => return None,
            _ => (self.tls, location.strip_prefix("//")),
        };
        let Some(rest) = rest else {
            let base = self.path.split('?').next().unwrap_or_default();
            let folder = &base[..=base.rfind('/').unwrap_or(0)];
            let path = match location {
                _ if location.starts_with('/') => location.to_owned(),
                _ if location.starts_with('?') => format!("{base}{location}"),
                _ => format!("{folder}{location}"),
            };
            return Some(Target { path, ..self.clone() });
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority: http::uri::Authority = authority.parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // The header is that of the first host.
        let headers = self.headers.iter().filter(|(name, _)| *name != "host").map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Target { tls, host, port, path, headers })
    }
}

/// Makes one request.
///
/// # Errors
/// When there is no connection, or no reply.
pub async fn get(target: &Target) -> Result<Reply, String> {
    let Raw { status, location, body } = exchange(target, &any_peer(), SHOWN).await?;
    Ok(Reply { status: status.as_u16(), location, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The same, of whose body at most `most` bytes are read.
async fn exchange(target: &Target, tls: &Arc<ClientConfig>, most: usize) -> Result<Raw, String> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {}: connect: connection refused", target.authority()),
        _ => format!("dial tcp {}: {error}", target.authority()),
    })?;
    if !target.tls {
        return send(stream, target, most).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(|error| handshake_error(&error))?;
    send(tls, target, most).await
}

/// A failed handshake, in the words that users know where a server speaks HTTP without TLS.
fn handshake_error(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => "http: server gave HTTP response to HTTPS client".into(),
        _ => error.to_string(),
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, target: &Target, most: usize) -> Result<Raw, String> {
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
    let reply = match reply {
        Ok(reply) => read(reply, most).await,
        Err(error) => Err(error),
    };
    driver.abort();
    reply
}

async fn read(reply: http::Response<hyper::body::Incoming>, most: usize) -> Result<Raw, String> {
    let location = reply.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, mut incoming, mut body) = (reply.status(), reply.into_body(), Vec::new());
    while body.len() < most
        && let Some(frame) = incoming.frame().await
    {
        let frame = frame.map_err(|error| error.to_string())?;
        let bytes = frame.data_ref().map(|bytes| &bytes[..bytes.len().min(most - body.len())]).unwrap_or_default();
        body.extend_from_slice(bytes);
    }
    Ok(Raw { status, location, body })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A server that says for each path what it replies, and where it listens.
    async fn serve(reply: fn(&str) -> String) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let said = reply(head.split(' ').nth(1).unwrap_or_default());
                drop(stream.write_all(said.as_bytes()).await);
            }
        });
        Target { tls: false, host: "127.0.0.1".into(), port, path: "/a/b?c".into(), headers: BTreeMap::new() }
    }

    fn to(location: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 5\r\n\r\nthere")
    }

    #[actix::test]
    async fn redirects_are_followed_within_the_host_and_told_beyond() {
        let target = serve(|path| match path {
            "/a/b?c" => to("next"),
            "/a/next" => to("/end"),
            "/end" => "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno".into(),
            "/out" => to("http://192.0.2.1/"),
            "/loop" => to("?"),
            _ => to("/loop"),
        })
        .await;
        assert_eq!(follow(&target).await.map(|reply| (reply.status, reply.body)), Ok((503, "no".into())));
        let out = follow(&Target { path: "/out".into(), ..target.clone() }).await.expect("a reply");
        assert_eq!((out.status, out.body.as_str()), (302, "there"));
        let lost = follow(&Target { path: "/loop".into(), ..target }).await;
        assert_eq!(lost, Err("stopped after 10 redirects".into()));
    }

    #[actix::test]
    async fn a_server_without_tls_is_told_as_one() {
        let plain = serve(|_| "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".into()).await;
        let refused = follow(&Target { tls: true, ..plain }).await;
        assert_eq!(refused, Err("http: server gave HTTP response to HTTPS client".into()));
    }

    #[actix::test]
    async fn of_a_body_without_end_as_much_is_read_as_is_shown() {
        let target = serve(|_| format!("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n{}", "x".repeat(1 << 20))).await;
        assert_eq!(follow(&target).await.map(|reply| reply.body.len()), Ok(SHOWN));
    }

    #[actix::test]
    async fn a_document_is_fetched_wherever_it_is_but_not_beyond_its_bounds() {
        let target = serve(|path| match path {
            "/a/b?c" => to("/here"),
            "/here" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfound".into(),
            "/gone" => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(),
            _ => to("/loop"),
        })
        .await;
        let fetched = |path: &str, longest| {
            let target = Target { path: path.into(), ..target.clone() };
            async move { fetch(&target, &any_peer(), longest).await }
        };
        assert_eq!(fetched("/a/b?c", 5).await.as_deref(), Ok("found".as_bytes()));
        let at = format!("http://127.0.0.1:{}", target.port);
        assert_eq!(fetched("/here", 4).await, Err(format!("{at}/here: more than 4 bytes")));
        assert_eq!(fetched("/gone", 5).await, Err(format!("{at}/gone: 404 Not Found")));
        assert_eq!(fetched("/loop", 5).await, Err("stopped after 10 redirects".into()));
    }

    #[test]
    fn urls_say_whom_to_ask_and_as_whom() {
        let parsed = |url: &str| Target::parse(url, [("X-A".to_owned(), "b".to_owned())].into());
        let found = parsed("https://us%65r:pw@example.org/pods?x").expect("a URL");
        assert_eq!((found.to_string().as_str(), found.headers["x-a"].as_str()), ("https://example.org:443/pods?x", "b"));
        assert_eq!(found.headers["authorization"], "Basic dXNlcjpwdw==");
        assert_eq!(parsed("http://[fd00::1]:81/").map(|target| target.to_string()).as_deref(), Some("http://[fd00::1]:81/"));
        assert!(["/x", "ftp://x/", "http://", "http:///x"].into_iter().all(|url| parsed(url).is_none()));
    }

    #[test]
    fn locations_are_read_as_browsers_do() {
        let from = Target { tls: false, host: "10.0.0.1".into(), port: 8080, path: "/a/b".into(), headers: BTreeMap::new() };
        for (location, to) in [
            ("https://10.0.0.1/x?y", "https://10.0.0.1:443/x?y"),
            ("http://[fd00::1]:81", "http://[fd00::1]:81/"),
            ("//10.0.0.1?q", "http://10.0.0.1:80/?q"),
            ("c?d=http://e", "http://10.0.0.1:8080/a/c?d=http://e"),
            ("/c", "http://10.0.0.1:8080/c"),
        ] {
            assert_eq!(from.leads_to(location).map(|target| target.to_string()).as_deref(), Some(to), "{location}");
        }
        assert_eq!((from.leads_to("ftp://x/"), from.leads_to("http://a b/")), (None, None));
    }
}
