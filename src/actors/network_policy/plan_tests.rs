//! What single policies come to. Random ones are compared with a reference where their peers are told (`controllers/network_policy`).

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_net::iptables::{ChainId, Family, RuleSet};

use super::{
    layout::TABLE,
    model::{Direction, PodView, PolicyView},
    names,
    plan::{closed, pod_rules},
};

pub fn pod(name: &str, labels: Value, ip: &str) -> PodView {
    let pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": ip},
    });
    PodView::of(&serde_json::from_value(pod).expect("a pod"))
}

pub fn policy(name: &str, spec: Value) -> PolicyView {
    let policy = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
    PolicyView::of(&serde_json::from_value(policy).expect("a policy"))
}

fn rules(spec: Value) -> RuleSet {
    pod_rules(&pod("p", json!({"app": "x"}), "10.244.0.5"), &[Arc::new(policy("some", spec))], Family::V4)
}

fn chain(rules: &RuleSet, direction: Direction) -> Option<Vec<String>> {
    rules.chains.get(&ChainId::new(TABLE, names::pod_chain(direction, &pod("p", json!({}), "10.244.0.5").key))).cloned()
}

#[test]
fn an_empty_policy_denies_what_comes_in_and_nothing_else() {
    let rules = rules(json!({"podSelector": {}}));
    let last = "-m comment --comment \"ns/p is isolated\" -j DROP";
    assert_eq!(chain(&rules, Direction::Ingress).expect("a chain"), ["-s 10.244.0.5/32 -j RETURN", last]);
    assert_eq!(chain(&rules, Direction::Egress), None);
    let lines: Vec<_> = rules.lines.iter().map(|line| (line.chain.name.as_str(), line.rule.as_str())).collect();
    let own = names::pod_chain(Direction::Ingress, &pod("p", json!({}), "10.244.0.5").key);
    assert_eq!(lines, [("TROUPE-NI-10.244.0.0", format!("-d 10.244.0.5/32 -j {own}").as_str())]);
}

#[test]
fn a_policy_of_others_is_none() {
    assert!(rules(json!({"podSelector": {"matchLabels": {"app": "y"}}})).is_empty());
    let pod = pod("p", json!({}), "10.244.0.5");
    let host = PodView { host_network: true, ..pod.clone() };
    let ended = PodView { ended: true, ..pod };
    for pod in [host, ended] {
        assert!(pod_rules(&pod, &[Arc::new(policy("some", json!({"podSelector": {}})))], Family::V4).is_empty());
    }
}

#[test]
fn who_lets_everything_in_isolates_nobody() {
    assert!(rules(json!({"podSelector": {}, "ingress": [{}]})).is_empty());
    assert!(rules(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}, {}]})).is_empty());
    assert!(!rules(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]})).is_empty());
}

#[test]
fn ports_are_matched_by_number_range_and_name() {
    let ports = json!([{"port": 80}, {"port": 90, "endPort": 99, "protocol": "UDP"}, {"port": "web"}, {"port": "gone"}, {"protocol": "SCTP"}]);
    let rules = rules(json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
    let allowed = chain(&rules, Direction::Ingress).expect("a chain");
    let matches = [
        "-p tcp -m comment --comment \"ns/some\" -m tcp --dport 80 -j RETURN",
        "-p udp -m comment --comment \"ns/some\" -m udp --dport 90:99 -j RETURN",
        "-p tcp -m comment --comment \"ns/some\" -m tcp --dport 8080 -j RETURN",
        "-p sctp -m comment --comment \"ns/some\" -j RETURN",
    ];
    assert_eq!(allowed[1..allowed.len() - 1], matches);
}

#[test]
fn long_names_fit_into_comments_and_addresses_of_another_family_need_no_chain() {
    let long = "n".repeat(253);
    let mut pod = pod(&long, json!({}), "10.244.0.5");
    let policies = [Arc::new(policy(&long, json!({"podSelector": {}, "egress": [{"ports": [{"port": 80}]}]})))];
    let rules = pod_rules(&pod, &policies, Family::V4);
    let comments = rules.chains.values().flatten().filter_map(|rule| rule.split('"').nth(1));
    assert!(comments.clone().count() == 3 && comments.clone().all(|comment| comment.len() <= 255));
    assert!(pod_rules(&pod, &policies, Family::V6).is_empty());
    pod.ips.push("fd00::5".parse().expect("an address"));
    let rules = pod_rules(&pod, &policies, Family::V6);
    assert!(rules.lines.iter().any(|line| line.rule.starts_with("-s fd00::5/128 -j ") && line.chain.name == names::EGRESS));
    assert_eq!(closed(&pod, Family::V4).chains.len(), 2);
}
