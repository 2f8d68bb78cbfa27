//! The front door's budgets: GET against a raw static reply of the same stack, LIST throughput, watch fan-out.
//! Everything runs in this process over TLS on loopback, clients included, so figures are lower bounds.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../http/tests/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../http/tests/fake.rs"]
mod fake;

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
use troupe_api::{auth::tls, service::EventType};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CONNECTIONS: usize = 32;
const LASTS: Duration = Duration::from_secs(3);

fn main() {
    actix_web::rt::System::new().block_on(async {
        gets().await;
        lists().await;
        watches().await;
    });
}

fn open() -> Door {
    let mut service = FakeService::new();
    service.record = false;
    Door::open(service, |options| options.max_in_flight = 0)
}

/// Requests per second of GETs of `path` over `connections`.
async fn rate(connections: Vec<Connection>, path: &'static str) -> f64 {
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers = connections.into_iter().map(|mut connection| {
        let count = count.clone();
        async move {
            while began.elapsed() < LASTS {
                let reply = connection.get(path).await;
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
    let door = open();
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
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        ours.push(door.connect(true).await);
        theirs.push(door.connect_to(addr, true).await);
    }
    let raw = rate(theirs, "/").await;
    let get = rate(ours, "/api/v1/namespaces/default/configmaps/a").await;
    println!("GET of one object: {get:.0}/s, raw static reply: {raw:.0}/s, ratio {:.2} (budget 0.5)", get / raw);
    stop.stop(false).await;
    door.handle.stop().await;
}

/// 10,000 objects of 4 KB.
async fn lists() {
    let door = open();
    let target = door.service.target("configmaps", "default", "");
    for at in 0..10_000 {
        door.service.put(&target, &config_map(&format!("m{at:05}"), 3800), EventType::Added);
    }
    let mut admin = door.connect(true).await;
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < LASTS {
        bytes += admin.get(MAPS).await.body.len() as u64;
    }
    println!("LIST of 10,000 objects: {:.0} MB/s over TLS", per_second(bytes, began.elapsed()) / 1e6);
    door.handle.stop().await;
}

/// 1,000 watchers of one resource.
async fn watches() {
    const WATCHERS: u64 = 1000;
    let door = open();
    let delivered = Arc::new(AtomicU64::new(0));
    for _ in 0..WATCHERS {
        let mut connection = door.connect(true).await;
        let mut frames = connection.watch("/api/v1/configmaps?watch=true", &[]).await;
        let delivered = delivered.clone();
        actix_web::rt::spawn(async move {
            let _open = connection;
            while let Some(bytes) = frames.raw().await {
                let events = bytes.iter().filter(|byte| **byte == b'\n').count();
                delivered.fetch_add(events as u64, Ordering::Relaxed);
            }
        });
    }
    let target = door.service.target("configmaps", "default", "");
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < LASTS {
        for _ in 0..100 {
            door.service.put(&target, &config_map("a", 800), EventType::Modified);
            sent += 1;
        }
        while delivered.load(Ordering::Relaxed) < sent * WATCHERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(began.elapsed() < LASTS * 10, "watchers starve");
        }
    }
    let rate = per_second(delivered.load(Ordering::Relaxed), began.elapsed());
    println!("watch: {rate:.0} events/s to {WATCHERS} watchers (budget 200,000)");
    door.handle.stop().await;
}
