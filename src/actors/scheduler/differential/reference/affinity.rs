//! Affinity between pods.

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use super::{Reference, Verdict, label, labels_of, namespace_of, selects};

impl Reference<'_> {
    /// Whether a term of `owner` is about `other`.
    fn is_about(&self, owner: &Pod, term: &PodAffinityTerm, other: &Pod) -> bool {
        let named = term.namespaces.clone().unwrap_or_default();
        let own = named.is_empty() && term.namespace_selector.is_none() && namespace_of(owner) == namespace_of(other);
        let by_name = named.iter().any(|name| name == namespace_of(other));
        let by_label = selects(term.namespace_selector.as_ref(), &self.cluster.around.namespaces[namespace_of(other)]);
        (own || by_name || by_label) && selects(term.label_selector.as_ref(), &labels_of(other))
    }

    fn required(pod: &Pod, apart: bool) -> Vec<PodAffinityTerm> {
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let terms = match apart {
            true => affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.clone()),
            false => affinity.and_then(|affinity| affinity.pod_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.clone()),
        };
        terms.unwrap_or_default()
    }

    fn preferred(pod: &Pod, apart: bool) -> Vec<WeightedPodAffinityTerm> {
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let terms = match apart {
            true => affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.clone()),
            false => affinity.and_then(|affinity| affinity.pod_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.clone()),
        };
        terms.unwrap_or_default()
    }

    /// Whether two nodes are near to each other by a label.
    fn near(one: &Node, other: &Node, key: &str) -> bool {
        label(one, key).is_some() && label(one, key) == label(other, key)
    }

    pub(super) fn affinity(&self, node: &Node) -> Option<Verdict> {
        let together = Self::required(self.pod, false);
        let is_wanted = |other: &Pod| together.iter().all(|term| self.is_about(self.pod, term, other));
        let unlabelled = together.iter().any(|term| label(node, &term.topology_key).is_none());
        let lonely =
            together.iter().any(|term| !self.placed().iter().any(|(other, place)| is_wanted(other) && Self::near(node, place, &term.topology_key)));
        if unlabelled {
            return Some(Verdict { unresolvable: true });
        }
        if lonely {
            let anywhere =
                |(other, place): &(&Pod, &Node)| is_wanted(other) && together.iter().any(|term| label(place, &term.topology_key).is_some());
            if self.placed().iter().any(anywhere) || !is_wanted(self.pod) {
                return Some(Verdict { unresolvable: true });
            }
        }
        for (other, place) in self.placed() {
            let own =
                Self::required(self.pod, true).iter().any(|term| self.is_about(self.pod, term, other) && Self::near(node, place, &term.topology_key));
            let theirs =
                Self::required(other, true).iter().any(|term| self.is_about(other, term, self.pod) && Self::near(node, place, &term.topology_key));
            if own || theirs {
                return Some(Verdict { unresolvable: false });
            }
        }
        None
    }

    pub(super) fn affinity_scores(&self, nodes: &[&Node]) -> Vec<i64> {
        if self.options.ignores_others && [false, true].iter().all(|apart| Self::preferred(self.pod, *apart).is_empty()) {
            return vec![0; nodes.len()];
        }
        let raw: Vec<i64> = nodes.iter().map(|node| self.affinity_score(node)).collect();
        let (most, least) = (raw.iter().max().copied().unwrap_or(0), raw.iter().min().copied().unwrap_or(0));
        raw.iter().map(|score| if most > least { (100.0 * ((score - least) as f64 / (most - least) as f64)) as i64 } else { 0 }).collect()
    }

    fn affinity_score(&self, node: &Node) -> i64 {
        let mut sum = 0;
        for (other, place) in self.placed() {
            for (owner, target) in [(self.pod, other), (other, self.pod)] {
                for (sign, apart) in [(1, false), (-1, true)] {
                    for WeightedPodAffinityTerm { weight, pod_affinity_term: term } in Self::preferred(owner, apart) {
                        if self.is_about(owner, &term, target) && Self::near(node, place, &term.topology_key) {
                            sum += sign * i64::from(weight);
                        }
                    }
                }
            }
            for term in Self::required(other, false) {
                if self.is_about(other, &term, self.pod) && Self::near(node, place, &term.topology_key) {
                    sum += self.options.hard_weight;
                }
            }
        }
        sum
    }
}
