//! What nobody, and somebody who means no good, can make the front door do.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{dev::Payload, test::TestRequest};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use troupe_api::{
    auth::{pki::LeafSpec, tls},
    service::UserInfo,
};

use super::{client::Door, fake::FakeService};
use crate::http::{
    AllowedOrigins, body,
    documents::{OPENAPI_AT_ONCE, OPENAPI_READERS},
    limits::Bodies,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A TLS session without anything said yet.
async fn raw(door: &Door, with_certificate: bool, protocol: &str) -> TlsStream<TcpStream> {
    let mut config = tls::client_config(door.pki.ca_pem(), with_certificate.then_some(&door.admin)).expect("a TLS configuration");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let tcp = TcpStream::connect(door.handle.addr()).await.expect("connects");
    let name = ServerName::from(door.handle.addr().ip());
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a TLS session")
}

/// What comes until the server ends the connection.
async fn rest(io: &mut TlsStream<TcpStream>) -> String {
    let mut text = Vec::new();
    // A server that has enough may leave without a goodbye.
    let _ = io.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends the head of a request with a body that never comes.
async fn announce(io: &mut TlsStream<TcpStream>, method: &str, path: &str, length: usize) {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: door\r\nContent-Type: application/yaml\r\nContent-Length: {length}\r\n\r\n");
    io.write_all(head.as_bytes()).await.expect("is sent");
}

#[actix_web::test]
async fn who_may_not_is_told_so_before_the_body_is_read() {
    let door = Door::open(FakeService::new(), |_| {});
    let requests = [
        ("DELETE", format!("{MAPS}/a")),
        ("DELETE", MAPS.to_owned()),
        ("POST", MAPS.to_owned()),
        ("PUT", format!("{MAPS}/a")),
        ("PATCH", format!("{MAPS}/a")),
        ("POST", "/api/v1/namespaces/default/pods/p/eviction".to_owned()),
        ("POST", "/api/v1/namespaces/default/pods/p/proxy/x".to_owned()),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/a/token".to_owned()),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned()),
        ("POST", "/apis/nonsense/v1/things".to_owned()),
        ("POST", "/debug/do".to_owned()),
    ];
    for (method, path) in &requests {
        let mut io = raw(&door, false, "http/1.1").await;
        let began = Instant::now();
        announce(&mut io, method, path, 1 << 20).await;
        let reply = rest(&mut io).await;
        assert!(reply.starts_with("HTTP/1.1 403 "), "{method} {path}: {reply}");
        assert!(reply.contains("connection: close"), "{method} {path}: {reply}");
        // Bodies have ten seconds.
        assert!(began.elapsed() < Duration::from_secs(8), "{method} {path} took {:?}", began.elapsed());
    }
    assert!(door.service.calls.lock().expect("no panic holds it").is_empty());
}

#[actix_web::test]
async fn a_small_body_of_a_refused_request_leaves_the_connection_open() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut plain = door.connect(false).await;
    for _ in 0..3 {
        assert_eq!(plain.send("POST", MAPS, &[], "x".repeat(10_000)).await.status, 403);
    }
}

#[actix_web::test]
async fn bodies_that_do_not_come_take_nobodys_place() {
    let door = Door::open(FakeService::new(), |options| options.max_in_flight = 2);
    let mut slow = Vec::new();
    for at in 0..20 {
        let mut io = raw(&door, at % 2 == 0, "http/1.1").await;
        announce(&mut io, "POST", MAPS, 1000).await;
        slow.push(io);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut admin = door.connect(true).await;
    for _ in 0..10 {
        assert_eq!(admin.get(MAPS).await.status, 200);
    }
}

fn request() -> actix_web::HttpRequest {
    TestRequest::post().to_http_request()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up() {
    let ann = Arc::new(UserInfo { name: "ann".into(), ..UserInfo::default() });
    let drips = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok(Bytes::from_static(b"x")), ()))
    });
    let began = tokio::time::Instant::now();
    let mut payload = Payload::Stream { payload: drips.boxed_local() };
    let refused = body::read(&request(), &mut payload, &mut Bodies::default().hold(&ann, false)).await.expect_err("too slow");
    assert_eq!((refused.code, began.elapsed()), (408, Duration::from_secs(10)));
    // A slow line is none that drips: this one takes 30 seconds for 3 MB.
    let steady = stream::unfold(30, |left| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (left > 0).then(|| (Ok(Bytes::from(vec![b' '; 100 << 10])), left - 1))
    });
    let mut payload = Payload::Stream { payload: steady.boxed_local() };
    let whole = body::read(&request(), &mut payload, &mut Bodies::default().hold(&ann, false)).await.expect("it comes");
    assert_eq!(whole.len(), 3000 << 10);
}

