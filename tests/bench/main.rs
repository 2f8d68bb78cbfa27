//! The whole cluster against its budgets: `troupe up` in a network namespace of its own, asked over HTTPS as any client does.
//!
//! Client and server share the machine's cores. Needs what the integration tests need, and the image archives.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../integration/cluster.rs"]
mod cluster;
#[path = "../support/figures.rs"]
mod figures;
#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../support/https.rs"]
mod https;

mod api;
mod fleet;
mod lists;
mod pods;
mod process;
mod services;
mod watches;

use std::time::{Duration, Instant};

use cluster::Cluster;
use figures::{Budget, report, report_beside};
use https::Door;
use process::Process;

/// Everything a measurement needs.
pub struct Bench {
    pub cluster: Cluster,
    pub door: Door,
    pub daemon: Process,
}

fn main() {
    // The harness of `cargo bench` hands its own flags on; `cargo test --benches` only wants to see that this starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("whole cluster");
    // Images are imported at the first start; the second one finds them.
    let cluster = Cluster::up();
    cluster.stop();
    let begun = Instant::now();
    cluster.start();
    report("troupe up to node Ready", begun.elapsed().as_secs_f64(), " s", Budget::AtMost(3.0));
    cluster.enter();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let daemon = Process::new(cluster.pid().parse().expect("a pid"));
        let bench = Bench { door: Door::of(&cluster.kubeconfig()), daemon, cluster };
        idle(&bench).await;
        pods::measure(&bench).await;
        lists::measure(&bench).await;
        api::measure(&bench).await;
        watches::measure(&bench).await;
        services::measure(&bench).await;
        fleet::measure(&bench).await;
    });
}

/// A cluster with one node that has settled.
async fn idle(bench: &Bench) {
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = bench.daemon.cpu();
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let busy = (bench.daemon.cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    report("processor use, idle", busy, " % of a core", Budget::None);
    let resident = bench.daemon.resident_mib();
    report_beside("resident, idle, control plane + node", resident, " MiB", Budget::AtMost(60.0), "655 MB");
}
