//! Affinity between pods, ready to be compared with them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use troupe_api::meta::LabelSelector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Labels of whoever has none.
pub static NO_LABELS: Labels = Labels::new();

/// A set of pods, by namespace and labels: part of an affinity term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodSet {
    /// Names of namespaces, sorted.
    pub namespaces: Vec<Arc<str>>,
    /// Namespaces by their labels, beside those named.
    pub namespace_selector: LabelSelector,
    pub selector: LabelSelector,
}

impl PodSet {
    /// The pods of one namespace that a selector selects.
    pub fn within(namespace: &str, selector: LabelSelector) -> Self {
        PodSet { namespaces: vec![namespace.into()], namespace_selector: LabelSelector::nothing(), selector }
    }

    /// Whether a pod with these labels belongs to it; `namespace_labels` are those of the pod's namespace.
    pub fn contains(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        self.has_namespace(namespace, namespace_labels) && self.selector.matches(labels)
    }

    /// Whether pods of this namespace may belong to it.
    pub fn has_namespace(&self, namespace: &str, namespace_labels: &Labels) -> bool {
        self.namespaces.iter().any(|known| &**known == namespace) || self.namespace_selector.matches(namespace_labels)
    }

    /// Replaces the selector of namespaces by the names of those it selects, so that pods can be told by their own namespace's name.
    /// One that selects everything stays.
    fn resolve(&mut self, namespaces_matching: &dyn Fn(&LabelSelector) -> Vec<Arc<str>>) {
        if self.namespace_selector.nothing || self.namespace_selector.is_everything() {
            return;
        }
        self.namespaces.extend(namespaces_matching(&self.namespace_selector));
        self.namespaces.sort_unstable();
        self.namespaces.dedup();
        self.namespace_selector = LabelSelector::nothing();
    }
}

/// Which pods are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodQuery {
    /// Pods that belong to all of these. Namespaces are given by name.
    pub sets: Vec<PodSet>,
    /// Pods that are being deleted count, too.
    pub terminating: bool,
}

impl PodQuery {
    /// Whether a pod with these labels counts.
    pub fn counts(&self, namespace: &str, labels: &Labels, is_terminating: bool) -> bool {
        (self.terminating || !is_terminating) && self.sets.iter().all(|set| set.contains(namespace, &NO_LABELS, labels))
    }
}

/// An affinity term: pods, and the label of nodes by which near is told from far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub pods: PodSet,
    pub topology_key: Arc<str>,
}

impl Term {
    /// The term of a pod in `namespace`. Without namespaces it means that of its pod (`PodAffinityTerm.namespaces`).
    pub fn new(namespace: &str, term: &PodAffinityTerm) -> Self {
        let named = term.namespaces.as_deref().unwrap_or_default();
        let mut namespaces: Vec<Arc<str>> = named.iter().map(|name| name.as_str().into()).collect();
        if named.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.into());
        }
        namespaces.sort_unstable();
        let pods = PodSet {
            namespaces,
            namespace_selector: LabelSelector::from(term.namespace_selector.as_ref()),
            selector: LabelSelector::from(term.label_selector.as_ref()),
        };
        Term { pods, topology_key: term.topology_key.as_str().into() }
    }

    /// The pods that it is about; its namespaces are given by name.
    pub fn wanted(&self) -> PodQuery {
        PodQuery { sets: vec![self.pods.clone()], terminating: true }
    }
}

/// All affinity of a pod to other pods. Weights are 1 to 100.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    pub required: Vec<Term>,
    pub required_anti: Vec<Term>,
    pub preferred: Vec<(i32, Term)>,
    pub preferred_anti: Vec<(i32, Term)>,
}

impl Terms {
    pub fn of(pod: &Pod) -> Self {
        let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return Terms::default() };
        Terms::of_affinity(pod.metadata.namespace.as_deref().unwrap_or_default(), affinity)
    }

    fn of_affinity(namespace: &str, affinity: &Affinity) -> Self {
        let required = |terms: Option<&Vec<PodAffinityTerm>>| terms.into_iter().flatten().map(|term| Term::new(namespace, term)).collect();
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>| {
            terms.into_iter().flatten().map(|term| (term.weight, Term::new(namespace, &term.pod_affinity_term))).collect()
        };
        let (together, apart) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        Terms {
            required: required(together.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())),
            required_anti: required(apart.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())),
            preferred: preferred(together.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref())),
            preferred_anti: preferred(apart.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref())),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Terms::default()
    }

    fn iter(&self) -> impl Iterator<Item = &Term> {
        let weighted = self.preferred.iter().chain(&self.preferred_anti).map(|(_, term)| term);
        self.required.iter().chain(&self.required_anti).chain(weighted)
    }

    /// Labels of nodes that the terms are about.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.iter().map(|term| &term.topology_key)
    }

    /// The pods that belong to all required terms; `None` if there are none.
    pub fn together(&self) -> Option<PodQuery> {
        let sets: Vec<PodSet> = self.required.iter().map(|term| term.pods.clone()).collect();
        (!sets.is_empty()).then_some(PodQuery { sets, terminating: true })
    }

    /// All pods that a pod with these terms looks for.
    pub fn wanted(&self) -> impl Iterator<Item = PodQuery> {
        let weighted = self.preferred.iter().chain(&self.preferred_anti).map(|(_, term)| term);
        self.together().into_iter().chain(self.required_anti.iter().chain(weighted).map(Term::wanted))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Term> {
        let weighted = self.preferred.iter_mut().chain(&mut self.preferred_anti).map(|(_, term)| term);
        self.required.iter_mut().chain(&mut self.required_anti).chain(weighted)
    }

    /// The same with the names of the namespaces that are selected by labels; `None` if there are no such selectors.
    pub fn resolved(&self, namespaces_matching: &dyn Fn(&LabelSelector) -> Vec<Arc<str>>) -> Option<Terms> {
        let mut resolved = self.clone();
        resolved.iter_mut().for_each(|term| term.pods.resolve(namespaces_matching));
        (resolved != *self).then_some(resolved)
    }
}
