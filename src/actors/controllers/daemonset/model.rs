//! What a plan for a DaemonSet is made of: its actions, and the set with its pods, node by node.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};

use crate::controllers::{daemonset::eligibility::Eligibility, pod_digest::PodDigest};

/// Why a pod is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is outdated, doubled, or on a node that should not have it.
    Surplus,
    /// It failed on this node: another one follows.
    Failed { node: String },
    /// It ended on this node, though daemons never should.
    Succeeded { node: String },
}

/// One step. Steps are applied in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    AdoptPod {
        pod: String,
        uid: String,
    },
    ReleasePod {
        pod: String,
        uid: String,
    },
    AdoptRevision {
        name: String,
        uid: String,
    },
    ReleaseRevision {
        name: String,
        uid: String,
    },
    CreateRevision(Box<ControllerRevision>),
    UpdateRevision(Box<ControllerRevision>),
    DeleteRevision {
        name: String,
        uid: String,
    },
    /// Says that the pod was made from another revision of the same template.
    RelabelPod {
        pod: String,
        uid: String,
        hash: String,
    },
    /// Makes a pod for each of these nodes.
    CreatePods {
        nodes: Vec<String>,
        hash: String,
    },
    DeletePod {
        pod: String,
        uid: String,
        why: Why,
    },
    UpdateStatus(Box<DaemonSetStatus>),
}

/// The set with its pods, node by node.
pub struct View<'a> {
    pub set: &'a DaemonSet,
    pub hash: &'a str,
    pub nodes: BTreeMap<&'a str, Eligibility>,
    /// In the order scheduled first, oldest first. Every wanted node is there, if only with no pod.
    pub pods: BTreeMap<&'a str, Vec<&'a Arc<PodDigest>>>,
    pub now: Timestamp,
}

/// Pods to make and to take away.
#[derive(Default)]
pub struct Steps<'a> {
    pub create: Vec<&'a str>,
    pub delete: Vec<(&'a Arc<PodDigest>, Why)>,
}

/// `spec.minReadySeconds`.
pub fn min_ready_seconds(view: &View<'_>) -> i32 {
    view.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}
