//! What the router hears.

use std::sync::Arc;

use actix::Message;
use troupe_api::meta::ObjectKey;

use super::{model::PodView, slices::PeersKey};

/// A policy came, changed or went.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PolicyTouched(pub ObjectKey);

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
