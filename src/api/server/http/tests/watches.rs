//! Watch streams.

use std::time::Duration;

use http::HeaderMap;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use troupe_api::service::EventType;

use super::{
    client::{Connection, Door},
    fake::{FakeService, config_map},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn put(door: &Door, name: &str, event: EventType) {
    door.service.put(&door.service.target("configmaps", "default", ""), &config_map(name, 10), event);
}

#[actix_web::test]
async fn a_watch_tells_what_is_there_and_what_changes() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    let mut admin = door.connect(true).await;
    let mut frames =
        admin.watch(&format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"), &[]).await;
    let first = frames.next().await.expect("an event");
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    let bookmark = frames.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], "2");
    put(&door, "a", EventType::Modified);
    put(&door, "a", EventType::Deleted);
    let modified = frames.next().await.expect("an event");
    assert_eq!((&modified["type"], modified.get("cause")), (&json!("MODIFIED"), None), "who does not ask hears of no causes");
    let deleted = frames.next().await.expect("an event");
    assert_eq!((&deleted["type"], &deleted["object"]["metadata"]["resourceVersion"]), (&json!("DELETED"), &json!("4")));
}

#[actix_web::test]
async fn the_first_table_of_a_watch_describes_its_columns() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    put(&door, "b", EventType::Added);
    let mut admin = door.connect(true).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut frames = admin.watch("/api/v1/watch/namespaces/default/configmaps", &accept).await;
    let first = frames.next().await.expect("an event");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    let second = frames.next().await.expect("an event");
    assert_eq!(second["object"]["columnDefinitions"], json!(null));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[actix_web::test]
async fn a_watch_from_a_lost_revision_is_one_error() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let mut frames = admin.watch(&format!("{MAPS}?watch=1&resourceVersion=1"), &[]).await;
    let error = frames.next().await.expect("an event");
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(frames.next().await, None);
}

#[actix_web::test]
async fn a_watch_ends_when_its_time_is_over_or_the_server_stops() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut timed = door.connect(true).await;
    let mut frames = timed.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1"), &[]).await;
    let end = tokio::time::timeout(Duration::from_secs(30), frames.next()).await;
    assert_eq!(end.expect("ends in time"), None);
    let mut other = door.connect(true).await;
    let mut frames = other.watch(&format!("{MAPS}?watch=1"), &[]).await;
    let handle = door.handle.clone();
    let stopped = actix_web::rt::spawn(async move { handle.stop().await });
    let end = tokio::time::timeout(Duration::from_secs(30), frames.next()).await;
    assert_eq!(end.expect("ends with the server"), None);
    drop((timed, other));
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("stops in time").expect("stops");
}

