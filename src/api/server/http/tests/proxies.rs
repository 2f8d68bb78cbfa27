//! `pods/proxy` towards a server on this machine: requests, redirects, pages, upgrades.

use std::sync::Arc;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use troupe_api::{
    auth::tls,
    meta::{GroupResource, Object, ObjectKey},
    service::Listers,
    stored::StoredObject,
};

use super::{client::Door, fake::FakeService};
use crate::http::streaming::{KubeletConnect, KubeletDialer};

/// One pod, whose address is this machine's.
struct OnePod(Arc<StoredObject>);

impl Listers for OnePod {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        (&*resource.resource == "pods" && *key == self.0.key).then(|| self.0.clone())
    }

    fn list(&self, _: &GroupResource, _: &str) -> Vec<Arc<StoredObject>> {
        vec![self.0.clone()]
    }
}

/// A door to a pod that listens at `port`.
fn door(port: u16) -> Door {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": port}]}]}, "status": {"podIP": "127.0.0.1"},
    });
    let pod = StoredObject::from_object(&Object::from_value(pod).expect("an object")).expect("the store's form");
    Door::open(FakeService::new(), |options| {
        let pki = troupe_api::auth::pki::Pki::open(tempfile::tempdir().expect("a directory").path()).expect("a CA");
        let kubelets = tls::client_config(pki.ca_pem(), None).expect("a TLS configuration");
        let connect = KubeletConnect::new(Arc::new(OnePod(Arc::new(pod))), KubeletDialer::new(Arc::new(kubelets)));
        options.connect = Some(Arc::new(connect.reaching_loopback()));
    })
}

/// Takes one connection, reads a request's head, and answers.
async fn serve_once(listener: TcpListener, answer: &str) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.expect("a request");
        head.push(byte[0]);
    }
    stream.write_all(answer.as_bytes()).await.expect("a client");
    (String::from_utf8(head).expect("text"), stream)
}

const PROXY: &str = "/api/v1/namespaces/default/pods/p/proxy";

async fn backend() -> (TcpListener, Door) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, door(port))
}

#[actix_web::test]
async fn a_request_goes_to_the_pod_without_the_callers_credentials() {
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let answer = "HTTP/1.1 418 I'm a teapot\r\nx-of: pod\r\naccess-control-allow-origin: *\r\ncontent-length: 5\r\n\r\nhello";
    let headers = [("authorization", "Bearer admin"), ("x-mine", "1"), ("keep-alive", "5")];
    let path = format!("{PROXY}/a%20b//c/?q=1&r=%2F");
    let (asked, reply) = tokio::join!(serve_once(listener, answer), admin.send("POST", &path, &headers, "body"));
    assert_eq!((reply.status.as_u16(), reply.header("x-of"), &reply.body[..]), (418, "pod", &b"hello"[..]));
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("content-length")), ("", "5"));
    let head = asked.0.to_lowercase();
    assert!(head.starts_with("post /a%20b//c/?q=1&r=%2f http/1.1\r\n"), "{head}");
    for sent in ["x-mine: 1", "host: door", "content-length: 4", "x-forwarded-for: 127.0.0.1", &format!("x-forwarded-uri: {PROXY}/a%20b//c/")] {
        assert!(head.contains(sent), "{sent}: {head}");
    }
    for kept in ["authorization", "keep-alive"] {
        assert!(!head.contains(kept), "{kept}: {head}");
    }
}

#[actix_web::test]
async fn redirects_and_pages_lead_back_through_the_proxy() {
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let (page, root) = (format!("{PROXY}/x"), format!("{PROXY}/"));
    let answer = "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
    let (_, reply) = tokio::join!(serve_once(listener, answer), admin.get(&page));
    assert_eq!(reply.header("location"), format!("{PROXY}/login"));
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 18\r\n\r\n<a href=\"/x\">x</a>";
    let (_, reply) = tokio::join!(serve_once(listener, answer), admin.get(&root));
    assert_eq!(reply.body, format!("<a href=\"{PROXY}/x\">x</a>"));
    let bare = admin.get(&format!("{PROXY}?q=1")).await;
    assert_eq!((bare.status.as_u16(), bare.header("location")), (301, format!("{PROXY}/?q=1").as_str()));
}

