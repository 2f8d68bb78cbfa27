//! One account with ten times as many clients as its priority level has seats, all of which read and write without a pause: what another
//! account of the same level has to wait, and whoever renews leases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Bench,
    api::config_map,
    figures::{Budget, report},
    https::{Connection, Door},
};

const MAPS: &str = "/api/v1/namespaces/overload/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NODE_LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/it";
const MERGE_PATCH: &str = "application/merge-patch+json";
const LEVEL: &str = "workload-low";
const TIMES: usize = 10;
const LISTED: usize = 50;
/// Long enough for a kubelet to renew its lease twice.
const LASTS: Duration = Duration::from_secs(25);
/// The pause between two requests of those that must not wait.
const PACE: Duration = Duration::from_millis(20);
/// How often a leader renews its lease, and a kubelet its own; the kubelet's may wait a little so that not all come at once.
const RENEWS: Duration = Duration::from_millis(250);
const KUBELET_RENEWS: f64 = 10.0 * 1.05;
/// When clients come back that are told so (`Retry-After`).
const COMES_BACK: Duration = Duration::from_secs(1);

pub async fn measure(bench: &Bench) {
    bench.cluster.kubectl("create namespace overload");
    let [loud, quiet, leader] =
        [account(bench, "overload", "loud").await, account(bench, "overload", "quiet").await, account(bench, "kube-system", "leader").await];
    let mut admin = bench.door.connect().await;
    for at in 0..LISTED {
        admin.json("POST", MAPS, config_map(&format!("map-{at}"))).await;
    }
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "overload"}, "spec": {"leaseDurationSeconds": 15}});
    admin.json("POST", LEASES, lease.to_string()).await;
    let mut overload = Overload::begin(loud, TIMES * seats(&mut admin).await).await;
    let (waits, renewals, gap) = tokio::join!(asks(quiet), renews(leader), node_gap(admin));
    overload.end().await;
    let [answered, refused] =
        [&overload.answered, &overload.refused].map(|count| count.load(Relaxed) as f64 / overload.begun.elapsed().as_secs_f64());
    report("overload by one account: requests of it that are answered", answered, "/s", Budget::None);
    report("overload by one account: requests of it that are sent away", refused, "/s", Budget::None);
    report("overload by one account: p99 of another one's requests", p99(waits), " s", Budget::AtMost(1.0));
    report("overload by one account: the slowest renewal of a leader's lease", slowest(&renewals), " s", Budget::AtMost(1.0));
    report("overload by one account: longest time between renewals of a node's lease", gap, " s", Budget::AtMost(KUBELET_RENEWS + 1.0));
    // Before others are measured.
    bench.cluster.kubectl("delete namespace overload --timeout=300s");
    bench.cluster.kubectl("delete clusterrolebinding bench-loud bench-quiet bench-leader");
    bench.cluster.kubectl("-n kube-system delete lease/overload serviceaccount/leader");
}

/// A service account that may do everything, by its token.
async fn account(bench: &Bench, namespace: &str, name: &str) -> Door {
    bench.cluster.kubectl(&format!("-n {namespace} create serviceaccount {name}"));
    bench.cluster.kubectl(&format!("create clusterrolebinding bench-{name} --clusterrole=cluster-admin --serviceaccount={namespace}:{name}"));
    let token = bench.cluster.kubectl(&format!("-n {namespace} create token {name}"));
    Door::without_certificate(&bench.cluster.kubeconfig(), Some(token.trim()))
}

/// The seats that the level always has.
async fn seats(admin: &mut Connection) -> usize {
    let page = admin.json("GET", "/metrics", "").await;
    let page = String::from_utf8_lossy(&page);
    let series = format!("apiserver_flowcontrol_nominal_limit_seats{{priority_level=\"{LEVEL}\"}} ");
    let seats = page.lines().find_map(|line| line.strip_prefix(&series)).expect("the level has seats");
    seats.trim().parse().expect("a number")
}

struct Overload {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    clients: JoinSet<()>,
    begun: Instant,
}

