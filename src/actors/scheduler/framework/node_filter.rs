//! Filtering nodes for one pod.

use std::borrow::Cow;

use crate::scheduler::{node_info::NodeInfo, placed_pod::PlacedPod};

/// Why a node is no place for a pod, in the words of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
}

impl Rejection {
    /// Removing pods could help.
    pub fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: vec![reason.into()], unresolvable: false }
    }

    /// Removing pods would not help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: vec![reason.into()], unresolvable: true }
    }
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
    /// A filter that looks at nothing but the node.
    pub fn by_node(filter: impl Fn(&NodeInfo) -> Result<(), Rejection> + 'a) -> Self {
        PreFilter::Ask(Box::new(ByNode(filter)))
    }
}

/// Filters nodes for one pod.
pub trait NodeFilter {
    /// Whether the pod can run on the node.
    ///
    /// # Errors
    /// Why not.
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;

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
