//! What one TCP connection carries between pods, beside networks made by hand.

use std::{net::SocketAddr, process::Command};

use super::{
    End,
    by_hand::{ByHand, Way},
    in_turns, run_pods, streams,
};
use crate::{
    cluster::{Cluster, eventually, text},
    figures::{Budget, report},
};

/// Where the pods are.
const NAMESPACE: &str = "default";

/// Between pods of two nodes on a shared link.
pub fn over_routes() {
    between_nodes("shared", "route", Way::Routes, "over plain routes");
}

/// Between pods of two nodes with a router in between.
pub fn over_vxlan() {
    between_nodes("routed", "vxlan", Way::Vxlan, "over VXLAN");
}

fn between_nodes(topology: &str, backend: &str, way: Way, what: &str) {
    let cluster = Cluster::place_of_several();
    cluster.start_with(&["--nodes", "2", "--topology", topology]);
    eventually("the nodes reach each other as they are to", || {
        let status = cluster.troupe_text(&["status"]);
        let works = |way: &str| status.lines().any(|line| line.starts_with(&format!("pod network {way} IPv4 {backend} ")) && line.ends_with(" ms"));
        works("it → it-2") && works("it-2 → it")
    });
    let [here, there] = run_pods(&cluster, NAMESPACE, [("here", "it"), ("there", "it-2")]);
    let address = SocketAddr::new(there.ip, streams::PORT);
    compare(&format!("one connection pod → pod {what}"), &here, &there, address, &ByHand::machines(way, mtu_of(&here)));
}

/// Reports what a connection from a pod to `address`, which leads to the other pod, carries beside one between the ends of a network made by hand.
pub fn compare(what: &str, from: &End, to: &End, address: SocketAddr, by_hand: &ByHand) {
    let (theirs, ours) = (streams::listen(&by_hand.to), streams::listen(to));
    let their_address = SocketAddr::new(by_hand.to.ip, streams::PORT);
    by_hand.from.await_answer(their_address);
    from.await_answer(address);
    let bare = || streams::bytes_per_second(&by_hand.from, their_address, &theirs);
    let (bytes, ratio) = in_turns(|| streams::bytes_per_second(from, address, &ours), bare);
    report(what, bytes / 1e6, " MB/s", Budget::None);
    report(&format!("{what} / the same made by hand"), ratio, "", Budget::AtLeast(0.95));
}

/// The largest packet that a pod sends.
pub fn mtu_of(pod: &End) -> u32 {
    let network = format!("--net={}", pod.network.display());
    let output = Command::new("nsenter").args([network.as_str(), "ip", "-o", "link", "show", "dev", "eth0"]).output().expect("ip runs");
    let told = text(&output.stdout);
    let mut words = told.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().and_then(|word| word.parse().ok()).expect("a pod has a link with an MTU")
}
