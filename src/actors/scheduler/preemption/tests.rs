use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use serde_json::{Value, json};

use super::*;
use crate::scheduler::{
    budget::Budget,
    decide::{Decision, SchedulingContext, Unschedulable, decide},
    object_lookup::NoObjects,
    plugins::default_profile,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

fn node(name: &str) -> Arc<Node> {
    let labels = json!({"kubernetes.io/hostname": name, "zone": "z"});
    let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "10"});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}})).expect("a node"))
}

fn pod(name: &str, priority: i32, cpu: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    });
    for part in ["metadata", "spec", "status"] {
        for (key, value) in more[part].as_object().into_iter().flatten() {
            pod[part][key] = value.clone();
        }
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn started(time: &str) -> Value {
    json!({"status": {"startTime": time}})
}

/// Nodes with pods, by the names of the nodes.
fn cluster(nodes: &[(&str, Vec<Arc<Pod>>)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, pods) in nodes {
        snapshot.set_node(node(name));
        pods.iter().for_each(|pod| drop(snapshot.set_pod(name, pod)));
    }
    snapshot
}

fn attempt_within(snapshot: &Snapshot, pod: &Arc<Pod>, budgets: &[Budget]) -> Decision {
    let profile = default_profile();
    let context = SchedulingContext { profile: &profile, cluster: snapshot, start: 0, chance: 0, budgets: &|| budgets.to_vec(), ranked: &|_| () };
    decide(&PodInfo::new(pod.clone(), &NoObjects), &context).0
}

fn failure(snapshot: &Snapshot, pod: &Arc<Pod>) -> Unschedulable {
    match attempt_within(snapshot, pod, &[]) {
        Decision::Unschedulable(unschedulable) => unschedulable,
        Decision::Bind { node } => panic!("it fits on {node}"),
        Decision::Failed(why) => panic!("{why}"),
    }
}

/// The node and the names of the victims.
fn preempted(decision: Decision) -> Option<(String, Vec<String>)> {
    let Decision::Unschedulable(Unschedulable { preemption: Some(preemption), nomination, .. }) = decision else { return None };
    assert_eq!(nomination, Nomination::Set(preemption.node.clone()));
    Some((preemption.node.to_string(), preemption.victims.iter().map(|victim| victim.key.name.to_string()).collect()))
}

fn victims(snapshot: &Snapshot, pod: &Arc<Pod>) -> Option<(String, Vec<String>)> {
    preempted(attempt_within(snapshot, pod, &[]))
}

fn on(node: &str, pods: &[&str]) -> Option<(String, Vec<String>)> {
    Some((node.to_owned(), pods.iter().map(|pod| (*pod).to_owned()).collect()))
}

#[test]
fn the_least_important_pods_go_and_no_more_than_needed() {
    let pods = vec![pod("a", 5, "1", json!({})), pod("b", 1, "1", json!({})), pod("c", 1, "2", json!({}))];
    let snapshot = cluster(&[("one", pods)]);
    assert_eq!(victims(&snapshot, &pod("p", 10, "2", json!({}))), on("one", &["c"]));
    assert_eq!(victims(&snapshot, &pod("p", 10, "3", json!({}))), on("one", &["b", "c"]));
    assert_eq!(victims(&snapshot, &pod("p", 10, "4", json!({}))), on("one", &["a", "b", "c"]));
    let message = failure(&snapshot, &pod("p", 10, "2", json!({}))).message;
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn of_equal_pods_the_youngest_go() {
    let pods = vec![pod("old", 1, "2", started("2026-01-01T00:00:00Z")), pod("young", 1, "2", started("2026-01-02T00:00:00Z"))];
    assert_eq!(victims(&cluster(&[("one", pods)]), &pod("p", 10, "1", json!({}))), on("one", &["young"]));
}

#[test]
fn the_node_is_taken_where_it_hurts_least() {
    let preemptor = pod("p", 10, "4", json!({}));
    let lower = cluster(&[("one", vec![pod("a", 5, "4", json!({}))]), ("two", vec![pod("b", 4, "2", json!({})), pod("c", 4, "2", json!({}))])]);
    assert_eq!(victims(&lower, &preemptor), on("two", &["b", "c"]), "the most important victim is less important");
    let sum = cluster(&[("one", vec![pod("a", 4, "2", json!({})), pod("b", 3, "2", json!({}))]), ("two", vec![pod("c", 4, "4", json!({}))])]);
    assert_eq!(victims(&sum, &preemptor), on("two", &["c"]), "the sum of priorities is smaller");
    let negative = cluster(&[("one", vec![pod("a", -4, "2", json!({})), pod("b", -4, "2", json!({}))]), ("two", vec![pod("c", -4, "4", json!({}))])]);
    assert_eq!(victims(&negative, &preemptor), on("two", &["c"]), "fewer of negative priority");
    let age = cluster(&[
        ("one", vec![pod("a", 4, "4", started("2026-01-01T00:00:00Z"))]),
        ("two", vec![pod("b", 4, "4", started("2026-01-02T00:00:00Z"))]),
    ]);
    assert_eq!(victims(&age, &preemptor), on("two", &["b"]), "it began later");
}

#[test]
fn budgets_are_spared_where_that_is_possible() {
    let budget = |name: &str, allowed: i32, disrupted: Value| {
        let spec = json!({"selector": {"matchLabels": {"app": name}}});
        let status = json!({"disruptionsAllowed": allowed, "disruptedPods": disrupted, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
        let budget = json!({"metadata": {"namespace": "n", "name": name}, "spec": spec, "status": status});
        Budget::of(&serde_json::from_value::<PodDisruptionBudget>(budget).expect("a budget"))
    };
    let preemptor = pod("p", 10, "2", json!({}));
    let snapshot = cluster(&[("one", vec![pod("guarded", 1, "2", json!({})), pod("free", 2, "2", json!({}))])]);
    let within = |budgets: &[Budget]| preempted(attempt_within(&snapshot, &preemptor, budgets));
    assert_eq!(within(&[]), on("one", &["guarded"]));
    assert_eq!(within(&[budget("guarded", 0, json!({}))]), on("one", &["free"]), "the more important one goes for the budget's sake");
    assert_eq!(within(&[budget("guarded", 1, json!({}))]), on("one", &["guarded"]));
    assert_eq!(within(&[budget("guarded", 0, json!({"guarded": "2026-01-01T00:00:00Z"}))]), on("one", &["guarded"]), "it is counted already");
    let two = cluster(&[("one", vec![pod("guarded", 1, "4", json!({}))]), ("two", vec![pod("free", 9, "4", json!({}))])]);
    assert_eq!(preempted(attempt_within(&two, &preemptor, &[budget("guarded", 0, json!({}))])), on("two", &["free"]));
    let only = cluster(&[("one", vec![pod("guarded", 1, "4", json!({}))])]);
    assert_eq!(preempted(attempt_within(&only, &preemptor, &[budget("guarded", 0, json!({}))])), on("one", &["guarded"]), "if there is no other way");
}

#[test]
fn a_pod_says_why_it_preempts_nobody() {
    let snapshot = cluster(&[("one", vec![pod("a", 10, "4", json!({}))]), ("two", vec![pod("b", 1, "1", json!({}))])]);
    let said = |pod: Arc<Pod>| failure(&snapshot, &pod).message;
    assert_eq!(
        said(pod("p", 10, "4", json!({"spec": {"preemptionPolicy": "Never"}}))),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
    let elsewhere = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "one"}}});
    assert_eq!(
        said(pod("p", 10, "4", elsewhere)),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are \
         available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        said(pod("p", 10, "5", json!({}))),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let not_enough = cluster(&[("one", vec![pod("a", 10, "3", json!({})), pod("b", 1, "1", json!({}))])]);
    let message = failure(&not_enough, &pod("p", 10, "2", json!({}))).message;
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn names_of_nodes_leave_the_others_out() {
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["one"]});
    let required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    let pinned = json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}});
    let snapshot = cluster(&[("one", vec![pod("a", 10, "4", json!({}))]), ("two", vec![])]);
    assert_eq!(
        failure(&snapshot, &pod("p", 10, "4", pinned)).message,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/2 nodes are available: \
         1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_waits_for_those_that_leave_for_it() {
    let leaving = json!({
        "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
    });
    let snapshot = cluster(&[("one", vec![pod("a", 1, "2", leaving), pod("b", 1, "2", json!({}))])]);
    let nominated = pod("p", 10, "2", json!({"status": {"nominatedNodeName": "one"}}));
    let Unschedulable { message, nomination, preemption, .. } = failure(&snapshot, &nominated);
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node.");
    assert_eq!((nomination, preemption), (Nomination::Keep, None));
}

#[test]
fn a_nominated_pod_gets_its_node_and_others_do_not() {
    let mut snapshot = cluster(&[("one", vec![]), ("two", vec![pod("a", 10, "3", json!({}))])]);
    let nominated = pod("p", 10, "3", json!({"status": {"nominatedNodeName": "one"}}));
    snapshot.nominations_mut().set(Arc::new(PlacedPod::of(&nominated)), "one");
    assert_eq!(attempt_within(&snapshot, &nominated, &[]), Decision::Bind { node: "one".into() });
    let message = failure(&snapshot, &pod("q", 10, "2", json!({}))).message;
    assert!(message.starts_with("0/2 nodes are available: 2 Insufficient cpu."), "{message}");
    assert_eq!(attempt_within(&snapshot, &pod("q", 11, "2", json!({})), &[]), Decision::Bind { node: "one".into() }, "the more important one may");
    assert_eq!(attempt_within(&snapshot, &pod("q", 1, "1", json!({})), &[]), Decision::Bind { node: "one".into() }, "there is room for both");
}

#[test]
fn pods_go_that_another_one_must_not_be_near() {
    let apart = |label: &str| {
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": label}}});
        json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
    };
    let snapshot = cluster(&[("one", vec![pod("a", 1, "1", json!({})), pod("b", 1, "1", json!({}))])]);
    assert_eq!(victims(&snapshot, &pod("p", 10, "1", apart("b"))), on("one", &["b"]));
    let unwelcome = cluster(&[("one", vec![pod("a", 1, "1", apart("p")), pod("b", 1, "1", json!({}))])]);
    assert_eq!(victims(&unwelcome, &pod("p", 10, "1", json!({}))), on("one", &["a"]));
    let important = cluster(&[("one", vec![pod("a", 20, "1", apart("p"))])]);
    assert_eq!(victims(&important, &pod("p", 10, "1", json!({}))), None);
}
