//! What a pod asks about nodes and other pods, counted before anybody looks for it. How long its lists may be nobody says, and while it is
//! decided on everybody else waits.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{
    node_matching::{node_affinity, required},
    snapshot::Snapshot,
};

/// Comparisons that a pod may ask for, however few nodes and pods there are.
const MOST: usize = 500_000;
/// It may ask for so many of each node and each pod besides, however many there are.
const OF_EACH: usize = 64;
/// So many values of a requirement on nodes take as long as one requirement.
const VALUES: usize = 8;

/// An attempt of so many comparisons is over at once.
const FEW: usize = 50_000;
/// How long a pod rests after an attempt for each one more.
const REST: Duration = Duration::from_micros(100);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What a pod is told that asks for more.
pub const TOO_MUCH: &str = "the pod's affinity, topology spread constraints and tolerations ask for too many comparisons with nodes and pods";

/// How many requirements are compared with nodes and pods where a node is looked for; more rather than fewer.
pub fn comparisons(pod: &Pod, cluster: &Snapshot) -> usize {
    let Some(spec) = &pod.spec else { return 0 };
    let own = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (terms, spread) = (terms(spec), spec.topology_spread_constraints.as_deref().unwrap_or_default());
    let of_terms = terms.iter().map(|term| of_term(term, own, cluster));
    let of_spread = spread.iter().map(|constraint| size(constraint.label_selector.as_ref()).saturating_mul(cluster.pods_in(own)));
    let (needed, preferred) = of_node_affinity(spec);
    let tolerations = spec.tolerations.as_ref().map_or(0, Vec::len);
    // Each constraint asks which nodes the pod may have.
    let filtered = (needed + tolerations).saturating_mul(1 + spread.len());
    let of_nodes = (filtered + preferred + terms.len() + spread.len()).saturating_mul(cluster.nodes().len());
    of_terms.chain(of_spread).fold(of_nodes, usize::saturating_add)
}

/// Whether these are more than a decision may take.
pub fn is_too_much(comparisons: usize, cluster: &Snapshot) -> bool {
    let all = cluster.nodes().len().saturating_add(cluster.pods());
    comparisons > MOST.saturating_add(OF_EACH.saturating_mul(all))
}

/// How long a pod with an attempt of so many comparisons rests at least, so that those of many such pods leave time for others.
pub fn rest(comparisons: usize) -> Duration {
    let many = u32::try_from(comparisons.saturating_sub(FEW)).unwrap_or(u32::MAX);
    REST.saturating_mul(many).min(LONGEST_REST)
}

fn terms(spec: &PodSpec) -> Vec<&PodAffinityTerm> {
    let Some(affinity) = &spec.affinity else { return Vec::new() };
    let (together, apart) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = [
        together.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()),
        apart.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = [
        together.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref()),
        apart.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let weighted = preferred.into_iter().flatten().flatten().map(|term| &term.pod_affinity_term);
    required.into_iter().flatten().flatten().chain(weighted).collect()
}

/// A term is compared with all pods of its namespaces. Which ones a selector means is not looked up for this.
fn of_term(term: &PodAffinityTerm, own: &str, cluster: &Snapshot) -> usize {
    let names = term.namespaces.as_deref().unwrap_or_default();
    let pods = match &term.namespace_selector {
        Some(_) => cluster.pods(),
        None if names.is_empty() => cluster.pods_in(own),
        None => names.iter().map(|name| cluster.pods_in(name)).sum(),
    };
    (names.len() + size(term.label_selector.as_ref())).saturating_mul(pods).saturating_add(names.len())
}

fn size(selector: Option<&LabelSelector>) -> usize {
    let Some(selector) = selector else { return 1 };
    1 + selector.match_labels.as_ref().map_or(0, |labels| labels.len()) + selector.match_expressions.as_ref().map_or(0, Vec::len)
}

