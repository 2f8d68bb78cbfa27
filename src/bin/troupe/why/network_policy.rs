//! Which pods a network policy isolates, and what it lets through. Pure.

use serde_json::Value;
use troupe_actors::network_policy::model::{Direction, PeerSelector, Peers, PodView, PolicyView, PortMatch, RuleView};
use troupe_api::meta::LabelSelector;

use super::{
    report::{Reason, Report},
    tree::text,
};

/// A policy with the pods of its namespace.
#[derive(Clone, Debug, Default)]
pub struct PolicyFacts {
    pub policy: Value,
    pub pods: Vec<Value>,
}

/// Pods that are named.
const SHOWN: usize = 10;

/// Explains a policy.
pub fn explain(facts: &PolicyFacts) -> Report {
    let meta = &facts.policy["metadata"];
    let object = format!("network policy {}/{}", text(&meta["namespace"]), text(&meta["name"]));
    let Some(policy) = parse(&facts.policy) else {
        return Report { object, state: "it cannot be read".into(), ..Report::default() };
    };
    let pods: Vec<PodView> = facts.pods.iter().filter_map(view).collect();
    let chosen: Vec<&PodView> = pods.iter().filter(|pod| policy.selects(pod)).collect();
    let mut reasons = vec![selected(&policy, &pods, &chosen)];
    for direction in [Direction::Ingress, Direction::Egress] {
        reasons.push(way(&policy, direction));
    }
    Report { object, state: format!("isolates {} of {} pods of its namespace", chosen.len(), pods.len()), reasons, ..Report::default() }
}

/// The policies that isolate a pod, as a remark about it.
pub fn of_pod(pod: &Value, policies: &[Value]) -> Option<Reason> {
    let pod = view(pod)?;
    let chosen: Vec<PolicyView> = policies.iter().filter_map(parse).filter(|policy| policy.selects(&pod)).collect();
    let names: Vec<String> = chosen.iter().map(|policy| format!("{} ({})", policy.key.name, ways(policy))).collect();
    let first = &chosen.first()?.key;
    let hint = format!("troupe why networkpolicy/{} -n {} tells what it lets through", first.name, first.namespace);
    Some(Reason::new(format!("network policies isolate it: {}", names.join(", "))).hint(hint))
}

fn parse(policy: &Value) -> Option<PolicyView> {
    serde_json::from_value(policy.clone()).ok().map(|policy| PolicyView::of(&policy))
}

fn view(pod: &Value) -> Option<PodView> {
    serde_json::from_value(pod.clone()).ok().map(|pod| PodView::of(&pod))
}

fn ways(policy: &PolicyView) -> &'static str {
    match (&policy.ingress, &policy.egress) {
        (Some(_), Some(_)) => "what comes in and goes out",
        (Some(_), None) => "what comes in",
        (None, Some(_)) => "what goes out",
        (None, None) => "nothing",
    }
}

fn selected(policy: &PolicyView, pods: &[PodView], chosen: &[&PodView]) -> Reason {
    if chosen.is_empty() {
        return Reason::new(format!("no pod that has its own network is {}", labels(&policy.selector)))
            .hint("compare podSelector with kubectl get pods --show-labels");
    }
    let mut names: Vec<String> = chosen.iter().take(SHOWN).map(|pod| pod.key.name.to_string()).collect();
    if chosen.len() > SHOWN {
        names.push(format!("and {} more", chosen.len() - SHOWN));
    }
    let on_host = pods.iter().filter(|pod| pod.host_network).count();
    let reason = Reason::new(format!("it is about {}", names.join(", ")));
    if on_host > 0 { reason.details([format!("{on_host} pods have their node's network: policies are not about these")]) } else { reason }
}

