//! The pod network beside networks made by hand, the service proxy, network policies and DNS. Each has a cluster of its own where it needs one.

mod by_hand;
mod connections;
mod names;
mod one_node;
mod policies;
mod queries;
mod start;
mod streams;
mod throughput;

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    thread,
    time::Duration,
};

use troupe_net::netns;

use crate::cluster::{Cluster, apply, eventually};

/// How often a thing and what it is compared with are measured, in turns.
const ROUNDS: usize = 5;
/// How long anything may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has clusters of its own.
const PLACES: [(&str, fn()); 4] =
    [("one node", one_node::measure), ("routes", throughput::over_routes), ("VXLAN", throughput::over_vxlan), ("start", start::measure)];

/// One place after the other. What is wrong with one is no reason to know nothing of the others.
pub fn measure() {
    let mut failed = Vec::new();
    for (name, place) in PLACES {
        // In a thread of its own, which stays in the network namespace that it enters.
        if thread::spawn(place).join().is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "of the network {failed:?} did not come to their end");
}

/// A network in which this process works, and an address there.
#[derive(Clone, Debug)]
pub struct End {
    pub ip: IpAddr,
    network: PathBuf,
}

impl End {
    /// A pod that runs.
    pub fn of(cluster: &Cluster, namespace: &str, pod: &str) -> Self {
        let ip = cluster.kubectl(&format!("-n {namespace} get pod {pod} -o jsonpath={{.status.podIP}}"));
        let process = cluster.process_of(namespace, pod);
        End { ip: ip.parse().expect("an address"), network: PathBuf::from(format!("/proc/{process}/ns/net")) }
    }

    /// Does something in this network; sockets that are made there stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(&self.network, work).expect("the network is there")
    }

    /// Waits until somebody answers at an address.
    pub fn await_answer(&self, at: SocketAddr) {
        eventually(&format!("{at} answers"), || self.within(|| TcpStream::connect_timeout(&at, Duration::from_secs(1))).is_ok());
    }
}

/// A pod that does nothing, on a node.
fn idle_pod(namespace: &str, name: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\nspec:\n  nodeName: {node}\n  \
         terminationGracePeriodSeconds: 0\n  containers: [{{name: c, image: 'busybox:1.35', command: [sleep, infinity]}}]\n---\n"
    )
}

/// Makes pods (name, node) in a namespace that is there, and waits until they are Ready.
fn run_pods<const COUNT: usize>(cluster: &Cluster, namespace: &str, pods: [(&str, &str); COUNT]) -> [End; COUNT] {
    cluster.eventually_has("serviceaccount/default", namespace);
    apply(cluster, &pods.map(|(name, node)| idle_pod(namespace, name, node)).concat());
    pods.map(|(name, _)| {
        cluster.kubectl(&format!("-n {namespace} wait --for=condition=Ready pod/{name} --timeout=90s"));
        End::of(cluster, namespace, name)
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of what is measured and of its ratios to what it is compared with, which is measured just before.
fn in_turns(mut measured: impl FnMut() -> f64, mut compared: impl FnMut() -> f64) -> (f64, f64) {
    let (mut values, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let other = compared();
        let value = measured();
        values.push(value);
        ratios.push(value / other);
    }
    (median(values), median(ratios))
}
