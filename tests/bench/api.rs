//! Requests over HTTPS to the embedded store: reads, durable creates, patches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use etcd_client::Client;
use serde_json::json;

use crate::{
    Bench,
    figures::{Budget, report, report_beside},
    https::Connection,
};

const LASTS: Duration = Duration::from_secs(4);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Creates by so many clients: upstream's figure, and what is asked of us on the embedded store and beside bare puts to etcd.
const CREATES: [(usize, &str, Budget, f64); 3] =
    [(1, "477/s", Budget::None, 0.8), (16, "1,553/s", Budget::None, 0.8), (64, "1,750/s", Budget::AtLeast(10_000.0), 0.6)];

/// With a client of the bare etcd, its puts are measured too.
pub async fn measure(bench: &Bench, etcd: Option<&Client>) {
    bench.door.connect().await.json("POST", MAPS, config_map("read-me")).await;
    let rate = rate(bench, 16, |mut connection, _| async move {
        connection.json("GET", &format!("{MAPS}/read-me"), "").await;
        connection
    });
    report_beside(&bench.name("GET of 1 KB over HTTPS, 16 clients"), rate.await, "/s", Budget::None, "3,490/s");
    for (clients, upstream, budget, beside_bare) in CREATES {
        let what = bench.name(&format!("durable creates of 1 KB over HTTPS, {clients} clients"));
        let Some(client) = etcd else {
            report_beside(&what, creates(bench, clients).await, "/s", budget, upstream);
            continue;
        };
        let bare = bare_puts(client, clients).await;
        let rate = creates(bench, clients).await;
        report_beside(&what, rate, "/s", Budget::None, upstream);
        report(&format!("{what} / bare puts to the same etcd"), rate / bare, "", Budget::AtLeast(beside_bare));
    }
    let rate = patches(bench).await;
    report_beside(&bench.name("merge patches of 1 KB over HTTPS, 16 clients"), rate, "/s", Budget::None, "1,017/s");
}

pub fn config_map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": "x".repeat(800)}}).to_string()
}

async fn creates(bench: &Bench, clients: usize) -> f64 {
    let prefix = format!("c{clients}-{}", std::process::id());
    rate(bench, clients, move |mut connection, number| {
        let body = config_map(&format!("{prefix}-{number}"));
        async move {
            connection.json("POST", MAPS, body).await;
            connection
        }
    })
    .await
}

async fn patches(bench: &Bench) -> f64 {
    const OBJECTS: usize = 64;
    let mut connection = bench.door.connect().await;
    for at in 0..OBJECTS {
        connection.json("POST", MAPS, config_map(&format!("patch-me-{at}"))).await;
    }
    rate(bench, 16, |mut connection, number| async move {
        let path = format!("{MAPS}/patch-me-{}", number % OBJECTS);
        let patch = json!({"metadata": {"annotations": {"round": number.to_string()}}}).to_string();
        let (status, body) = connection.send("PATCH", &path, "application/merge-patch+json", patch).await;
        assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        connection
    })
    .await
}

/// Puts per second of values as long as our objects, straight to etcd.
async fn bare_puts(client: &Client, clients: usize) -> f64 {
    let value = config_map("bare");
    rate_of(vec![client.kv_client(); clients], move |mut kv, number| {
        let value = value.clone();
        async move {
            kv.put(format!("/bare/{clients}/{number}"), value, None).await.expect("puts");
            kv
        }
    })
    .await
}

/// Requests per second of so many clients over connections of their own.
async fn rate<O, F>(bench: &Bench, clients: usize, operation: O) -> f64
where
    O: Fn(Connection, usize) -> F + Clone + Send + 'static,
    F: Future<Output = Connection> + Send,
{
    rate_of(bench.door.connections(clients).await, operation).await
}

/// Operations per second over connections that each wait for their answers. The operation is told its number.
pub async fn rate_of<C, O, F>(connections: Vec<C>, operation: O) -> f64
where
    C: Send + 'static,
    O: Fn(C, usize) -> F + Clone + Send + 'static,
    F: Future<Output = C> + Send,
{
    rate_lasting(LASTS, connections, operation).await
}

/// The same for so long.
pub async fn rate_lasting<C, O, F>(lasts: Duration, connections: Vec<C>, operation: O) -> f64
where
    C: Send + 'static,
    O: Fn(C, usize) -> F + Clone + Send + 'static,
    F: Future<Output = C> + Send,
{
    let numbers = Arc::new(AtomicUsize::new(0));
    let mut loops = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for mut connection in connections {
        let (operation, numbers) = (operation.clone(), numbers.clone());
        loops.spawn(async move {
            while begun.elapsed() < lasts {
                connection = operation(connection, numbers.fetch_add(1, Relaxed)).await;
            }
        });
    }
    loops.join_all().await;
    numbers.load(Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
