//! Answers of the cluster's DNS server a second of a core, and how long they take at half of what it does.

use std::{net::SocketAddr, time::Duration};

use super::{
    End,
    queries::{Answerer, Asker},
};
use crate::{
    cluster::{Cluster, NODE_IP, apply, eventually},
    figures::{Budget, report, report_beside},
    process::Process,
};

const NAMESPACE: &str = "kube-system";
/// A name of the cluster, and one that the server forwards and keeps.
const NAMES: [(&str, &str); 2] = [("cluster names", "kubernetes.default.svc.cluster.local"), ("cached forwarded names", "www.bench.test")];
/// Where the forwarded name is known.
const UPSTREAM_PORT: u16 = 5300;
/// `kubernetes/Scaling_CoreDNS.md` of `coredns/deployment`: one instance answers 33,669 queries for names of the cluster a second, and 33,667 for others,
/// by both cores of an n1-standard-2. The budget is twice that for a core.
const COREDNS: &str = "16,835/s";
const LEAST: f64 = 33_669.0;
const FLOOD: Duration = Duration::from_secs(2);
/// How many are asked at half of the rate.
const PACED: u16 = 30_000;

pub fn measure(cluster: &Cluster, from: &End) {
    let node = End { ip: NODE_IP.parse().expect("an address"), network: cluster.network_namespace().into() };
    let _upstream = Answerer::at(&node, UPSTREAM_PORT);
    apply(cluster, &config());
    // A new pod has the configuration from its start on.
    cluster.kubectl(&format!("-n {NAMESPACE} delete pod -l k8s-app=kube-dns --timeout=60s"));
    let is_ready = format!("-n {NAMESPACE} wait --for=condition=Ready pod -l k8s-app=kube-dns --timeout=1s");
    eventually("another pod is Ready", || cluster.kubectl_output(&is_ready).status.success());
    let pod = cluster.kubectl(&format!("-n {NAMESPACE} get pod -l k8s-app=kube-dns -o jsonpath={{.items[0].metadata.name}}"));
    let server = Process::new(cluster.process_of(NAMESPACE, &pod).parse().expect("a pid"));
    let address = SocketAddr::new(End::of(cluster, NAMESPACE, &pod).ip, 53);
    for (what, name) in NAMES {
        let asker = Asker::new(from, address, name);
        eventually(&format!("{name} is known"), || asker.is_answered());
        let before = server.cpu();
        let rate = asker.flood(FLOOD);
        let cores = (server.cpu() - before).as_secs_f64() / FLOOD.as_secs_f64();
        report(&format!("DNS: {what}, answered to one client"), rate, "/s", Budget::None);
        report_beside(&format!("DNS: {what}, answered by a core of the server"), rate / cores, "/s", Budget::AtLeast(LEAST), COREDNS);
        let waits = asker.ask_at(rate / 2.0, PACED);
        let slow = waits[waits.len() * 99 / 100].as_secs_f64() * 1000.0;
        report(&format!("DNS: {what}, 99th percentile at half of the load"), slow, " ms", Budget::AtMost(1.0));
    }
}

fn config() -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-dns, namespace: {NAMESPACE}}}\ndata: {{stubDomains: '{{\"bench.test\": \
         [\"{NODE_IP}:{UPSTREAM_PORT}\"]}}'}}\n"
    )
}