fn way(policy: &PolicyView, direction: Direction) -> Reason {
    let (nothing, some, free) = match direction {
        Direction::Ingress => ("nothing comes in but from the pod's node", "comes in", "what comes in is not its matter"),
        Direction::Egress => ("nothing goes out but to the pod's node", "goes out", "what goes out is not its matter"),
    };
    match policy.rules(direction) {
        None => Reason::new(free),
        Some([]) => Reason::new(nothing).hint("other policies may let more through: what any of them allows passes"),
        Some(rules) => Reason::new(format!("{some}:")).details(rules.iter().map(|rule| described(rule, direction))),
    }
}

fn described(rule: &RuleView, direction: Direction) -> String {
    let word = if direction == Direction::Ingress { "from" } else { "to" };
    let peers = match &rule.peers {
        Peers::Everybody => "everybody".to_owned(),
        Peers::Of { selectors, blocks, .. } => {
            let blocks = blocks.iter().map(ToString::to_string);
            selectors.iter().map(described_pods).chain(blocks).collect::<Vec<_>>().join(", ")
        }
    };
    let ports = match &rule.ports {
        None => "all ports".to_owned(),
        Some(ports) => ports.iter().map(described_port).collect::<Vec<_>>().join(", "),
    };
    format!("{word} {peers}, {ports}")
}

fn described_pods(selector: &PeerSelector) -> String {
    let place = match &selector.namespaces {
        None => format!("namespace {}", selector.home),
        Some(all) if all.is_everything() => "all namespaces".into(),
        Some(some) => format!("namespaces {}", labels(some)),
    };
    if selector.pods.is_everything() { format!("all pods of {place}") } else { format!("pods {} of {place}", labels(&selector.pods)) }
}

fn labels(selector: &LabelSelector) -> String {
    if selector.is_everything() { "there".into() } else { format!("labelled {selector}") }
}

fn described_port(port: &PortMatch) -> String {
    match port {
        PortMatch::All(protocol) => format!("all ports of {}", protocol.upper()),
        PortMatch::Range(protocol, first, last) if first == last => format!("{} {first}", protocol.upper()),
        PortMatch::Range(protocol, first, last) => format!("{} {first}-{last}", protocol.upper()),
        PortMatch::Named(protocol, name) => format!("{} {name}", protocol.upper()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": name, "labels": {"app": app}}, "spec": {"containers": []}})
    }

    fn policy(spec: Value) -> Value {
        json!({"metadata": {"namespace": "d", "name": "some"}, "spec": spec})
    }

    #[test]
    fn pods_and_permissions_are_told() {
        let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 80}, {"port": "dns", "protocol": "UDP"}]},
            {"from": [{"namespaceSelector": {}}], "ports": [{"port": 90, "endPort": 99}]}]});
        let facts = PolicyFacts { policy: policy(spec), pods: vec![pod("web-1", "web"), pod("db", "db")] };
        let text = explain(&facts).text();
        for wanted in [
            "network policy d/some: isolates 1 of 2 pods of its namespace",
            "it is about web-1",
            "from pods labelled app=client of namespace d, 192.0.2.0/24, TCP 80, UDP dns",
            "from all pods of all namespaces, TCP 90-99",
            "nothing goes out but to the pod's node",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_pod_is_told_who_isolates_it() {
        let all = [policy(json!({"podSelector": {}})), policy(json!({"podSelector": {"matchLabels": {"app": "db"}}}))];
        let reason = of_pod(&pod("web-1", "web"), &all).expect("one does");
        assert_eq!(reason.what, "network policies isolate it: some (what comes in)");
        let host = json!({"metadata": {"namespace": "d", "name": "h"}, "spec": {"hostNetwork": true, "containers": []}});
        assert_eq!(of_pod(&host, &all), None);
        let nobody = PolicyFacts { policy: policy(json!({"podSelector": {"matchLabels": {"app": "gone"}}})), pods: vec![pod("web-1", "web")] };
        assert!(explain(&nobody).text().contains("no pod that has its own network is labelled app=gone"));
    }
}
