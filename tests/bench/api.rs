//! Requests over HTTPS to the embedded store: reads, durable creates, patches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Bench,
    figures::{Budget, report_beside},
    https::Connection,
};

const LASTS: Duration = Duration::from_secs(4);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub async fn measure(bench: &Bench) {
    bench.door.connect().await.json("POST", MAPS, config_map("read-me")).await;
    let rate = rate(bench, 16, |mut connection, _| async move {
        connection.json("GET", &format!("{MAPS}/read-me"), "").await;
        connection
    });
    report_beside("GET of 1 KB over HTTPS, 16 clients", rate.await, "/s", Budget::None, "3,490/s");
    for (clients, budget, upstream) in [(1, Budget::None, "477/s"), (16, Budget::None, "1,553/s"), (64, Budget::AtLeast(10_000.0), "1,750/s")] {
        let rate = creates(bench, clients).await;
        report_beside(&format!("durable creates of 1 KB over HTTPS, {clients} clients"), rate, "/s", budget, upstream);
    }
    let rate = patches(bench).await;
    report_beside("merge patches of 1 KB over HTTPS, 16 clients", rate, "/s", Budget::None, "1,017/s");
}

fn config_map(name: &str) -> String {
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

/// Operations per second of so many clients, each of which waits for its answers. The operation is told its number.
async fn rate<O, F>(bench: &Bench, clients: usize, operation: O) -> f64
where
    O: Fn(Connection, usize) -> F + Clone + Send + 'static,
    F: Future<Output = Connection> + Send,
{
    let numbers = Arc::new(AtomicUsize::new(0));
    let mut loops = tokio::task::JoinSet::new();
    let connections = bench.door.connections(clients).await;
    let begun = Instant::now();
    for mut connection in connections {
        let (operation, numbers) = (operation.clone(), numbers.clone());
        loops.spawn(async move {
            while begun.elapsed() < LASTS {
                connection = operation(connection, numbers.fetch_add(1, Relaxed)).await;
            }
        });
    }
    loops.join_all().await;
    numbers.load(Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
