//! What the scheduler takes in: changes of pods and nodes, in order, collected on the caches' threads. The caches have the pods.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod},
        resource::v1::{DeviceClass, ResourceClaim},
        scheduling::v1alpha2::PodGroup,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use parking_lot::Mutex;
use troupe_api::meta::{Cause, ObjectKey};

use super::{
    framework::{ClusterChange, Profiles},
    gangs::{group_of, least_of},
    placed_pod::{node_of, nominated_node},
    plugins::declared_features,
};
use crate::{
    devices::{claims_of, key_of},
    pod_phase::is_finished,
    runtime::cache::Change,
};

/// One change.
pub enum News {
    /// A pod without a node, for this scheduler.
    Pending {
        key: ObjectKey,
        priority: i32,
        /// It may have to wait for something before it is looked at. Whether it has to is found out when this is taken in: others decide, too.
        may_wait: bool,
        group: Option<ObjectKey>,
        nominated: Nominated,
        cause: Cause,
        /// It was pending before, and only its status is another.
        only_status: bool,
        /// It was pending before.
        update: Option<ClusterChange>,
    },
    /// A pod on a node.
    Assigned {
        key: ObjectKey,
    },
    /// A pod that is gone, finished, or not ours.
    Gone {
        key: ObjectKey,
    },
    Node {
        node: Arc<Node>,
    },
    NodeGone {
        name: String,
    },
    /// A PodGroup is there with so many pods that must go together, or is gone.
    Group {
        key: ObjectKey,
        least: Option<usize>,
    },
    /// A claim, a volume or a storage class is there or is another one.
    Storage,
    /// A claim for devices is there or is another one.
    Claim {
        old: Option<Arc<ResourceClaim>>,
        new: Arc<ResourceClaim>,
    },
    /// A slice of devices, or a rule about them, is there or is another one.
    Devices,
    /// A class of devices is there or is another one.
    Class {
        old: Option<Arc<DeviceClass>>,
        new: Arc<DeviceClass>,
    },
}

/// What changed of the node that others were removed from for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nominated {
    Same,
    Cleared,
    Set(Arc<str>),
}

impl Nominated {
    fn between(before: Option<&Pod>, after: &Pod) -> Self {
        match (before.and_then(nominated_node), nominated_node(after)) {
            (Some(_), None) => Nominated::Cleared,
            (before, Some(after)) if before != Some(after) => Nominated::Set(after.into()),
            _ => Nominated::Same,
        }
    }
}

impl News {
    /// What changed, for people.
    pub fn subject(&self) -> String {
        match self {
            News::Pending { key, .. } | News::Assigned { key } | News::Gone { key } => format!("pod {key}"),
            News::Node { node } => format!("node {}", node.metadata.name.as_deref().unwrap_or_default()),
            News::NodeGone { name } => format!("node {name}"),
            News::Group { key, .. } => format!("pod group {key}"),
            News::Storage => "storage".into(),
            News::Claim { new, .. } => format!("resource claim {}", key_of(&new.metadata)),
            News::Devices => "devices".into(),
            News::Class { new, .. } => format!("device class {}", new.metadata.name.as_deref().unwrap_or_default()),
        }
    }
}

/// The changes not yet taken. Bounded by what the caches hold: each entry is one event of theirs.
#[derive(Default)]
pub struct Intake {
    news: Mutex<Vec<News>>,
}

impl Intake {
    /// Adds a change; `true` when nothing waited before, so that the unit must be woken.
    pub fn add(&self, news: News) -> bool {
        let mut all = self.news.lock();
        all.push(news);
        all.len() == 1
    }

    pub fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.news.lock())
    }
}

