//! The points at which a plugin is asked.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::{
    change::{ClusterChange, Event},
    diagnosis::Diagnosis,
    filters::Filters,
    node_filter::PreFilter,
    node_scorer::NodeScorer,
    outcome::Outcome,
};
use crate::scheduler::{budget::Budget, node_info::NodeInfo, pod_info::PodInfo, snapshot::Snapshot};

/// A plugin. All methods are pure; the same inputs give the same answer.
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, such as `NodeResourcesFit`.
    fn name(&self) -> &'static str;

    /// Whether the pod may be looked at, at all.
    ///
    /// # Errors
    /// What it waits for.
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), String> {
        Ok(())
    }

    /// The names of the only nodes that can do, where the pod tells.
    fn node_names(&self, _pod: &PodInfo) -> Option<BTreeSet<String>> {
        None
    }

    /// Begins to filter nodes for a pod.
    fn pre_filter<'a>(&'a self, _pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// Begins to score feasible nodes, of which there are at least two; `None` if all are as good to it.
    fn pre_score<'a>(&'a self, _pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        None
    }

    /// What can be done for a pod that fits nowhere; `None` if the plugin does nothing.
    fn post_filter(&self, _failure: &mut Failure<'_, '_>) -> Option<Outcome> {
        None
    }

    /// The kinds of events that may let a pod pass that this plugin rejected.
    fn events(&self) -> &'static [Event] {
        &[]
    }

    /// Whether `change`, of a kind named in [`Plugin::events`], may help every pod that it rejected, so that none need be looked at.
    fn helps_every_pod(&self, _change: &ClusterChange) -> bool {
        false
    }

    /// Whether `change`, of a kind named in [`Plugin::events`], may let this pod pass that it rejected.
    fn may_help(&self, _pod: &PodInfo, _change: &ClusterChange) -> bool {
        true
    }
}

/// An attempt that found no node.
pub struct Failure<'a, 'b> {
    pub pod: &'a PodInfo,
    pub cluster: &'a Snapshot,
    pub filters: &'b mut Filters<'a>,
    pub diagnosis: &'b Diagnosis,
    /// Asks for all disruption budgets.
    pub budgets: &'b dyn Fn() -> Vec<Budget>,
    /// A number by chance, where anything will do.
    pub chance: u64,
}
