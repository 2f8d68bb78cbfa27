//! Logs over WebSockets, as browsers read them.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use troupe_api::auth::{kubeconfig::Kubeconfig, tls};

use super::world::World;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// What a server answers to an upgrade: its head, and the frames that follow until it closes, by their opcodes.
async fn answered(world: &World, path: &str, protocols: &[&str]) -> (String, Vec<(u8, Vec<u8>)>) {
    let kubeconfig = Kubeconfig::read(&world.home.join("kubeconfig")).expect("a kubeconfig");
    let config = tls::client_config(&kubeconfig.ca_pem, Some(&kubeconfig.identity)).expect("a TLS configuration");
    let addr = world.door.addr();
    let tcp = tokio::net::TcpStream::connect(addr).await.expect("connects");
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ServerName::from(addr.ip()), tcp).await.expect("a TLS session");
    let offers: String = protocols.iter().map(|protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n")).collect();
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n";
    let head = format!("GET {path} HTTP/1.1\r\nHost: door\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}{offers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut read = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            read.extend_from_slice(&chunk[..length]);
            if frames(&read).1.iter().any(|(opcode, _)| *opcode == CLOSE) || read.starts_with(b"HTTP/1.1 4") {
                break;
            }
        }
    });
    ended.await.expect("the log ends");
    frames(&read)
}

/// The head of a reply and the whole frames behind it. Servers mask nothing.
fn frames(read: &[u8]) -> (String, Vec<(u8, Vec<u8>)>) {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n").map_or(read.len(), |at| at + 4);
    let (head, mut rest) = read.split_at(end);
    let mut frames = Vec::new();
    while let [first, second, after @ ..] = rest {
        let (length, body) = match (second & 0x7f, after) {
            (126, [high, low, body @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), body),
            (short @ ..=125, body) => (usize::from(short), body),
            _ => break,
        };
        let Some((payload, after)) = body.split_at_checked(length) else { break };
        frames.push((first & 0x0f, payload.to_vec()));
        rest = after;
    }
    (String::from_utf8_lossy(head).to_lowercase(), frames)
}

/// The messages of one kind, put together.
fn said(frames: &[(u8, Vec<u8>)], kind: u8) -> Vec<u8> {
    frames.iter().filter(|(opcode, _)| *opcode == kind).flat_map(|(_, payload)| payload.clone()).collect()
}

#[actix::test]
async fn logs_travel_over_websockets_in_the_protocol_that_is_asked_for() {
    let world = World::start().await;
    world.pod("talk", &[("a", "echo one; echo two; sleep 1000")]).await;
    let path = "/api/v1/namespaces/default/pods/talk/log?container=a";
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while world.says(&["logs", "talk", "-c", "a"]).await != "one\ntwo\n" {
        assert!(std::time::Instant::now() < deadline, "the container says nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for protocols in [&[][..], &["binary.k8s.io"], &["other", "binary.k8s.io"]] {
        let (head, frames) = answered(&world, path, protocols).await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert_eq!(head.contains("sec-websocket-protocol: binary.k8s.io"), !protocols.is_empty(), "{head}");
        assert_eq!(frames.first(), Some(&(BINARY, Vec::new())), "an empty message tells that the log is there");
        assert_eq!((said(&frames, BINARY), said(&frames, CLOSE)), (b"one\ntwo\n".to_vec(), 1000_u16.to_be_bytes().to_vec()));
    }
    let (head, frames) = answered(&world, path, &["base64.binary.k8s.io"]).await;
    assert!(head.contains("sec-websocket-protocol: base64.binary.k8s.io"), "{head}");
    assert_eq!(frames.first(), Some(&(TEXT, Vec::new())));
    let decoded: Vec<u8> =
        frames.iter().filter(|(opcode, _)| *opcode == TEXT).flat_map(|(_, text)| BASE64_STANDARD.decode(text).expect("base64")).collect();
    assert_eq!(decoded, b"one\ntwo\n");
    let (head, _) = answered(&world, path, &["v4.channel.k8s.io"]).await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    let (head, _) = answered(&world, "/api/v1/namespaces/default/pods/talk/log?container=x", &[]).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    world.stop().await;
}