#[actix_web::test]
async fn http2_serves_as_http1_does_and_lets_nobody_go() {
    let door = Door::open(FakeService::new(), |_| {});
    let speak = async |with_certificate| {
        let io = raw(&door, with_certificate, "h2").await;
        let (sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
        (sender, tokio::spawn(connection))
    };
    let request = |method: &str, path: &str, body: Bytes| {
        Request::builder().method(method).uri(format!("https://door{path}")).body(Full::new(body)).expect("well formed")
    };
    let (mut admin, open) = speak(true).await;
    let big = serde_json::json!({"metadata": {"name": "big"}, "data": {"text": "x".repeat(900 << 10)}}).to_string();
    let made = admin.send_request(request("POST", MAPS, big.into())).await.expect("a reply");
    assert_eq!(made.status(), 201);
    let read = admin.send_request(request("GET", &format!("{MAPS}/big"), Bytes::new())).await.expect("a reply");
    assert!(read.headers().contains_key("audit-id") && read.headers().contains_key("date"));
    assert!(read.into_body().collect().await.expect("a whole body").to_bytes().len() > 900 << 10);
    let mut watch = admin.send_request(request("GET", &format!("{MAPS}?watch=1"), Bytes::new())).await.expect("a reply").into_body();
    let frame = watch.frame().await.expect("an event").expect("the stream goes on");
    assert!(frame.data_ref().is_some_and(|data| data.starts_with(b"{\"type\":\"ADDED\"")));
    assert!(!open.is_finished());

    let (mut nobody, open) = speak(false).await;
    let refused = nobody.send_request(request("POST", MAPS, Bytes::from(vec![b'x'; 1 << 20]))).await.expect("a reply");
    assert_eq!(refused.status(), 403);
    drop(refused);
    drop(nobody);
    let ended = tokio::time::timeout(Duration::from_secs(30), open).await;
    assert!(ended.is_ok(), "the server lets go of who is nobody");
}

#[actix_web::test]
async fn a_connection_of_http2_is_sent_away_by_chance() {
    for (chance, goes) in [(0.0, false), (1.0, true)] {
        let door = Door::open(FakeService::new(), |options| options.goaway_chance = chance);
        let io = raw(&door, true, "h2").await;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
        let open = tokio::spawn(connection);
        let request = Request::builder().uri(format!("https://door{MAPS}")).body(Full::default()).expect("well formed");
        let reply = sender.send_request(request).await.expect("a reply");
        assert_eq!(reply.status(), 200);
        let _body = reply.into_body().collect().await.expect("a whole body");
        let ended = tokio::time::timeout(if goes { Duration::from_secs(30) } else { Duration::from_millis(300) }, open).await;
        assert_eq!(ended.is_ok(), goes);
    }
}

#[actix_web::test]
async fn answers_say_that_only_https_is_spoken_where_that_is_wanted() {
    let directives = "max-age=31536000; includeSubDomains";
    let door = Door::open(FakeService::new(), |options| options.strict_transport_security = Some(directives.into()));
    let mut admin = door.connect(true).await;
    for path in [MAPS, "/readyz", "/no/such/path"] {
        assert_eq!(admin.get(path).await.header("strict-transport-security"), directives, "{path}");
    }
    let silent = Door::open(FakeService::new(), |_| {});
    let mut other = silent.connect(true).await;
    assert_eq!(other.get(MAPS).await.header("strict-transport-security"), "");
}

#[actix_web::test]
async fn pages_of_allowed_origins_may_use_the_server() {
    let allowed = AllowedOrigins::new(&[r"//example\.com(:|$)".to_owned()]).expect("reads");
    let door = Door::open(FakeService::new(), |options| options.cors = Some(Arc::new(allowed)));
    let (mut admin, mut nobody) = (door.connect(true).await, door.connect(false).await);
    let origin = [("origin", "https://example.com")];
    let asked = nobody.send("OPTIONS", MAPS, &origin, "").await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (204, "https://example.com"));
    assert!(asked.header("access-control-allow-methods").contains("PATCH"));
    let shown = admin.send("GET", MAPS, &origin, "").await;
    assert_eq!((shown.status.as_u16(), shown.header("access-control-allow-origin")), (200, "https://example.com"));
    assert_eq!(shown.header("access-control-allow-credentials"), "true");
    for others in [&[("origin", "https://example.com.evil.test")][..], &[]] {
        let shown = admin.send("GET", MAPS, others, "").await;
        assert_eq!((shown.status.as_u16(), shown.header("access-control-allow-origin")), (200, ""));
    }
    assert_ne!(nobody.send("OPTIONS", MAPS, &[("origin", "https://other.test")], "").await.status, 204);
}

