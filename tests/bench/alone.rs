//! The node daemon as a process of its own.

use std::{thread, time::Duration};

use crate::{
    cluster::{Cluster, eventually},
    figures::{Budget, report},
    process::Process,
};

pub fn measure() {
    let cluster = Cluster::place();
    let control_plane = cluster.daemon("control-plane", &[]);
    eventually("the control plane writes the node's kubeconfig", || cluster.path("node.kubeconfig").exists());
    let node = cluster.daemon("node", &[]);
    eventually("the node is Ready", || cluster.kubectl_output("wait --for=condition=Ready node/it --timeout=1s").status.success());
    cluster.kubectl("-n kube-system rollout status daemonset --timeout=60s");
    thread::sleep(Duration::from_secs(10));
    for (what, daemon, budget) in [("node daemon alone", &node, Budget::AtMost(25.0)), ("control plane alone", &control_plane, Budget::None)] {
        let pid = i32::try_from(daemon.id()).expect("a pid");
        report(&format!("resident, idle, {what}"), Process::new(pid).resident_mib(), " MiB", budget);
    }
    drop((node, control_plane));
}
