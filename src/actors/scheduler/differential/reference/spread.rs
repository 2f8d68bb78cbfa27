//! Spread constraints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Node, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};

use super::{Reference, Verdict, is_empty, label, labels_of, namespace_of, selects};

/// A constraint with its defaults.
struct Constraint {
    of: TopologySpreadConstraint,
    is_default: bool,
}

impl Reference<'_> {
    fn constraints(&self, action: &str) -> Vec<Constraint> {
        let own = self.pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.clone()).unwrap_or_default();
        if own.is_empty() {
            let selector = LabelSelector { match_labels: Some(self.cluster.around.default_selector.clone()), ..LabelSelector::default() };
            if self.cluster.around.default_selector.is_empty() {
                return Vec::new();
            }
            if let Some(constraints) = &self.options.constraints {
                let wanted = constraints.iter().filter(|constraint| constraint.when_unsatisfiable == action).cloned();
                let of = |constraint| TopologySpreadConstraint { label_selector: Some(selector.clone()), ..constraint };
                return wanted.map(|constraint| Constraint { of: of(constraint), is_default: false }).collect();
            }
            if action != "ScheduleAnyway" {
                return Vec::new();
            }
            let by_default = |key: &str, max_skew: i32| TopologySpreadConstraint {
                max_skew,
                topology_key: key.into(),
                label_selector: Some(selector.clone()),
                ..TopologySpreadConstraint::default()
            };
            let all = [by_default("kubernetes.io/hostname", 3), by_default("topology.kubernetes.io/zone", 5)];
            return all.map(|of| Constraint { of, is_default: true }).into();
        }
        let wanted = own.into_iter().filter(|constraint| constraint.when_unsatisfiable == action);
        wanted.map(|of| Constraint { of: self.with_keys(of), is_default: false }).collect()
    }

    /// `matchLabelKeys` as labels that are wanted.
    fn with_keys(&self, mut constraint: TopologySpreadConstraint) -> TopologySpreadConstraint {
        let labels = labels_of(self.pod);
        for key in constraint.match_label_keys.iter().flatten() {
            if let (Some(selector), Some(value)) = (&mut constraint.label_selector, labels.get(key)) {
                let wanted = LabelSelectorRequirement { key: key.clone(), operator: "In".into(), values: Some(vec![value.clone()]) };
                selector.match_expressions.get_or_insert_default().push(wanted);
            }
        }
        constraint
    }

    fn counts(&self, constraint: &TopologySpreadConstraint, node: &Node) -> bool {
        let affinity = constraint.node_affinity_policy.as_deref() == Some("Ignore") || self.node_matches(node);
        let taints = constraint.node_taints_policy.as_deref() != Some("Honor") || self.tolerates(node, &["NoSchedule", "NoExecute"]);
        affinity && taints
    }

    /// Pods of a node that a constraint spreads.
    fn spread_on(&self, constraint: &TopologySpreadConstraint, node: &Node) -> i64 {
        if is_empty(constraint.label_selector.as_ref()) {
            return 0;
        }
        let pods = self.on(node.metadata.name.as_deref().unwrap_or_default());
        let alike = pods.iter().filter(|pod| {
            pod.metadata.deletion_timestamp.is_none()
                && namespace_of(pod) == namespace_of(self.pod)
                && selects(constraint.label_selector.as_ref(), &labels_of(pod))
        });
        alike.count() as i64
    }

    /// Pods by domain of nodes that count: such as have all labels, and those that the policies let in.
    fn domains(&self, constraint: &TopologySpreadConstraint, all: &[Constraint]) -> BTreeMap<String, i64> {
        let mut domains = BTreeMap::new();
        for node in self.cluster.nodes.values() {
            let complete = all.iter().all(|other| label(node, &other.of.topology_key).is_some());
            if let Some(domain) = label(node, &constraint.topology_key)
                && complete
                && self.counts(constraint, node)
            {
                *domains.entry(domain.to_owned()).or_insert(0) += self.spread_on(constraint, node);
            }
        }
        domains
    }

    pub(super) fn spread(&self, node: &Node) -> Option<Verdict> {
        let hard = self.constraints("DoNotSchedule");
        for Constraint { of, .. } in &hard {
            let Some(domain) = label(node, &of.topology_key) else { return Some(Verdict { unresolvable: true }) };
            let domains = self.domains(of, &hard);
            let few = (domains.len() as i64) < i64::from(of.min_domains.unwrap_or(1));
            let least = if few { 0 } else { domains.values().copied().min().unwrap_or(0) };
            let itself = i64::from(selects(of.label_selector.as_ref(), &labels_of(self.pod)));
            if domains.get(domain).copied().unwrap_or(0) + itself - least > i64::from(of.max_skew) {
                return Some(Verdict { unresolvable: false });
            }
        }
        None
    }

    pub(super) fn spread_scores(&self, nodes: &[&Node]) -> Vec<i64> {
        let soft = self.constraints("ScheduleAnyway");
        if soft.is_empty() {
            return vec![0; nodes.len()];
        }
        let strict = soft.iter().any(|constraint| !constraint.is_default);
        let ignored = |node: &Node| strict && soft.iter().any(|constraint| label(node, &constraint.of.topology_key).is_none());
        let considered: Vec<&Node> = nodes.iter().copied().filter(|node| !ignored(node)).collect();
        let raw: Vec<Option<i64>> =
            nodes.iter().map(|node| (!ignored(node)).then(|| self.spread_score(node, &soft, &considered, &ignored))).collect();
        let (most, least) = (raw.iter().flatten().max().copied().unwrap_or(0), raw.iter().flatten().min().copied().unwrap_or(0));
        raw.iter().map(|score| score.map_or(0, |score| if most == 0 { 100 } else { 100 * (most + least - score) / most })).collect()
    }

    fn spread_score(&self, node: &Node, soft: &[Constraint], considered: &[&Node], ignored: &dyn Fn(&Node) -> bool) -> i64 {
        let mut sum = 0.0;
        for Constraint { of, .. } in soft {
            let Some(domain) = label(node, &of.topology_key) else { continue };
            let by_host = of.topology_key == "kubernetes.io/hostname";
            let domains: BTreeSet<Option<&str>> = considered.iter().map(|node| label(node, &of.topology_key)).collect();
            let size = if by_host { considered.len() } else { domains.len() };
            let pods = if by_host {
                self.spread_on(of, node)
            } else {
                let near = |place: &&Arc<Node>| label(place, &of.topology_key) == Some(domain) && !ignored(place) && self.counts(of, place);
                self.cluster.nodes.values().filter(near).map(|place| self.spread_on(of, place)).sum()
            };
            sum += pods as f64 * ((size + 2) as f64).ln() + f64::from(of.max_skew - 1);
        }
        sum.round() as i64
    }
}