#[actix_web::test]
async fn an_address_may_have_a_certificate_of_its_own() {
    let address = IpAddr::from([127, 0, 0, 1]);
    let other = LeafSpec { file: "other".into(), common_name: "other".into(), ips: vec![address], server: true, ..LeafSpec::default() };
    for has_one in [false, true] {
        let mut expected = String::new();
        let door = Door::open_with(FakeService::new(), |options, pki, usual| {
            let other = pki.leaf(&other).expect("a leaf");
            expected.clone_from(if has_one { &other.certificate_pem } else { &usual.certificate_pem });
            if has_one {
                let config = tls::server_config(&other, pki.ca_pem()).expect("a TLS configuration");
                options.tls_by_address.insert(address, Arc::new(config));
            }
        });
        let io = raw(&door, true, "http/1.1").await;
        let shown = io.get_ref().1.peer_certificates().and_then(|chain| chain.first()).expect("a certificate");
        let body: String = expected.lines().filter(|line| !line.starts_with("---")).collect();
        assert!(body.starts_with(&BASE64_STANDARD.encode(shown)), "{has_one}");
    }
}

#[actix_web::test]
async fn http2_takes_only_so_many_headers() {
    let door = Door::open(FakeService::new(), |_| {});
    let io = raw(&door, true, "h2").await;
    let mut settings = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    settings.max_header_list_size(16 << 20);
    let (mut sender, connection) = settings.handshake::<_, Full<Bytes>>(TokioIo::new(io)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut request = Request::builder().uri(format!("https://door{MAPS}"));
    for at in 0..60 {
        request = request.header(format!("x-{at}"), "x".repeat(4000));
    }
    let reply = sender.send_request(request.body(Full::default()).expect("well formed")).await;
    assert!(reply.as_ref().map_or(true, |reply| reply.status() == 431), "{reply:?}");

    // Short ones cost next to nothing to send, and more to hold.
    for (count, expected) in [(60, 200), (200, 431)] {
        let io = raw(&door, true, "h2").await;
        let (mut sender, connection) = settings.handshake::<_, Full<Bytes>>(TokioIo::new(io)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut request = Request::builder().uri(format!("https://door{MAPS}"));
        for _ in 0..count {
            request = request.header("x", "");
        }
        let reply = sender.send_request(request.body(Full::default()).expect("well formed")).await.expect("a reply");
        assert_eq!(reply.status(), expected, "{count} fields");
    }
}

#[actix_web::test]
async fn parameters_and_clauses_without_end_are_not_read() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut plain = door.connect(false).await;
    let query = "a&".repeat(20_000);
    assert_eq!(plain.get(&format!("/version?{query}")).await.status, 400);
    let accept = "a/b,".repeat(20_000);
    assert_eq!(plain.send("GET", "/metrics", &[("accept", &accept)], "").await.status, 403);
    assert_eq!(plain.get(&format!("/api/v1{}", "/a".repeat(30_000))).await.status, 403);
}

#[actix_web::test]
async fn few_readers_at_a_time_wait_for_openapi_documents_and_others_wait_for_none_of_them() {
    let door = Door::open(FakeService::new(), |_| {});
    let held = OPENAPI_READERS.acquire_many(OPENAPI_AT_ONCE).await.expect("nobody closes it");
    let (mut reader, mut other) = (door.connect(true).await, door.connect(true).await);
    let mut reading = Box::pin(reader.get("/openapi/v2"));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut reading).await.is_err(), "the places are taken");
    assert_eq!(other.get("/version").await.status, 200);
    drop(held);
    assert_eq!(reading.await.status, 200);
}
