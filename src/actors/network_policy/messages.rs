//! What the router hears.

use std::sync::Arc;

use actix::Message;
use troupe_api::meta::ObjectKey;

use super::{
    model::{PodView, PolicyView},
    slices::PeersKey,
};

/// A policy came, changed or went: as it was, and as it is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PolicyTouched {
    pub key: ObjectKey,
    pub before: Option<Arc<PolicyView>>,
    pub after: Option<Arc<PolicyView>>,
}

impl PolicyTouched {
    /// Whether rules of a pod may be others than before.
    pub fn is_about(&self, pod: &PodView) -> bool {
        self.before.iter().chain(&self.after).any(|policy| policy.selects(pod))
    }
}

/// A cluster network policy came, changed or went.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ClusterPolicyTouched(pub ObjectKey);

/// The labels of a namespace changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NamespaceTouched(pub Arc<str>);

/// A pod of this node came, changed or went.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PodTouched(pub ObjectKey);

/// The slices of a set of peers changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PeersTouched(pub PeersKey);

/// To other addresses than before domain names do not lead.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InsideTouched;

/// The rule table (re)started and knows nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TableStarted;

/// The kubelet is about to start a pod with these addresses.
#[derive(Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct Admit {
    pub pod: PodView,
    /// It is from a file of the node.
    pub is_static: bool,
}

/// A pod's addresses are its own no more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Left {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
}