/// Requirements of the affinity to nodes: what must hold, and what is preferred.
fn of_node_affinity(spec: &PodSpec) -> (usize, usize) {
    let of_term = |term: &NodeSelectorTerm| {
        let requirements = term.match_expressions.iter().flatten().chain(term.match_fields.iter().flatten());
        1 + requirements.map(|requirement| 1 + requirement.values.as_ref().map_or(0, Vec::len) / VALUES).sum::<usize>()
    };
    let selector = spec.node_selector.as_ref().map_or(0, |labels| labels.len());
    let needed: usize = required(spec).into_iter().flat_map(|selector| &selector.node_selector_terms).map(of_term).sum();
    let preferred = node_affinity(spec).and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    (selector + needed, preferred.into_iter().flatten().map(|term| of_term(&term.preference)).sum())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use troupe_api::meta::ObjectKey;

    use super::*;

    fn cluster(nodes: usize, pods: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for at in 0..nodes {
            snapshot.set_node(Arc::new(serde_json::from_value(json!({"metadata": {"name": format!("node-{at}")}})).expect("a node")));
        }
        for at in 0..pods {
            let namespace = if at % 2 == 0 { "even" } else { "odd" };
            snapshot.set_pod("node-0", &pod(&format!("pod-{at}"), namespace, json!({})));
        }
        snapshot
    }

    fn pod(name: &str, namespace: &str, spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec})).expect("a pod")
    }

    fn terms(count: usize, term: &Value) -> Value {
        let term = |at: usize| {
            let mut term = term.clone();
            term["topologyKey"] = json!("kubernetes.io/hostname");
            term["labelSelector"] = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [format!("x{at}")]}]});
            term
        };
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": (0..count).map(term).collect::<Vec<_>>()}}})
    }

    #[test]
    fn terms_are_compared_with_the_pods_of_their_namespaces() {
        let cluster = cluster(1, 10);
        let asked = |term: &Value| comparisons(&pod("p", "even", terms(3, term)), &cluster);
        // Each of three terms has one requirement, counts as one itself, and is asked of the node.
        assert_eq!(asked(&json!({})), 3 * 2 * 5 + 3);
        assert_eq!(asked(&json!({"namespaceSelector": {}})), 3 * 2 * 10 + 3);
        assert_eq!(asked(&json!({"namespaces": ["odd"]})), 3 * (3 * 5 + 1) + 3);
        assert_eq!(asked(&json!({"namespaces": ["nobody"]})), 3 + 3);
    }

    #[test]
    fn pods_that_go_are_counted_no_more() {
        let mut cluster = cluster(1, 10);
        assert_eq!((cluster.pods(), cluster.pods_in("even"), cluster.pods_in("odd")), (10, 5, 5));
        for at in 0..4 {
            let namespace = if at % 2 == 0 { "even" } else { "odd" };
            assert!(cluster.remove_pod(&ObjectKey::new(namespace, format!("pod-{at}"))).is_some());
        }
        assert_eq!((cluster.pods(), cluster.pods_in("even"), cluster.pods_in("odd")), (6, 3, 3));
        cluster.remove_node("node-0");
        assert_eq!((cluster.pods(), cluster.pods_in("even"), cluster.pods_in("odd")), (0, 0, 0));
    }

    #[test]
    fn constraints_ask_about_nodes_whatever_must_hold_for_these() {
        let values: Vec<String> = (0..800).map(|at| format!("node-{at}")).collect();
        let needed = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": values}]}]);
        let constraint = |at: usize| json!({"maxSkew": 1, "topologyKey": format!("k{at}"), "whenUnsatisfiable": "ScheduleAnyway"});
        let spec = json!({
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": needed}}},
            "topologySpreadConstraints": (0..9).map(constraint).collect::<Vec<_>>(),
        });
        assert_eq!(comparisons(&pod("p", "nobody", spec), &cluster(4, 0)), (102 * 10 + 9) * 4);
    }

    #[test]
    fn long_lists_are_too_much_where_there_is_much_to_compare_and_ordinary_ones_nowhere() {
        let everywhere = json!({"namespaceSelector": {}});
        let is_refused =
            |terms_of: usize, cluster: &Snapshot| is_too_much(comparisons(&pod("p", "even", terms(terms_of, &everywhere)), cluster), cluster);
        let (small, large) = (cluster(3, 30), cluster(10, 3000));
        assert!(!is_refused(3000, &small));
        assert!(is_refused(3000, &large));
        assert!(!is_refused(30, &large));
        assert!(!is_too_much(MOST, &Snapshot::default()) && is_too_much(MOST + 1, &Snapshot::default()));
    }

    #[test]
    fn whoever_asks_much_rests_long() {
        assert_eq!((rest(FEW), rest(FEW + 10_000)), (Duration::ZERO, Duration::from_secs(1)));
        assert_eq!((rest(MOST), rest(usize::MAX)), (Duration::from_secs(45), LONGEST_REST));
    }
}