#[actix_web::test]
async fn a_reply_that_contradicts_itself_or_the_request_is_passed_on_well_formed() {
    let refused = "the backend switched protocols, which this request did not ask for";
    let cases = [
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n", 502, refused),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", 304, ""),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, "hello"),
    ];
    let page = format!("{PROXY}/x");
    for (answer, code, body) in cases {
        let (listener, door) = backend().await;
        let mut admin = door.connect(true).await;
        let (_, reply) = tokio::join!(serve_once(listener, answer), admin.get(&page));
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (code, body.as_bytes()), "{answer}");
        assert_ne!(reply.header("content-length"), "2", "{answer}");
        assert_eq!(admin.get(PROXY).await.status, 301, "the connection is of use as before");
    }
}

#[actix_web::test]
async fn a_pod_that_does_not_answer_is_unavailable() {
    let (listener, door) = backend().await;
    drop(listener);
    let mut admin = door.connect(true).await;
    let reply = admin.get(&format!("{PROXY}/")).await;
    assert_eq!(reply.status, 503);
    let message = reply.json()["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with("error trying to reach service: dial tcp 127.0.0.1:"), "{message}");
    let missing = admin.get("/api/v1/namespaces/default/pods/q/proxy/").await;
    assert_eq!(missing.json()["message"], "pods \"q\" not found");
    let wrong = admin.get("/api/v1/namespaces/default/pods/ftp:p:1/proxy/").await;
    assert_eq!(wrong.json()["message"], "invalid pod request \"ftp:p:1\"");
}

#[actix_web::test]
async fn an_upgrade_carries_bytes_both_ways() {
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: yes\r\n\r\n";
    let headers =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13")];
    let path = format!("{PROXY}/ws");
    let ((head, mut pod), mut reply) = tokio::join!(serve_once(listener, answer), admin.start("GET", &path, &headers, ""));
    assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
    assert_eq!((reply.status().as_u16(), reply.headers()["sec-websocket-accept"].as_bytes()), (101, &b"yes"[..]));
    let mut client = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut reply).await.expect("upgraded"));
    client.write_all(b"ping").await.expect("open");
    client.flush().await.expect("open");
    let mut four = [0; 4];
    pod.read_exact(&mut four).await.expect("open");
    assert_eq!(&four, b"ping");
    pod.write_all(b"pong").await.expect("open");
    client.read_exact(&mut four).await.expect("open");
    assert_eq!(&four, b"pong");
    drop(pod);
    assert_eq!(client.read(&mut four).await.unwrap_or(0), 0, "the end of the pod's side ends the client's");
}

#[actix_web::test]
async fn a_pod_that_never_comes_to_the_point_is_given_up() {
    let (hint, reply) = ("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let page = format!("{PROXY}/x");
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let few = format!("{}{reply}", hint.repeat(5));
    let (_, reply) = tokio::join!(serve_once(listener, &few), admin.get(&page));
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let many = hint.repeat(6);
    let (_, reply) = tokio::join!(serve_once(listener, &many), admin.get(&page));
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["message"], "error trying to reach service: too many 1xx informational responses");
}

#[actix_web::test]
async fn an_upgrade_to_what_was_not_asked_for_is_refused() {
    let (listener, door) = backend().await;
    let mut admin = door.connect(true).await;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n";
    let headers =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13")];
    let path = format!("{PROXY}/ws");
    let (_, reply) = tokio::join!(serve_once(listener, answer), admin.send("GET", &path, &headers, ""));
    assert_eq!(reply.status, 500);
    let why = "backend tried to switch protocol \"h2c\" when \"websocket\" was requested";
    let message = reply.json()["message"].as_str().expect("a message").to_owned();
    assert!(message.ends_with(&format!("error dialing backend: {why}")), "{message}");
}
