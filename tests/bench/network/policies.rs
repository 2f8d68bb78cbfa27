//! A node whose pods are selected by 1,000 policies with 10,000 pods as their peers: how soon a change is in force, and what a new connection costs.
//!
//! The peers are pods that the API alone knows, of a node that is not there; what a node's rules are made of are its own pods and the peers' addresses.

use std::{
    array,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{
    End, PATIENCE, ROUNDS,
    connections::{Acceptor, COUNT, per_second},
    median, run_pods,
};
use crate::{
    cluster::{Cluster, eventually, text},
    figures::{Budget, report},
    https::{Connection, Door},
    runtime,
};

const NAMESPACE: &str = "policed";
/// Pods of the node that policies select, each by as many.
const SELECTED: usize = 10;
const POLICIES: usize = 1_000;
/// Each policy has ten as its peers.
const PEERS: usize = 10_000;
const CLIENTS: usize = 16;
/// How often a change is timed.
const CHANGES: usize = 9;
/// Where the first of the selected pods takes connections and datagrams.
const TCP: u16 = 7400;
const UDP: u16 = 7401;
/// As long without a datagram, and none gets through.
const SILENCE: Duration = Duration::from_millis(100);

pub fn measure(cluster: &Cluster) {
    cluster.kubectl(&format!("create namespace {NAMESPACE}"));
    let [caller] = run_pods(cluster, NAMESPACE, [("caller", "it")]);
    let names: [String; SELECTED] = array::from_fn(|at| format!("selected{at}"));
    let [server, ..] = run_pods(cluster, NAMESPACE, names.each_ref().map(|name| (name.as_str(), "it")));
    let _acceptor = Acceptor::at(&server, TCP..=TCP);
    let address = SocketAddr::new(server.ip, TCP);
    caller.await_answer(address);
    let rate = || median((0..ROUNDS).map(|_| per_second(&caller, &[address], COUNT)).collect());
    let without = rate();

    cluster.enter();
    let runtime = runtime();
    let mut connections = runtime.block_on(Door::of(&cluster.kubeconfig()).connections(CLIENTS));
    runtime.block_on(async {
        connections[0]
            .json("POST", "/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "elsewhere"}}).to_string())
            .await;
        join_all(connections.iter_mut().enumerate().map(|(first, connection)| fill(connection, first))).await;
        connections[0].json("POST", &path("networkpolicies"), gate_policy().to_string()).await;
    });
    eventually("the kernel has the peers of all policies", || {
        let sets = text(&cluster.inside("ipset").args(["list", "-n"]).output().expect("ipset runs").stdout);
        sets.lines().count() >= POLICIES
    });
    let mut gate = Gate { runtime: &runtime, connection: &mut connections[0], caller: &caller, server: SocketAddr::new(server.ip, UDP) };
    let heard = server.within(|| UdpSocket::bind(("0.0.0.0", UDP))).expect("the port is free");
    let times = (0..CHANGES).map(|_| gate.opens_within(&heard) * 1000.0).collect();
    report("one change among 1,000 policies, 10,000 pods as peers, until a packet passes, median", median(times), " ms", Budget::AtMost(20.0));

    caller.await_answer(address);
    report("new connections to a pod of 100 policies, 1,000 on the node / without policies", rate() / without, "", Budget::AtLeast(0.95));
}

fn path(resource: &str) -> String {
    match resource {
        "networkpolicies" => format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"),
        core => format!("/api/v1/namespaces/{NAMESPACE}/{core}"),
    }
}

/// One client's part of the peers, and then of the policies.
async fn fill(connection: &mut Connection, first: usize) {
    let pods = path("pods");
    for at in (first..PEERS).step_by(CLIENTS) {
        let name = format!("peer{at}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"group": group(at % POLICIES)}},
            "spec": {"nodeName": "elsewhere", "containers": [{"name": "c", "image": "none"}]}});
        connection.json("POST", &pods, pod.to_string()).await;
        let ip = format!("10.{}.{}.{}", 200 + at / 60_000, at / 250, 1 + at % 250);
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        patch(connection, &format!("{pods}/{name}/status"), &status).await;
    }
    for at in (first..POLICIES).step_by(CLIENTS) {
        let peers = json!([{"podSelector": {"matchLabels": {"group": group(at)}}}]);
        let selected = format!("selected{}", at % SELECTED);
        let spec = json!({"podSelector": {"matchLabels": {"app": selected}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"port": 80}]}]});
        let policy =
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("policy{at}")}, "spec": spec});
        connection.json("POST", &path("networkpolicies"), policy.to_string()).await;
    }
}

fn group(number: usize) -> String {
    format!("g{number}")
}

async fn patch(connection: &mut Connection, path: &str, patch: &Value) {
    let (status, body) = connection.send("PATCH", path, "application/merge-patch+json", patch.to_string()).await;
    assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
}

/// The policy that lets nobody in to the server, until it is changed.
fn gate_policy() -> Value {
    let spec = json!({"podSelector": {"matchLabels": {"app": "selected0"}}, "policyTypes": ["Ingress"]});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "gate"}, "spec": spec})
}

/// The policy that is changed.
struct Gate<'a> {
    runtime: &'a Runtime,
    connection: &'a mut Connection,
    caller: &'a End,
    /// Where datagrams are heard when it is open.
    server: SocketAddr,
}

impl Gate<'_> {
    /// Seconds from the change that lets the caller in until a packet of its has passed.
    fn opens_within(&mut self, heard: &UdpSocket) -> f64 {
        self.change(&Value::Null);
        self.await_silence(heard);
        heard.set_read_timeout(Some(PATIENCE)).expect("takes it");
        let over = AtomicBool::new(false);
        let (sending, server) = (self.datagrams(), self.server);
        // Whatever goes wrong here, the thread ends.
        let latest = Instant::now() + 2 * PATIENCE;
        let open = json!([{"from": [{"ipBlock": {"cidr": format!("{}/32", self.caller.ip)}}]}]);
        thread::scope(|scope| {
            let send_all = || {
                while !over.load(Ordering::Relaxed) && Instant::now() < latest {
                    // None is answered, so that none is refused.
                    let _ = sending.send_to(b"open?", server);
                    thread::sleep(Duration::from_micros(200));
                }
            };
            scope.spawn(send_all);
            let begun = Instant::now();
            self.change(&open);
            let arrived = heard.recv_from(&mut [0; 16]);
            let took = begun.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            arrived.expect("the change comes into force");
            took
        })
    }

    fn change(&mut self, ingress: &Value) {
        let path = format!("{}/gate", path("networkpolicies"));
        self.runtime.block_on(patch(self.connection, &path, &json!({"spec": {"ingress": ingress}})));
    }

    /// Waits until nothing new gets through, and nothing old is left to be read.
    fn await_silence(&self, heard: &UdpSocket) {
        heard.set_read_timeout(Some(SILENCE)).expect("takes it");
        eventually("the server is closed", || {
            while heard.recv_from(&mut [0; 16]).is_ok() {}
            // From a port of its own: replies and what goes on pass.
            let _ = self.datagrams().send_to(b"open?", self.server);
            heard.recv_from(&mut [0; 16]).is_err()
        });
    }

    fn datagrams(&self) -> UdpSocket {
        self.caller.within(|| UdpSocket::bind(("0.0.0.0", 0))).expect("binds")
    }
}
