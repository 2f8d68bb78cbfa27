//! The front door's budgets: GET against a raw static reply of the same stack, and the making of a LIST's body.
//! GETs run in this process over TLS on loopback, clients included, so figures are lower bounds.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../http/tests/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../http/tests/fake.rs"]
mod fake;
#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../../../../tests/support/figures.rs"]
mod figures;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use client::{Connection, Door};
use fake::{FakeService, config_map};
use figures::{Budget, report};
use troupe_api::{
    auth::tls,
    meta::Revision,
    service::{EventType, ListReply},
    stored::{StoredObject, encode_for_store},
};
use troupe_api_server::http::list_slices;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OBJECT: &str = "/api/v1/namespaces/default/configmaps/a";
const PROTOBUF: [(&str, &str); 1] = [("accept", "application/vnd.kubernetes.protobuf")];
const CONNECTIONS: usize = 32;
const LASTS: Duration = Duration::from_secs(3);

fn main() {
    println!("front door");
    lists();
    actix_web::rt::System::new().block_on(async {
        gets().await;
        messages(0, "LIST of 10,000 objects in protobuf over TLS, each encoded anew").await;
        messages(256 << 20, "LIST of 10,000 objects in protobuf over TLS, all remembered").await;
    });
}

/// A door that remembers encodings within `memo_bytes`.
fn open(memo_bytes: usize) -> Door {
    let mut service = FakeService::new();
    service.record = false;
    Door::open(service, |options| {
        options.max_in_flight = 0;
        options.memo_bytes = memo_bytes;
    })
}

/// Requests per second of GETs of `path` over `connections`.
async fn rate(connections: Vec<Connection>, path: &'static str, headers: &[(&str, &str)]) -> f64 {
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers = connections.into_iter().map(|mut connection| {
        let count = count.clone();
        async move {
            while began.elapsed() < LASTS {
                let reply = connection.send("GET", path, headers, "").await;
                assert_eq!(reply.status, 200);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    futures::future::join_all(workers).await;
    per_second(count.load(Ordering::Relaxed), began.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// One object of 1 KB, against a handler that answers the same bytes and does nothing else.
async fn gets() {
    let door = open(32 << 20);
    door.service.put(&door.service.target("configmaps", "default", ""), &config_map("a", 800), EventType::Added);
    let body = door.connect(true).await.get(&format!("{MAPS}/a")).await.body;
    let config = tls::server_config(&door.server, door.pki.ca_pem()).expect("a TLS configuration");
    let app = move || {
        let body = body.clone();
        App::new().default_service(web::to(move || std::future::ready(HttpResponse::Ok().content_type("application/json").body(body.clone()))))
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let raw = HttpServer::new(app).workers(1).disable_signals().listen_rustls_0_23(listener, config).expect("listens").run();
    let stop = raw.handle();
    actix_web::rt::spawn(raw);
    let (mut ours, mut theirs, mut typed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        ours.push(door.connect(true).await);
        typed.push(door.connect(true).await);
        theirs.push(door.connect_to(addr, true).await);
    }
    let raw = rate(theirs, "/", &[]).await;
    let get = rate(ours, OBJECT, &[]).await;
    let message = rate(typed, OBJECT, &PROTOBUF).await;
    report("raw static reply of 1 KB by the same HTTP stack", raw, "/s", Budget::None);
    report("GET of one object / raw static reply", get / raw, "", Budget::AtLeast(0.5));
    report("GET of one object in protobuf / raw static reply", message / raw, "", Budget::AtLeast(0.5));
    stop.stop(false).await;
    door.handle.stop().await;
}

/// 10,000 objects of 4 KB, as slices of a reply, by one core.
fn lists() {
    let service = FakeService::new();
    let target = service.target("configmaps", "default", "");
    let object = |at: usize| {
        let encoded = encode_for_store(&config_map(&format!("m{at:05}"), 3800));
        Arc::new(StoredObject::new(encoded, Revision(7)).expect("the store's form"))
    };
    let items: Vec<_> = (0..10_000).map(object).collect();
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < LASTS {
        let list = ListReply { items: items.clone(), revision: Revision(7), continue_token: None, remaining: None };
        bytes += list_slices(&target, list).map(|slice| std::hint::black_box(slice).len() as u64).sum::<u64>();
    }
    report(
        "LIST of 10,000 objects: body made from the snapshot, by one core",
        per_second(bytes, began.elapsed()) / 1e9,
        " GB/s",
        Budget::AtLeast(1.0),
    );
}

/// The same in protobuf, through the whole stack.
async fn messages(memo_bytes: usize, what: &str) {
    let door = open(memo_bytes);
    let target = door.service.target("configmaps", "default", "");
    for at in 0..10_000 {
        door.service.put(&target, &config_map(&format!("m{at:05}"), 3800), EventType::Added);
    }
    let mut admin = door.connect(true).await;
    admin.send("GET", MAPS, &PROTOBUF, "").await;
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < LASTS {
        bytes += admin.send("GET", MAPS, &PROTOBUF, "").await.body.len() as u64;
    }
    report(what, per_second(bytes, began.elapsed()) / 1e9, " GB/s", Budget::None);
    door.handle.stop().await;
}