#[actix_web::test]
async fn a_server_that_stops_tells_new_requests_to_come_again_where_that_is_wanted() {
    let door = Door::open(FakeService::new(), |options| options.retry_after_while_stopping = true);
    let mut slow = door.connect(true).await;
    let work = actix_web::rt::spawn(async move { slow.get(&format!("{MAPS}/slow?timeout=2s")).await.status });
    while door.service.calls.lock().expect("no panic holds it").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let handle = door.handle.clone();
    let stopped = actix_web::rt::spawn(async move { handle.stop().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = door.connect(true).await.get(MAPS).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after"), refused.header("connection")), (429, "5", "close"));
    assert_eq!(work.await.expect("ends").as_u16(), 504, "what was in work had its time");
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("stops in time").expect("stops");
}

#[actix_web::test]
async fn the_end_of_initial_events_is_told_in_tables_without_objects_too() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&includeObject=None");
    let mut frames = admin.watch(&path, &accept).await;
    let bookmark = frames.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["rows"][0]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    put(&door, "a", EventType::Added);
    assert_eq!(frames.next().await.expect("an event")["object"]["rows"][0]["object"], json!(null));
}

#[actix_web::test]
async fn a_watch_of_any_state_begins_with_it_and_its_end() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    let mut admin = door.connect(true).await;
    for version in ["", "&resourceVersion=0"] {
        let mut frames = admin.watch(&format!("{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1{version}"), &[]).await;
        assert_eq!(frames.next().await.expect("an event")["type"], "ADDED", "{version}");
        assert_eq!(frames.next().await.expect("a bookmark")["type"], "BOOKMARK", "as upstream defaults it");
        assert_eq!(frames.next().await, None);
    }
    let cases = [
        ("sendInitialEvents=true", "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        (
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
    ];
    for (query, why) in cases {
        let refused = admin.get(&format!("{MAPS}?watch=true&{query}")).await;
        assert_eq!(
            (refused.status.as_u16(), refused.json()["message"].as_str()),
            (422, Some(&*format!("ListOptions.meta.k8s.io \"\" is invalid: {why}")))
        );
    }
}

/// The headers of a browser's WebSocket.
const SOCKET: [(&str, &str); 5] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("origin", "https://dashboard.example.com"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

/// A watch over a WebSocket.
struct Socket(TokioIo<Upgraded>);

impl Socket {
    async fn open(connection: &mut Connection, path: &str, more: &[(&str, &str)]) -> (Self, HeaderMap) {
        let mut reply = connection.start("GET", path, &[&SOCKET[..], more].concat(), "").await;
        assert_eq!(reply.status(), 101);
        let upgraded = hyper::upgrade::on(&mut reply).await.expect("upgraded");
        (Socket(TokioIo::new(upgraded)), reply.headers().clone())
    }

    /// The next message: its first byte, and what it says.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let reading = async {
            let (first, short) = (self.0.read_u8().await.expect("a frame"), self.0.read_u8().await.expect("its length"));
            let length = match short {
                126 => usize::from(self.0.read_u16().await.expect("its length")),
                short => usize::from(short),
            };
            let mut data = vec![0; length];
            self.0.read_exact(&mut data).await.expect("all of it");
            (first, data)
        };
        tokio::time::timeout(Duration::from_secs(30), reading).await.expect("comes in time")
    }

    async fn event(&mut self) -> Value {
        let (first, data) = self.next().await;
        assert_eq!(first, TEXT, "{data:?}");
        serde_json::from_slice(&data).expect("JSON")
    }

    /// Sends a frame whose mask changes nothing.
    async fn send(&mut self, first: u8, data: &[u8]) {
        let length = u8::try_from(data.len()).expect("short");
        self.0.write_all(&[&[first, 0x80 | length, 0, 0, 0, 0][..], data].concat()).await.expect("is sent");
        self.0.flush().await.expect("is sent");
    }

    async fn is_over(&mut self) -> bool {
        let mut one = [0];
        let end = tokio::time::timeout(Duration::from_secs(10), self.0.read(&mut one)).await.expect("in time");
        // The server need not take its leave of TLS.
        end.unwrap_or(0) == 0
    }
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

#[actix_web::test]
async fn a_watch_over_a_websocket_is_a_text_for_each_event() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    put(&door, "b", EventType::Added);
    let mut admin = door.connect(true).await;
    let path = format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let (mut socket, headers) = Socket::open(&mut admin, &path, &[("sec-websocket-protocol", "base64.binary.k8s.io")]).await;
    assert_eq!(headers["sec-websocket-protocol"], "base64.binary.k8s.io");
    assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for name in ["a", "b"] {
        let event = socket.event().await;
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
    }
    assert_eq!(socket.event().await["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    socket.send(TEXT, b"is not listened to").await;
    socket.send(PING, b"still there?").await;
    assert_eq!(socket.next().await, (PONG, b"still there?".to_vec()));
    put(&door, "a", EventType::Deleted);
    assert_eq!(socket.event().await["type"], "DELETED");
    socket.send(CLOSE, &NORMAL).await;
    assert_eq!(socket.next().await, (CLOSE, NORMAL.to_vec()));
    assert!(socket.is_over().await);
}

#[actix_web::test]
async fn protobuf_comes_in_binary_messages_without_lengths() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    let accept = ("accept", "application/vnd.kubernetes.protobuf");
    let mut admin = door.connect(true).await;
    let (mut socket, _) = Socket::open(&mut admin, &format!("{MAPS}?watch=1"), &[accept]).await;
    let mut other = door.connect(true).await;
    let plain = other.watch(&format!("{MAPS}?watch=1"), &[accept]).await.delimited().await.expect("an event");
    assert_eq!(socket.next().await, (BINARY, plain.to_vec()));
}

#[actix_web::test]
async fn a_websocket_ends_with_its_watch() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut timed = door.connect(true).await;
    let (mut socket, _) = Socket::open(&mut timed, &format!("{MAPS}?watch=1&resourceVersion=5&timeoutSeconds=1"), &[]).await;
    assert_eq!(socket.next().await, (CLOSE, NORMAL.to_vec()));
    assert!(socket.is_over().await);
    let mut lost = door.connect(true).await;
    let (mut socket, _) = Socket::open(&mut lost, &format!("{MAPS}?watch=1&resourceVersion=1"), &[]).await;
    let error = socket.event().await;
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(socket.next().await, (CLOSE, NORMAL.to_vec()));
    let mut admin = door.connect(true).await;
    let several = [&SOCKET[..], &[("sec-websocket-protocol", "a, b")][..]].concat();
    let refused = admin.start("GET", &format!("{MAPS}?watch=1"), &several, "").await;
    assert_eq!(refused.status(), 400);
}
