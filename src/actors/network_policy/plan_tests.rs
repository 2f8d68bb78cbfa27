//! What single policies come to. Random ones are compared with a reference where their peers are told (`controllers/network_policy`).

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_net::iptables::{ChainId, Family, RuleSet};

use super::{
    cluster::{ClusterPolicyView, parse},
    deciding::Deciding,
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

pub fn cluster_policy(name: &str, spec: Value) -> ClusterPolicyView {
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    parse(&serde_json::from_value(policy).expect("a policy")).policy.expect("is known here")
}

/// What decides where these are all.
pub fn deciding(policies: Vec<PolicyView>, cluster: Vec<ClusterPolicyView>) -> Deciding {
    let cluster = cluster.into_iter().map(Arc::new).collect();
    Deciding { policies: policies.into_iter().map(Arc::new).collect(), cluster, namespace: Some(Arc::default()) }
}

fn rules(spec: Value) -> RuleSet {
    pod_rules(&pod("p", json!({"app": "x"}), "10.244.0.5"), &deciding(vec![policy("some", spec)], Vec::new()), Family::V4)
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
        assert!(pod_rules(&pod, &deciding(vec![policy("some", json!({"podSelector": {}}))], Vec::new()), Family::V4).is_empty());
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
    let policies = deciding(vec![policy(&long, json!({"podSelector": {}, "egress": [{"ports": [{"port": 80}]}]}))], Vec::new());
    let rules = pod_rules(&pod, &policies, Family::V4);
    let comments = rules.chains.values().flatten().filter_map(|rule| rule.split('"').nth(1));
    assert!(comments.clone().count() == 3 && comments.clone().all(|comment| comment.len() <= 255));
    assert!(pod_rules(&pod, &policies, Family::V6).is_empty());
    pod.ips.push("fd00::5".parse().expect("an address"));
    let rules = pod_rules(&pod, &policies, Family::V6);
    assert!(rules.lines.iter().any(|line| line.rule.starts_with("-s fd00::5/128 -j ") && line.chain.name == "TROUPE-NE-6-00"));
    assert_eq!(closed(&pod, Family::V4).chains.len(), 2);
}

/// An administrators' policy about all pods, with blocks as peers of what goes out.
fn governed(tier: &str, priority: i32, rules: &[(&str, &str)]) -> Value {
    let rules: Vec<Value> = rules.iter().map(|(action, network)| json!({"action": action, "to": [{"networks": [network]}]})).collect();
    json!({"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "egress": rules})
}

/// The targets of the chain of what goes out, and of what comes behind it, each with the policy that the comment names.
fn egress(policies: Vec<PolicyView>, cluster: Vec<ClusterPolicyView>) -> Vec<Vec<String>> {
    let pod = pod("p", json!({"app": "x"}), "10.244.0.5");
    let rules = pod_rules(&pod, &deciding(policies, cluster), Family::V4);
    let chains = [names::pod_chain(Direction::Egress, &pod.key), names::next_tier_chain(Direction::Egress, &pod.key)];
    let said = |rule: &String| {
        let comment = rule.split('"').nth(1).unwrap_or_default().to_owned();
        format!("{} {comment}", rule.split_whitespace().last().unwrap_or_default()).trim_end().to_owned()
    };
    chains.iter().filter_map(|chain| Some(rules.chains.get(&ChainId::new(TABLE, chain))?.iter().map(said).collect())).collect()
}

#[test]
fn administrators_come_first_by_priority_and_then_by_name() {
    let some = |name: &str, priority, action: &str, network: &str| cluster_policy(name, governed("Admin", priority, &[(action, network)]));
    let policies = vec![some("a", 9, "Deny", "10.0.0.0/8"), some("c", 5, "Accept", "10.1.0.0/16"), some("b", 5, "Deny", "10.2.0.0/16")];
    let want = ["DROP Admin egress rule 1 of b: Deny", "RETURN Admin egress rule 1 of c: Accept", "DROP Admin egress rule 1 of a: Deny"];
    assert_eq!(egress(Vec::new(), policies), [want]);
    // What was decided is decided, whoever says what of it later.
    let policies = vec![some("a", 1, "Accept", "10.0.0.0/8"), some("b", 2, "Deny", "10.0.0.0/8")];
    assert_eq!(egress(Vec::new(), policies), [["RETURN Admin egress rule 1 of a: Accept"]]);
}

#[test]
fn the_baseline_is_asked_where_no_policy_isolates() {
    let baseline = || cluster_policy("base", governed("Baseline", 0, &[("Accept", "10.1.0.0/16"), ("Pass", "10.2.0.0/16"), ("Deny", "10.0.0.0/8")]));
    let of_baseline =
        ["RETURN Baseline egress rule 1 of base: Accept", "RETURN Baseline egress rule 2 of base: Pass", "DROP Baseline egress rule 3 of base: Deny"];
    assert_eq!(egress(Vec::new(), vec![baseline()]), [of_baseline]);
    let ingress_only = policy("in", json!({"podSelector": {}}));
    assert_eq!(egress(vec![ingress_only], vec![baseline()]), [of_baseline], "of another direction");
    let open = policy("open", json!({"podSelector": {}, "egress": [{}]}));
    assert_eq!(egress(vec![open], vec![baseline()]), [] as [Vec<String>; 0]);
    let shut = policy("shut", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    assert_eq!(egress(vec![shut], vec![baseline()]), [["RETURN", "DROP ns/p is isolated"]], "itself, and nothing else");
}

#[test]
fn who_passes_goes_on_to_the_next_tier() {
    let admin = || cluster_policy("adm", governed("Admin", 0, &[("Pass", "10.1.0.0/16"), ("Deny", "10.0.0.0/8")]));
    assert_eq!(egress(Vec::new(), vec![admin()]), [["RETURN Admin egress rule 1 of adm: Pass", "DROP Admin egress rule 2 of adm: Deny"]]);
    let next = names::next_tier_chain(Direction::Egress, &pod("p", json!({}), "10.244.0.5").key);
    let first = vec![format!("{next} Admin egress rule 1 of adm: Pass"), "DROP Admin egress rule 2 of adm: Deny".to_owned(), next];
    let baseline = cluster_policy("base", governed("Baseline", 0, &[("Deny", "0.0.0.0/0")]));
    let second = vec!["DROP Baseline egress rule 1 of base: Deny".to_owned()];
    assert_eq!(egress(Vec::new(), vec![baseline, admin()]), [first, second]);
}

#[test]
fn a_pod_of_a_namespace_that_is_not_known_yet_is_closed() {
    let pod = pod("p", json!({"app": "x"}), "10.244.0.5");
    let known = deciding(Vec::new(), vec![cluster_policy("some", governed("Admin", 0, &[("Deny", "10.0.0.0/8")]))]);
    assert_eq!(pod_rules(&pod, &Deciding { namespace: None, ..known }, Family::V4), closed(&pod, Family::V4));
    assert!(pod_rules(&pod, &Deciding::default(), Family::V4).is_empty(), "there is nothing to know");
}
