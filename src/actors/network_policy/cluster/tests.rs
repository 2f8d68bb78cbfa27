use serde_json::{Value, json};
use troupe_net::iptables::SetKind;

use super::*;
use crate::network_policy::model::{Direction, Labels, PeerSet, Peers, PodView, PortMatch, Protocol};

fn of(spec: Value) -> Parsed {
    let policy: ClusterNetworkPolicy = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy");
    parse(&policy)
}

fn egress(rule: Value) -> (Vec<ClusterRule>, Vec<String>) {
    let parsed = of(json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [rule]}));
    (parsed.policy.expect("has a place").egress, parsed.problems)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(spec: Value) -> PodView {
    let pod = json!({"metadata": {"namespace": "ns", "name": "p", "labels": {"app": "x"}}, "spec": spec});
    PodView::of(&serde_json::from_value(pod).expect("a pod"))
}

#[test]
fn subjects_are_pods_by_their_labels_and_those_of_their_namespaces() {
    let subject = json!({"pods": {"namespaceSelector": {"matchLabels": {"team": "red"}}, "podSelector": {"matchLabels": {"app": "x"}}}});
    let policy = of(json!({"tier": "Baseline", "priority": 7, "subject": subject})).policy.expect("has a place");
    assert_eq!((policy.tier, policy.priority), (Tier::Baseline, 7));
    let own = pod(json!({"containers": []}));
    assert!(policy.selects(&own, &labels(&[("team", "red")])));
    assert!(!policy.selects(&own, &labels(&[("team", "blue")])));
    assert!(!policy.selects(&pod(json!({"hostNetwork": true, "containers": []})), &labels(&[("team", "red")])));
    let all = of(json!({"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}})).policy.expect("has a place");
    assert!(all.selects(&own, &labels(&[])));
}

#[test]
fn peers_and_ports_of_every_kind_are_read() {
    let peers = json!([
        {"namespaces": {}}, {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}},
        {"nodes": {"matchLabels": {"c": "d"}}}, {"networks": ["10.1.2.3/8", "fd00::/8"]},
    ]);
    let protocols = json!([
        {"tcp": {"destinationPort": {"number": 80}}}, {"udp": {}}, {"sctp": {"destinationPort": {"range": {"start": 1, "end": 9}}}},
        {"destinationNamedPort": "web"},
    ]);
    let (rules, problems) = egress(json!({"action": "Deny", "to": peers, "protocols": protocols}));
    assert_eq!(problems, [] as [String; 0]);
    let rule = &rules[0].rule;
    let ports = rule.ports.clone().expect("has some");
    assert_eq!(ports[..3], [PortMatch::Range(Protocol::Tcp, 80, 80), PortMatch::All(Protocol::Udp), PortMatch::Range(Protocol::Sctp, 1, 9)]);
    assert_eq!(ports.len(), 6, "a name is one of any protocol");
    let sets = rule.peer_sets(Direction::Egress, &HOME.into());
    let named = sets.iter().filter(|set| set.kind() == SetKind::AddressPort).count();
    assert_eq!((sets.len(), named), (10, 6), "{sets:?}");
    assert!(sets.iter().any(|set| matches!(set, PeerSet::Blocks(blocks) if blocks[0].to_string() == "10.0.0.0/8")));
}

#[test]
fn what_is_not_known_here_fails_closed_and_is_named() {
    for (peer, said) in [
        (json!({"planets": ["mars"]}), "spec.egress[0].to[0] is of a kind that is not known here"),
        (json!({"networks": ["10.0.0.0/33"]}), "spec.egress[0].to[0].networks[0] is no range of addresses"),
    ] {
        let (rules, problems) = egress(json!({"action": "Accept", "to": [peer]}));
        assert_eq!((rules.len(), problems), (0, vec![format!("{said}: nothing is accepted by it")]));
        for action in ["Deny", "Pass"] {
            let (rules, problems) = egress(json!({"action": action, "to": [peer]}));
            assert_eq!((rules[0].action, &rules[0].rule.peers, &rules[0].rule.ports), (Action::Deny, &Peers::Everybody, &None));
            assert_eq!(problems, [format!("{said}: the rule denies everything")]);
        }
    }
    let (rules, problems) = egress(json!({"action": "Accept", "to": [{"planets": ["mars"]}, {"networks": ["10.0.0.0/8"]}]}));
    assert_eq!((rules.len(), problems.len()), (1, 1), "what it names beside that is accepted");
    let (rules, problems) = egress(json!({"action": "Accept", "to": [{"namespaces": {}}], "protocols": [{"quic": {}}]}));
    assert_eq!((rules.len(), problems.len()), (0, 1));
    let (rules, _) = egress(json!({"action": "Log", "to": [{"namespaces": {}}]}));
    assert_eq!((rules[0].action, &rules[0].rule.peers), (Action::Deny, &Peers::Everybody));
}

#[test]
fn domain_names_are_peers_of_rules_that_accept() {
    let peers = json!([{"domainNames": ["Example.com.", "*.example.com", "example.com"]}, {"networks": ["10.0.0.0/8"]}]);
    let protocols = json!([{"tcp": {"destinationPort": {"number": 443}}}]);
    let (rules, problems) = egress(json!({"action": "Accept", "to": peers, "protocols": protocols}));
    assert_eq!(problems, [] as [String; 0]);
    let sets = rules[0].rule.peer_sets(Direction::Egress, &HOME.into());
    let domains: Vec<&str> = sets.iter().filter_map(|set| if let PeerSet::Domain(name) = set { Some(name.as_str()) } else { None }).collect();
    assert_eq!((sets.len(), domains), (3, vec!["*.example.com", "example.com"]), "each once");
    assert_ne!(sets[1].id(), sets[2].id());
    for action in ["Deny", "Pass"] {
        let (rules, problems) = egress(json!({"action": action, "to": peers}));
        assert_eq!((rules[0].action, &rules[0].rule.peers), (Action::Deny, &Peers::Everybody));
        assert_eq!(problems, ["spec.egress[0].to[0].domainNames are for rules that accept: the rule denies everything"]);
    }
    let (rules, problems) = egress(json!({"action": "Accept", "to": [{"domainNames": ["*.io", "kubernetes.io"]}]}));
    assert_eq!(problems, ["spec.egress[0].to[0].domainNames[0] is no domain name: nothing is accepted by it"]);
    assert_eq!(rules[0].rule.peer_sets(Direction::Egress, &HOME.into()).len(), 1, "what it names beside that is accepted");
}

#[test]
fn a_policy_without_a_place_has_no_effect_and_says_so() {
    let unplaced = of(json!({"tier": "Other", "priority": 1, "subject": {}}));
    assert_eq!((unplaced.policy, unplaced.problems.len()), (None, 2));
}
