//! A small HTTP server: short answers to whoever asks, few at a time.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::{
    Request, Response,
    body::Incoming,
    header::{HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::document::Document;
use crate::{
    serving::{Body, document, text},
    zpages::Asked,
};

/// Connections at once; one more ends the oldest of the address that has most: whoever reaches a node must not keep load balancers from asking.
const CONNECTIONS: usize = 64;
/// A client has this long for each request head, and a connection that asks no more ends.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection ends after so long: load balancers come again.
const LONGEST: Duration = Duration::from_secs(120);
/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a request is answered with; `None` where nothing is.
pub type Answer = Arc<dyn Fn(&Asked<'_>) -> Option<Document> + Send + Sync>;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    #[cfg(test)]
    address: SocketAddr,
    _serving: DropGuard,
}

impl Server {
    /// Serves at an address. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(address: SocketAddr, answer: Answer) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        #[cfg(test)]
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let stopping = CancellationToken::new();
        tokio::spawn(stopping.clone().run_until_cancelled_owned(accept(listener, answer, stopping.clone())));
        Ok(Server {
            #[cfg(test)]
            address,
            _serving: stopping.drop_guard(),
        })
    }
}

async fn accept(listener: TcpListener, answer: Answer, stopping: CancellationToken) {
    let mut held: Vec<(IpAddr, AbortHandle)> = Vec::new();
    loop {
        match listener.accept().await {
            Ok((tcp, client)) => {
                held.retain(|(_, serving)| !serving.is_finished());
                if held.len() >= CONNECTIONS {
                    held.remove(oldest_of_most(&held)).1.abort();
                }
                let serving = tokio::time::timeout(LONGEST, connection(tcp, answer.clone()));
                let until = stopping.clone();
                let serving = tokio::spawn(async move {
                    // A client that stays too long is cut off.
                    let _ = until.run_until_cancelled(serving).await;
                });
                held.push((client.ip().to_canonical(), serving.abort_handle()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The oldest connection of the address that has most. Pure.
fn oldest_of_most<T>(held: &[(IpAddr, T)]) -> usize {
    let count = |ip: IpAddr| held.iter().filter(|(other, _)| *other == ip).count();
    let most = held.iter().map(|(ip, _)| count(*ip)).max().unwrap_or(0);
    held.iter().position(|(ip, _)| count(*ip) == most).unwrap_or(0)
}

async fn connection(tcp: TcpStream, answer: Answer) {
    let service = service_fn(move |request: Request<Incoming>| {
        let found = answer(&Asked::of(&request));
        async move { Ok::<_, Infallible>(response(found)) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = http.serve_connection(TokioIo::new(tcp), service).await {
        tracing::debug!(%error, "a connection broke");
    }
}

fn response(found: Option<Document>) -> Response<Body> {
    let Some(found) = found else { return text(404, "404 page not found\n") };
    let mut response = document(found.code, found.content_type, found.body);
    let mut header = |name: &'static str, value: HeaderValue| response.headers_mut().insert(HeaderName::from_static(name), value);
    header("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(weight) = found.weight {
        header("x-load-balancing-endpoint-weight", HeaderValue::from(weight));
    }
    if let Some(value) = found.warning.and_then(|warning| HeaderValue::try_from(format!("299 - \"{warning}\"")).ok()) {
        header("warning", value);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        tcp.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[test]
    fn who_has_most_makes_room() {
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        assert_eq!(oldest_of_most(&[(one, ()), (other, ()), (one, ()), (other, ()), (other, ())]), 1);
        assert_eq!(oldest_of_most(&[(one, ()), (other, ())]), 0);
    }

    #[tokio::test]
    async fn whoever_holds_connections_keeps_nobody_else_from_an_answer() {
        let answer: Answer =
            Arc::new(|_: &Asked<'_>| Some(Document { code: 200, body: "{}".into(), content_type: "application/json", ..Document::default() }));
        let server = Server::start(([127, 0, 0, 1], 0).into(), answer).expect("a port");
        let mut held = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("binds");
            held.push(socket.connect(server.address).await.expect("connects"));
        }
        let said = tokio::time::timeout(Duration::from_secs(5), ask(server.address, "/")).await.expect("is answered at once");
        assert!(said.expect("answers").starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn it_answers_with_its_headers_until_it_is_dropped() {
        let answer: Answer = Arc::new(|asked: &Asked<'_>| {
            let unwell = || Document { code: 503, body: "{}".into(), content_type: "application/json", weight: Some(3), warning: Some("old") };
            (asked.path == "/healthz").then(unwell)
        });
        let server = Server::start(([127, 0, 0, 1], 0).into(), answer.clone()).expect("a port");
        let address = server.address;
        let said = ask(address, "/healthz").await.expect("answers").to_lowercase();
        assert!(said.starts_with("http/1.1 503") && said.ends_with("{}"), "{said}");
        assert!(said.contains("x-load-balancing-endpoint-weight: 3") && said.contains("x-content-type-options: nosniff"), "{said}");
        assert!(said.contains("warning: 299 - \"old\""), "{said}");
        assert!(ask(address, "/").await.expect("answers").starts_with("HTTP/1.1 404"));
        assert!(Server::start(address, answer.clone()).is_err(), "the port is taken");
        drop(server);
        let freed = async {
            while Server::start(address, answer.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the port is free again");
    }
}
