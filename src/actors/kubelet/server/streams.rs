//! exec, attach and port-forward: asks the runtime for a streaming URL and joins the client's connection to it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{HOST, HeaderMap},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use troupe_api_server::http::{
    connections::PeerSocket,
    streaming::{StreamOptions, client},
};
use troupe_cri::{
    CriError, Runtime,
    proto::{AttachRequest, ExecRequest, PortForwardRequest},
};

use super::directory::{LookupError, PodDirectory, PodRef};
use crate::serving::{Body, Client, text};

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Exec,
    Attach,
}

/// A failed lookup as the reply to a stream request.
pub fn failure(error: &LookupError) -> Response<Body> {
    match error {
        LookupError::NotFound(why) => text(404, why.as_str()),
        LookupError::NotReady(why) => text(500, why.as_str()),
        LookupError::Runtime(CriError::NotFound(why)) => text(404, why.as_str()),
        LookupError::Runtime(error) => text(500, error.to_string()),
    }
}

/// Serves exec and attach.
pub async fn remote_command(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    pods: Arc<dyn PodDirectory>,
    (pod, container): (PodRef, String),
    purpose: Purpose,
) -> Response<Body> {
    let options = match StreamOptions::of_kubelet(request.uri().query().unwrap_or_default()) {
        Ok(options) => options,
        Err(why) => return text(400, why.message),
    };
    let container_id = match pods.container(&pod, &container).await {
        Ok(id) => id,
        Err(error) => return failure(&error),
    };
    let StreamOptions { stdin, stdout, stderr, tty, command, .. } = options;
    let url = match purpose {
        Purpose::Exec => runtime.exec(ExecRequest { container_id, cmd: command, tty, stdin, stdout, stderr }).await,
        Purpose::Attach => runtime.attach(AttachRequest { container_id, tty, stdin, stdout, stderr }).await,
    };
    join(request, url).await
}

/// Serves port-forward.
pub async fn port_forward(request: Request<Incoming>, runtime: Arc<dyn Runtime>, pods: Arc<dyn PodDirectory>, pod: PodRef) -> Response<Body> {
    let pod_sandbox_id = match pods.sandbox(&pod).await {
        Ok(id) => id,
        Err(error) => return failure(&error),
    };
    let port = ports(request.uri().query().unwrap_or_default());
    let url = runtime.port_forward(PortForwardRequest { pod_sandbox_id, port }).await;
    join(request, url).await
}

/// The ports that WebSocket clients name in the query; SPDY clients name them per stream.
fn ports(query: &str) -> Vec<i32> {
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == "port" || *name == "ports");
    values.flat_map(|(_, list)| list.split([',']).flat_map(|part| part.split("%2C"))).filter_map(|port| port.parse().ok()).collect()
}

/// Joins the client to the runtime's streaming server.
async fn join(request: Request<Incoming>, url: Result<String, CriError>) -> Response<Body> {
    let url = match url {
        Ok(url) => url,
        Err(error) => return failure(&LookupError::Runtime(error)),
    };
    match upgrade(request, &url).await {
        Ok(response) => response,
        Err(why) => text(500, format!("error dialing backend: {why}")),
    }
}

async fn upgrade(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>, String> {
    let url: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
    let authority = url.authority().ok_or("the runtime's URL has no host")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let tcp =
        TcpStream::connect((authority.host().trim_matches(['[', ']']), port)).await.map_err(|error| format!("dial tcp {authority}: {error}"))?;
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let socket = PeerSocket::of(&tcp);
    let mut asked = Request::new(Empty::<Bytes>::new());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = url.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
    *asked.headers_mut() = forwarded(request.headers());
    asked.headers_mut().insert(HOST, authority.as_str().parse().map_err(|_| "the runtime's host is no header text")?);
    let mut reply = client::exchange(tcp, asked).await.map_err(|error| error.to_string())?;
    if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut reply));
        let client = request.extensions_mut().remove::<Client>();
        tokio::spawn(pump((near, client), (far, socket)));
    }
    let (head, body) = reply.into_parts();
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

/// The client's headers without what names this hop or the client's rights.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [hyper::header::AUTHORIZATION, hyper::header::CONTENT_LENGTH, hyper::header::TRANSFER_ENCODING, HOST] {
        headers.remove(name);
    }
    headers
}

/// Waits for both upgrades, then carries bytes both ways until either end is done or the client has left: what it sent last may wait for
/// a command that reads nothing. Then the runtime does not read either, and hears of it because its connection breaks.
async fn pump((near, client): (OnUpgrade, Option<Client>), (far, socket): (OnUpgrade, Option<PeerSocket>)) {
    let (near, far) = match tokio::try_join!(near, far) {
        Ok(ends) => ends,
        Err(error) => return tracing::debug!(%error, "a stream was not upgraded"),
    };
    let gone = async {
        match &client {
            Some(client) => client.gone().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = client::pump(TokioIo::new(near), TokioIo::new(far)) => {}
        () = gone => socket.into_iter().for_each(PeerSocket::break_on_close),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
        time::timeout,
    };
    use troupe_api::auth::{
        any_peer,
        pki::{LeafSpec, Pki},
        tls,
    };

    use super::*;
    use crate::serving::{Handler, serve};

    /// A runtime's streaming server that takes an upgrade and then reads nothing; gives its end of each connection.
    async fn unread() -> (String, mpsc::UnboundedReceiver<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/exec/1", listener.local_addr().expect("bound"));
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.expect("a head"));
                }
                tcp.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n").await.expect("answers");
                sender.send(tcp).expect("the test takes it");
            }
        });
        (url, receiver)
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_both_sides_although_its_input_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let ips = vec!["127.0.0.1".parse().expect("an address")];
        let spec = LeafSpec { file: "server".into(), common_name: "kubelet".into(), ips, server: true, ..LeafSpec::default() };
        let tls = tls::server_config(&pki.leaf(&spec).expect("a leaf"), pki.ca_pem()).expect("a TLS configuration");
        let (url, mut runtime) = unread().await;
        let handler: Handler = Arc::new(move |request, _| {
            let url = url.clone();
            Box::pin(async move { upgrade(request, &url).await.expect("the runtime answers") })
        });
        let server = serve(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"), &tls, handler).expect("serves");

        let tcp = TcpStream::connect(server.addr()).await.expect("connects");
        let own = PeerSocket::of(&tcp).expect("a descriptor");
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
        let mut client = tokio_rustls::TlsConnector::from(any_peer()).connect(name, tcp).await.expect("shakes hands");
        client.write_all(b"POST /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n").await.expect("asks");
        assert!(client.read(&mut [0; 1024]).await.expect("a reply") > 0);
        let far = runtime.recv().await.expect("the runtime is asked");
        let full = async { while client.write_all(&[7; 1 << 16]).await.is_ok() {} };
        assert!(timeout(Duration::from_secs(1), full).await.is_err(), "nobody reads it");
        let far = PeerSocket::of(&far).expect("a descriptor");
        assert!(!far.is_hung_up() && !own.is_hung_up());
        // As the API server closes it when its own client leaves.
        own.break_on_close();
        drop(client);
        let ended = async {
            while !far.is_hung_up() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(1), ended).await.expect("the runtime's side is closed within a second");
        server.stop();
    }

    #[test]
    fn ports_come_one_by_one_or_in_a_list() {
        assert_eq!(ports("port=80&port=81"), [80, 81]);
        assert_eq!(ports("port=80%2C81&x=1"), [80, 81]);
        assert!(ports("").is_empty());
    }
}
