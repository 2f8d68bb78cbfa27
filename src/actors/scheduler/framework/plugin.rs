//! The points at which a plugin is asked.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;
use troupe_api::{meta::ObjectKey, status::Status};
use troupe_api_client::Client;

use super::{
    change::{ClusterChange, Event},
    diagnosis::Diagnosis,
    filters::Filters,
    node_filter::PreFilter,
    node_scorer::NodeScorer,
    outcome::Outcome,
    permit::{Permit, Refusal},
    point::Point,
};
use crate::scheduler::{budget::Budget, node_info::NodeInfo, pod_info::PodInfo, snapshot::Snapshot};

/// Writes of a plugin for a pod that has a node.
pub type Writing = BoxFuture<'static, Result<(), Status>>;

/// What a plugin that cannot decide in time does about a pod.
pub enum Undecided {
    /// It finds out aside; the pod is tried anew when that is done.
    Search(BoxFuture<'static, ()>),
    /// It could not: the pod is tried again later.
    Failed(String),
}

/// A plugin. What decides (up to `post_filter`) is pure: the same inputs give the same answer.
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, such as `NodeResourcesFit`.
    fn name(&self) -> &'static str;

    /// Where it has something to say.
    fn points(&self) -> &'static [Point];

    /// What it is at, for people; null if it has nothing to tell.
    fn observe(&self) -> Value {
        Value::Null
    }

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

    /// Begins to filter nodes for a pod (PreFilter), and answers with what filters them (Filter).
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

    /// What is done about a pod that fits nowhere, after [`Plugin::post_filter`], because this plugin could not decide in time; `None` if it
    /// could.
    fn undecided(&self, _pod: &ObjectKey) -> Option<Undecided> {
        None
    }

    /// The attempt on a pod failed, by a rejection that is an error: nothing that was noted for it counts any more.
    fn abandon(&self, _pod: &ObjectKey) {}

    /// What is to be written for a pod that fits nowhere, after [`Plugin::post_filter`]; `None` for nothing.
    fn after_failure(&self, _pod: &ObjectKey, _client: &Client) -> Option<Writing> {
        None
    }

    /// The pod has got this node: what it takes there beside what the snapshot counts is kept for it from now on, until
    /// [`Plugin::unreserve`].
    ///
    /// # Errors
    /// Why it cannot be had.
    fn reserve(&self, _pod: &PodInfo, _node: &Arc<Node>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Nothing is kept for the pod any more: it does not get its node after all, or it is bound and the API says so. Called whether or
    /// not the plugin reserved anything.
    fn unreserve(&self, _pod: &ObjectKey) {}

    /// Whether the pod may be bound now.
    fn permit(&self, _pod: &PodInfo, _node: &str) -> Permit {
        Permit::Allow
    }

    /// What is to be written, and waited for, before the pod is bound; `None` for nothing.
    fn pre_bind(&self, _pod: &Arc<Pod>, _node: &Arc<Node>, _client: &Client) -> Option<Writing> {
        None
    }

    /// Binds the pod; `None` leaves that to the next plugin.
    fn bind(&self, _pod: &Arc<Pod>, _node: &str, _client: &Client) -> Option<Writing> {
        None
    }

    /// The pod is bound.
    fn post_bind(&self, _pod: &ObjectKey) {}

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
