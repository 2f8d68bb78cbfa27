//! The whole cluster against its budgets: `troupe up` in a network namespace of its own, asked over HTTPS as any client does.
//!
//! Arguments name what to measure: `embedded` (how soon it starts) with some of `idle refused pods lists api watches services extensions overload custom definitions hollow fleet`, `etcd`, `alone`, `beside`, `sealed`, `network`. Client and server share the machine's cores. Needs what the integration tests need, and the image archives.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../integration/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../integration/database.rs"]
mod database;
#[allow(dead_code, reason = "shared with the program")]
#[path = "../../src/bin/troupe/descriptors.rs"]
mod descriptors;
#[path = "../support/figures.rs"]
mod figures;
#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../support/https.rs"]
mod https;
#[path = "../integration/running.rs"]
mod running;

mod alone;
mod api;
mod backend;
mod beside;
mod custom;
mod definitions;
mod etcd;
mod extensions;
mod fleet;
mod hollow;
mod lists;
mod network;
mod overload;
mod pods;
mod process;
mod refused;
mod services;
mod watches;

use std::{
    thread,
    time::{Duration, Instant},
};

use cluster::{Cluster, images};
use figures::{Budget, report, report_beside};
use https::Door;
use process::Process;

/// Everything a measurement needs.
pub struct Bench {
    pub cluster: Cluster,
    pub door: Door,
    pub daemon: Process,
    /// What follows a figure's name where it was not measured on the embedded store.
    pub on: &'static str,
}

impl Bench {
    fn of(cluster: Cluster, on: &'static str) -> Self {
        let daemon = Process::new(cluster.pid().parse().expect("a pid"));
        Bench { door: Door::of(&cluster.kubeconfig()), daemon, cluster, on }
    }

    /// The name of a figure that both stores have.
    pub fn name(&self, what: &str) -> String {
        format!("{what}{}", self.on)
    }
}

fn main() {
    // The harness of `cargo bench` hands its own flags on; `cargo test --benches` only wants to see that this starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let unknown: Vec<String> = named().filter(|name| !PARTS.iter().any(|(part, _)| part == name) && !FIGURES.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "there is no measurement called {unknown:?}");
    descriptors::take_all();
    println!("whole cluster");
    let mut failed = Vec::new();
    thread::scope(|scope| {
        // Each in a thread of its own, since a thread stays in the network namespace that it entered.
        for (name, part) in PARTS.into_iter().filter(|(name, _)| asks_for(name)) {
            // What is wrong with one is no reason to know nothing of the others.
            if scope.spawn(part).join().is_err() {
                failed.push(name);
            }
        }
    });
    assert!(failed.is_empty(), "{failed:?} did not come to their end");
}

/// What is measured apart.
const PARTS: [(&str, fn()); 6] = [
    ("embedded", embedded),
    ("etcd", etcd::measure),
    ("alone", alone::measure),
    ("beside", beside::measure),
    ("sealed", extensions::sealed),
    ("network", network::measure),
];
/// What is measured of the embedded store.
const FIGURES: [&str; 13] =
    ["idle", "refused", "pods", "lists", "api", "watches", "services", "extensions", "overload", "custom", "definitions", "hollow", "fleet"];

/// What the arguments name.
fn named() -> impl Iterator<Item = String> {
    std::env::args().skip(1).filter(|argument| !argument.starts_with('-'))
}

/// Whether the arguments name this, or nothing at all. A figure of the embedded store needs that part.
fn asks_for(what: &str) -> bool {
    named().next().is_none() || named().any(|name| name == what || (what == "embedded" && FIGURES.contains(&name.as_str())))
}

/// One process with the embedded store.
fn embedded() {
    // Images are imported at the first start; the second one finds them.
    let cluster = Cluster::place();
    let config = pods::kubelet_config(&cluster);
    cluster.start_with(&["--kubelet-config", &config]);
    cluster.stop();
    // The command itself waits a little longer, to see that the daemon lives on.
    let said = cluster.troupe_text(&["up", "--detach", "--image-dir", &images(), "--kubelet-config", &config]);
    let seconds = said.split("is Ready after ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    report("troupe up to node Ready", seconds.expect("it tells the time"), " s", Budget::AtMost(3.0));
    cluster.enter();
    runtime().block_on(async {
        let bench = Bench::of(cluster, "");
        for figures in FIGURES.into_iter().filter(|figures| asks_for(figures)) {
            match figures {
                "idle" => idle(&bench).await,
                "refused" => refused::measure(&bench).await,
                "pods" => pods::measure(&bench).await,
                "lists" => lists::measure(&bench).await,
                "api" => api::measure(&bench, None).await,
                "watches" => watches::measure(&bench).await,
                "services" => services::measure(&bench).await,
                "extensions" => extensions::measure(&bench).await,
                "overload" => overload::measure(&bench).await,
                "custom" => custom::measure(&bench).await,
                "definitions" => definitions::measure(&bench).await,
                "hollow" => hollow::measure(&bench).await,
                _ => fleet::measure(&bench).await,
            }
        }
    });
}

/// Two threads, in the network namespace of the one that calls.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
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
