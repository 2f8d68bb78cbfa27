//! 1,000 watchers of one resource over HTTPS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use serde_json::json;

use crate::{
    Bench,
    figures::{Budget, report, report_beside},
};

const WATCHERS: u64 = 1000;
const LASTS: Duration = Duration::from_secs(4);
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// Writers at once; each waits until everybody saw its last write.
const BURST: u64 = 64;

pub async fn measure(bench: &Bench) {
    let before = bench.daemon.resident_mib();
    let delivered = Arc::new(AtomicU64::new(0));
    for _ in 0..WATCHERS {
        let mut connection = bench.door.connect().await;
        let mut body = connection.start("GET", &format!("{SECRETS}?watch=true"), "application/json", "").await.into_body();
        let delivered = delivered.clone();
        tokio::spawn(async move {
            let _open = connection;
            while let Some(Ok(frame)) = body.frame().await {
                let events = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                delivered.fetch_add(events as u64, Relaxed);
            }
        });
    }
    let each = (bench.daemon.resident_mib() - before) * 1024.0 / WATCHERS as f64;
    report(&bench.name("memory of a watcher over HTTPS"), each, " KiB", Budget::AtMost(32.0));
    let mut writers = bench.door.connections(BURST as usize).await;
    let (begun, mut sent) = (Instant::now(), 0);
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < LASTS {
        let written = Instant::now();
        let burst = writers.iter_mut().enumerate().map(|(at, writer)| {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("watched-{}", sent + at as u64)},
                "stringData": {"value": "x".repeat(600)}});
            writer.json("POST", SECRETS, secret.to_string())
        });
        futures::future::join_all(burst).await;
        sent += BURST;
        while delivered.load(Relaxed) < sent * WATCHERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(written.elapsed() < Duration::from_secs(30), "watchers starve: {} of {}", delivered.load(Relaxed), sent * WATCHERS);
        }
        slowest = slowest.max(written.elapsed());
    }
    let rate = delivered.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
    report_beside(&bench.name("watch: events delivered to 1,000 watchers over HTTPS"), rate, "/s", Budget::AtLeast(200_000.0), "31,800/s to 500");
    report_beside(&bench.name("watch: the slowest of 64 writes at once seen by all"), slowest.as_secs_f64(), " s", Budget::None, "p99 1.05 s");
}
