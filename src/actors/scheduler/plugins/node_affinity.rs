//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{self, Node, NodeSelector, PreferredSchedulingTerm};

use crate::scheduler::{
    framework::{ClusterChange, Event, NodeScorer, Plugin, Point, PreFilter, Rejection, normalize_to_largest},
    node_info::NodeInfo,
    node_matching::{NAME, node_affinity, required, required_matches, selector_matches, term_matches},
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// See the module.
#[derive(Default)]
pub struct NodeAffinity {
    /// Affinity that all pods have beside their own (`NodeAffinityArgs.addedAffinity`).
    pub added: Option<v1::NodeAffinity>,
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn node_names(&self, pod: &PodInfo) -> Option<BTreeSet<String>> {
        named(required(pod.pod.spec.as_ref()?)?)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        let added = self.added.as_ref().and_then(|added| added.required_during_scheduling_ignored_during_execution.as_ref());
        let Some(spec) = &pod.pod.spec else { return PreFilter::Skip };
        let required = required(spec);
        if added.is_none() && required.is_none() && spec.node_selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            return PreFilter::Skip;
        }
        if required.and_then(named).is_some_and(|names| names.is_empty()) {
            return PreFilter::Reject(Rejection::unresolvable("pod affinity terms conflict"));
        }
        PreFilter::by_node_alone(move |node| {
            if added.is_some_and(|selector| !selector_matches(selector, &node.node)) {
                return Err(Rejection::unresolvable("node(s) didn't match scheduler-enforced node affinity"));
            }
            if required_matches(spec, &node.node) {
                return Ok(());
            }
            Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
        })
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let own = pod.pod.spec.as_ref().and_then(node_affinity);
        let preferred = |affinity: Option<&'a v1::NodeAffinity>| {
            affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
        };
        let terms: Vec<&PreferredSchedulingTerm> = preferred(self.added.as_ref()).iter().chain(preferred(own)).collect();
        if terms.is_empty() { None } else { Some(Box::new(Preferred { terms })) }
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        let (old, new) = change.node();
        let Some(spec) = &pod.pod.spec else { return true };
        let added = self.added.as_ref().and_then(|added| added.required_during_scheduling_ignored_during_execution.as_ref());
        let matches = |node: &Node| required_matches(spec, node) && added.is_none_or(|selector| selector_matches(selector, node));
        !old.is_some_and(matches) && new.is_some_and(matches)
    }
}

struct Preferred<'a> {
    terms: Vec<&'a PreferredSchedulingTerm>,
}

impl NodeScorer for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let matching = self.terms.iter().filter(|term| term_matches(&term.preference, &node.node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_largest(scores, false);
    }
}

/// The only nodes that can match, if every term names some.
fn named(selector: &NodeSelector) -> Option<BTreeSet<String>> {
    if selector.node_selector_terms.is_empty() {
        return None;
    }
    let mut all = BTreeSet::new();
    for term in &selector.node_selector_terms {
        let fields = term.match_fields.iter().flatten().filter(|field| field.key == NAME && field.operator == "In");
        let names = fields.map(|field| field.values.iter().flatten().cloned().collect::<BTreeSet<String>>());
        all.extend(names.reduce(|known, names| known.intersection(&names).cloned().collect())?);
    }
    Some(all)
}