/// What a pod's change means to the scheduler.
pub fn pod_news(change: &Change<Pod>, profiles: &Profiles) -> News {
    let key = change.key.clone();
    match change.after() {
        Some(pod) if is_finished(pod) => News::Gone { key },
        Some(pod) if node_of(pod).is_some() => News::Assigned { key },
        Some(pod) if is_wanted(pod, profiles) => {
            let before = change.before();
            let pending = before.filter(|old| is_wanted(old, profiles));
            let only_status = pending.is_some_and(|old| differ_in_status(old, pod));
            let nominated = Nominated::between(before.map(|pod| &**pod), pod);
            let update = pending.map(|old| ClusterChange::WaitingPodUpdated { old: old.clone(), new: pod.clone() });
            let (priority, group) = (pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0), group_of(pod));
            // Its group and its claims may be there by then, or gone.
            let depends = group.is_some() || !claims_of(pod).is_empty();
            let may_wait = depends || profiles.of(pod).is_some_and(|profile| profile.pre_enqueue(pod).is_err());
            News::Pending { key, priority, may_wait, group, nominated, cause: change.cause.clone(), only_status, update }
        }
        _ => News::Gone { key },
    }
}

/// What a group's change means to the scheduler.
pub fn group_news(change: &Change<PodGroup>) -> News {
    News::Group { key: change.key.clone(), least: change.after().map(|group| least_of(group)) }
}

/// For this scheduler, and not being deleted.
fn is_wanted(pod: &Pod, profiles: &Profiles) -> bool {
    pod.spec.is_some() && pod.metadata.deletion_timestamp.is_none() && profiles.of(pod).is_some()
}

/// Whether nothing else can have changed that a decision depends on (upstream's `isPodUpdated`).
fn differ_in_status(old: &Pod, new: &Pod) -> bool {
    let meta = |pod: &Pod| ObjectMeta { resource_version: None, managed_fields: None, ..pod.metadata.clone() };
    // The names of claims that were made for it come with the status.
    let claims = |pod: &Pod| pod.status.as_ref().and_then(|status| status.resource_claim_statuses.clone());
    old.spec == new.spec && meta(old) == meta(new) && claims(old) == claims(new)
}

/// What a node's change means to the scheduler.
pub fn node_news(change: &Change<Node>) -> News {
    match change.after() {
        Some(node) => News::Node { node: node.clone() },
        None => News::NodeGone { name: change.key.name.to_string() },
    }
}

/// Whether plugins see no difference; heartbeats change nothing that they look at.
pub fn is_same_to_plugins(old: &Node, new: &Node) -> bool {
    let spec = |node: &Node| node.spec.clone().unwrap_or_default();
    let (before, after) = (spec(old), spec(new));
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.metadata.labels == new.metadata.labels
        && before.unschedulable == after.unschedulable
        && before.taints == after.taints
        && allocatable(old) == allocatable(new)
        && declared_features(old) == declared_features(new)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::{meta::Object, stored::StoredObject};

    use super::*;
    use crate::scheduler::plugins::default_profile;

    fn pod(revision: &str, spec: Value, status: Value) -> Arc<StoredObject> {
        let metadata = json!({"name": "p", "namespace": "n", "resourceVersion": revision});
        let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status});
        Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
    }

    fn is_only_status(old: Arc<StoredObject>, new: Arc<StoredObject>) -> bool {
        match pod_news(&Change::between(ObjectKey::new("n", "p"), Some(old), Some(new), Cause::default()), &Profiles::from(default_profile())) {
            News::Pending { only_status, .. } => only_status,
            _ => panic!("the pod waits for a node"),
        }
    }

    #[test]
    fn a_status_alone_is_told_from_other_changes() {
        let spec = json!({"containers": [], "nodeSelector": {"disk": "ssd"}});
        let condition = json!({"conditions": [{"type": "PodScheduled", "status": "False"}]});
        let before = pod("1", spec.clone(), json!({}));
        assert!(is_only_status(before.clone(), pod("2", spec.clone(), condition.clone())));
        assert!(!is_only_status(before, pod("2", json!({"containers": []}), condition.clone())));
        let gated = pod("1", json!({"containers": [], "nodeSelector": {"disk": "ssd"}, "schedulingGates": [{"name": "g"}]}), json!({}));
        assert!(!is_only_status(gated, pod("2", spec, condition)), "only now it may be scheduled");
    }
}