impl Overload {
    /// Begins, and returns when all clients are at it.
    async fn begin(door: Door, clients: usize) -> Self {
        let [answered, refused] = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let mut overload = Overload { stop: Arc::default(), answered, refused, clients: JoinSet::new(), begun: Instant::now() };
        let mut connections = Vec::with_capacity(clients);
        for _ in 0..clients {
            let mut connection = door.connect().await;
            // The server has fewer places for connections of which it does not know yet whose they are.
            connection.json("GET", "/version", "").await;
            connections.push(connection);
        }
        overload.begun = Instant::now();
        for (at, connection) in connections.into_iter().enumerate() {
            let (stop, answered, refused, door) = (overload.stop.clone(), overload.answered.clone(), overload.refused.clone(), door.clone());
            overload.clients.spawn(async move {
                let mut connection = connection;
                while !stop.load(Relaxed) {
                    match disturb(&mut connection, at).await {
                        Some(StatusCode::TOO_MANY_REQUESTS) => {
                            refused.fetch_add(1, Relaxed);
                            tokio::time::sleep(COMES_BACK).await;
                        }
                        Some(status) => {
                            assert!(status.is_success() || status == StatusCode::CONFLICT, "the account is refused otherwise: {status}");
                            answered.fetch_add(1, Relaxed);
                        }
                        // The server may close a connection after a refusal.
                        None => match door.try_connect().await {
                            Ok(another) => connection = another,
                            Err(_) => tokio::time::sleep(COMES_BACK).await,
                        },
                    }
                }
            });
        }
        overload
    }

    async fn end(&mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no panic");
        }
    }
}

/// Every other client lists, the others write.
async fn disturb(connection: &mut Connection, at: usize) -> Option<StatusCode> {
    let sent = match at % 2 {
        0 => connection.try_send("GET", MAPS, "application/json", "").await,
        _ => {
            let patch = json!({"metadata": {"annotations": {"client": at.to_string()}}}).to_string();
            connection.try_send("PATCH", &format!("{MAPS}/map-{}", at % LISTED), MERGE_PATCH, patch).await
        }
    };
    sent.ok()
}

/// A request that is sent again until it is not sent away; all of that is waiting.
async fn insist(door: &Door, connection: &mut Connection, method: &str, path: &str, body: String) -> Bytes {
    loop {
        let (status, answer) = connection.send(method, path, "application/json", body.clone()).await;
        if status != StatusCode::TOO_MANY_REQUESTS {
            assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
            return answer;
        }
        tokio::time::sleep(PACE).await;
        // The server may have closed the connection.
        *connection = door.connect().await;
    }
}

/// How long the requests of the other account take, reads and writes in turns.
async fn asks(door: Door) -> Vec<f64> {
    let (mut connection, mut waits, begun) = (door.connect().await, Vec::new(), Instant::now());
    while begun.elapsed() < LASTS {
        let asked = Instant::now();
        match waits.len() % 2 {
            0 => insist(&door, &mut connection, "GET", &format!("{MAPS}/map-0"), String::new()).await,
            _ => insist(&door, &mut connection, "POST", MAPS, config_map(&format!("quiet-{}", waits.len()))).await,
        };
        waits.push(asked.elapsed().as_secs_f64());
        tokio::time::sleep(PACE).await;
    }
    waits
}

/// How long a leader's renewals take.
async fn renews(door: Door) -> Vec<f64> {
    let (mut connection, mut waits, begun) = (door.connect().await, Vec::new(), Instant::now());
    let path = format!("{LEASES}/overload");
    while begun.elapsed() < LASTS {
        let asked = Instant::now();
        let lease = insist(&door, &mut connection, "GET", &path, String::new()).await;
        let mut lease: Value = serde_json::from_slice(&lease).expect("JSON");
        lease["spec"]["renewTime"] = format!("{:.6}", Timestamp::now()).into();
        insist(&door, &mut connection, "PUT", &path, lease.to_string()).await;
        waits.push(asked.elapsed().as_secs_f64());
        tokio::time::sleep(RENEWS).await;
    }
    waits
}

/// Seconds between two renewals of the kubelet's lease, at most; the one that is due in the end counts too.
async fn node_gap(mut admin: Connection) -> f64 {
    let (mut longest, begun) = (0.0_f64, Instant::now());
    while begun.elapsed() < LASTS {
        let lease = admin.json("GET", NODE_LEASE, "").await;
        let lease: Value = serde_json::from_slice(&lease).expect("JSON");
        let renewed: Timestamp = lease["spec"]["renewTime"].as_str().expect("is renewed").parse().expect("a time");
        longest = longest.max(Timestamp::now().duration_since(renewed).as_secs_f64());
        tokio::time::sleep(RENEWS).await;
    }
    longest
}

fn p99(mut waits: Vec<f64>) -> f64 {
    waits.sort_by(f64::total_cmp);
    waits[(waits.len() * 99 / 100).min(waits.len() - 1)]
}

fn slowest(waits: &[f64]) -> f64 {
    waits.iter().copied().fold(0.0, f64::max)
}
