//! Filtering nodes for one pod.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::scheduler::{
    node_info::{NodeInfo, Taken},
    placed_pod::PlacedPod,
};

/// Why, in the words of the event. One reason, as most often, needs no memory of its own: a decision may see thousands.
pub type Reasons = SmallVec<[Cow<'static, str>; 1]>;

/// Why a node is no place for a pod, in the words of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Reasons,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
    /// Something is wrong, so that nobody can tell whether the pod fits: the attempt fails, whatever other nodes there are.
    pub is_error: bool,
}

impl Rejection {
    /// Removing pods could help.
    pub fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: Reasons::from_buf([reason.into()]), unresolvable: false, is_error: false }
    }

    /// Removing pods would not help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: Reasons::from_buf([reason.into()]), unresolvable: true, is_error: false }
    }

    /// Something is wrong, maybe not only here.
    pub fn error(why: impl Into<Cow<'static, str>>) -> Self {
        Rejection { is_error: true, ..Rejection::unresolvable(why) }
    }
}

/// What upstream's framework says where a plugin's filter failed.
pub fn filter_error(plugin: &str, why: &str) -> String {
    format!("running {plugin:?} filter plugin: {why}")
}

/// What a plugin has to say about nodes for a pod.
pub enum PreFilter<'a> {
    /// It has nothing against any node.
    Skip,
    /// Each node has to be looked at.
    Ask(Box<dyn NodeFilter + 'a>),
    /// No node will do.
    Reject(Rejection),
}

impl<'a> PreFilter<'a> {
    /// A filter that looks at nothing but the node and its pods.
    pub fn by_node(filter: impl Fn(&NodeInfo) -> Result<(), Rejection> + 'a) -> Self {
        PreFilter::Ask(Box::new(ByNode(filter)))
    }

    /// A filter that looks at nothing but the node, whichever pods it has.
    pub fn by_node_alone(filter: impl Fn(&NodeInfo) -> Result<(), Rejection> + 'a) -> Self {
        PreFilter::Ask(Box::new(ByNodeAlone(filter)))
    }
}

/// What of a node a filter's answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DependsOn {
    /// The node alone: pods that come and go change nothing.
    Node,
    /// The node, and what its pods take together: [`NodeFilter::filter_taken`] says the same.
    Taken,
    /// Which pods there are, here or elsewhere.
    Pods,
}

/// Filters nodes for one pod.
pub trait NodeFilter {
    /// Whether the pod can run on the node.
    ///
    /// # Errors
    /// Why not.
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// What the answer depends on.
    fn depends_on(&self) -> DependsOn {
        DependsOn::Pods
    }

    /// Whether the pod could run on the node if its pods took this. Only for filters that do not depend on which pods those are.
    ///
    /// # Errors
    /// Why not.
    fn filter_taken(&self, node: &NodeInfo, _taken: Taken<'_>) -> Result<(), Rejection> {
        self.filter(node)
    }

    /// The same without saying why not.
    fn fits_taken(&self, node: &NodeInfo, taken: Taken<'_>) -> bool {
        self.filter_taken(node, taken).is_ok()
    }

    /// A pod is thought to be on the node, beside those of the snapshot.
    fn add_pod(&mut self, _pod: &PlacedPod, _node: &NodeInfo) {}

    /// A pod is thought to be gone from the node. The exact opposite of [`NodeFilter::add_pod`].
    fn remove_pod(&mut self, _pod: &PlacedPod, _node: &NodeInfo) {}
}

struct ByNode<F>(F);

impl<F: Fn(&NodeInfo) -> Result<(), Rejection>> NodeFilter for ByNode<F> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        (self.0)(node)
    }
}

struct ByNodeAlone<F>(F);

impl<F: Fn(&NodeInfo) -> Result<(), Rejection>> NodeFilter for ByNodeAlone<F> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        (self.0)(node)
    }

    fn depends_on(&self) -> DependsOn {
        DependsOn::Node
    }
}
