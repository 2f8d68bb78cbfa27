//! Pod GC: removes pods whose node is gone, deleted pods of nodes that are out of service, pods that were deleted before they had a
//! node, and finished pods when there are too many.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, PatchType},
};

use super::{
    nodes::{is_out_of_service, is_ready},
    pod_digest::PodDigest,
    pods::{BY_NODE, index_by_node, is_finished, node_of},
};
use crate::{
    pod_conditions,
    runtime::{
        cache::{Cache, Caches, Change, Digests},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// Finished pods beyond this number go, oldest first, where nothing is said (upstream's `--terminated-pod-gc-threshold`).
pub const FINISHED_KEPT: usize = 12_500;
/// A node must be gone for this long: a restarting one comes back.
const QUARANTINE: Duration = Duration::from_secs(40);
const PERIOD: Duration = Duration::from_secs(20);
/// Files finished pods under "".
const FINISHED: &str = "finished";
/// Files nodes under "" that are out of service and not ready: nobody there lets pods go.
const DOWN: &str = "down";

/// See the module. Its only key is `all`.
pub struct PodGcController {
    pods: Cache<Pod>,
    digests: Digests<Pod, PodDigest>,
    nodes: Cache<Node>,
    missing: parking_lot::Mutex<BTreeMap<Arc<str>, Instant>>,
    kept: usize,
}

impl PodGcController {
    pub fn new(caches: &Caches) -> Self {
        let pods = index_by_node(caches.cache());
        pods.add_index(FINISHED, |pod| is_finished(pod).then(|| "".into()).into_iter().collect());
        let nodes: Cache<Node> = caches.cache();
        nodes.add_index(DOWN, |node| (is_out_of_service(node) && !is_ready(node)).then(|| "".into()).into_iter().collect());
        PodGcController { digests: pods.digests(), pods, nodes, missing: Default::default(), kept: FINISHED_KEPT }
    }

    /// The same where another number of finished pods is kept.
    #[must_use]
    pub fn keeping(self, kept: usize) -> Self {
        PodGcController { kept, ..self }
    }

    /// Nodes that pods name and that have been gone for long enough. A live read decides, not the cache alone.
    async fn lost_nodes(&self, cx: &ReconcileContext) -> Result<Vec<Arc<str>>, ReconcileError> {
        let now = cx.system().instant();
        let suspects: Vec<Arc<str>> = {
            let mut missing = self.missing.lock();
            let named = self.pods.index_values(BY_NODE).into_iter().filter(|node| !node.is_empty());
            let absent: BTreeSet<Arc<str>> = named.filter(|node| self.nodes.stored(&ObjectKey::cluster(node.clone())).is_none()).collect();
            missing.retain(|node, _| absent.contains(node));
            for node in absent {
                missing.entry(node).or_insert(now);
            }
            missing.iter().filter(|(_, since)| now.duration_since(**since) >= QUARANTINE).map(|(node, _)| node.clone()).collect()
        };
        let mut lost = Vec::new();
        for node in suspects {
            if cx.client().all::<Node>().get_opt(&node).await?.is_none() {
                lost.push(node);
            }
        }
        Ok(lost)
    }

    /// Every pod that may have to go, once.
    async fn candidates(&self, lost: &[Arc<str>], down: &[Arc<str>], kept: usize) -> Vec<Arc<PodDigest>> {
        let mut pods = self.pods.by_index_stored(BY_NODE, "", |meta| meta.deletion_timestamp.is_some());
        pods.extend(down.iter().flat_map(|node| self.pods.by_index_stored(BY_NODE, node, |meta| meta.deletion_timestamp.is_some())));
        pods.extend(lost.iter().flat_map(|node| self.pods.by_index_stored(BY_NODE, node, |_| true)));
        if self.pods.index_count(FINISHED, "") > kept {
            let known: BTreeSet<Arc<str>> = pods.iter().map(|pod| pod.meta().uid.clone()).collect();
            pods.extend(self.pods.by_index_stored(FINISHED, "", |meta| !known.contains(&meta.uid)));
        }
        self.digests.read(&pods).await
    }
}

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NodeLost,
    NodeDown,
    NeverScheduled,
    TooManyFinished,
}

fn plan(pods: &[Arc<PodDigest>], lost: &[Arc<str>], down: &[Arc<str>], kept: usize) -> Vec<(Arc<PodDigest>, Why)> {
    let mut doomed = Vec::new();
    for pod in pods {
        let is_deleted = pod.standing.is_deleted;
        match pod.node() {
            Some(node) if lost.iter().any(|lost| **lost == *node) => doomed.push((pod.clone(), Why::NodeLost)),
            Some(node) if is_deleted && down.iter().any(|down| **down == *node) => doomed.push((pod.clone(), Why::NodeDown)),
            None if is_deleted => doomed.push((pod.clone(), Why::NeverScheduled)),
            _ => {}
        }
    }
    let going: BTreeSet<*const PodDigest> = doomed.iter().map(|(pod, _)| Arc::as_ptr(pod)).collect();
    let mut done: Vec<&Arc<PodDigest>> = pods.iter().filter(|pod| pod.standing.is_finished() && !going.contains(&Arc::as_ptr(pod))).collect();
    done.sort_by_key(|pod| (pod.standing.created, pod.meta.name.clone()));
    let surplus = done.len().saturating_sub(kept);
    doomed.extend(done.into_iter().take(surplus).map(|pod| (pod.clone(), Why::TooManyFinished)));
    doomed
}

/// The new status of a pod that had not ended: no kubelet says any more that it has.
fn mark(why: Why, pod: &Pod, now: Timestamp) -> Value {
    let generation = pod.metadata.generation;
    let condition = || PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByPodGC".to_owned()),
        message: Some("PodGC: node no longer exists".to_owned()),
        last_transition_time: Some(Time(now)),
        observed_generation: generation,
        ..PodCondition::default()
    };
    let mut status = (why == Why::NodeLost).then(|| pod_conditions::change(pod, condition())).flatten().unwrap_or_else(|| json!({}));
    status["phase"] = json!("Failed");
    status["observedGeneration"] = json!(generation);
    status
}

/// A pod that is deleted before it has a node: no kubelet lets it go.
fn is_stuck(change: &Change<Pod>) -> bool {
    let leaves = change.meta_after().is_some_and(|meta| meta.deletion_timestamp.is_some());
    leaves && change.after().is_some_and(|pod| node_of(pod).is_none())
}

impl Controller for PodGcController {
    const NAME: &'static str = "pod-garbage-collector";
    const CONCURRENCY: usize = 1;

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.reads::<Pod>();
        watches.map::<Node>(|change| if change.is_addition() || change.is_removal() { vec![ObjectKey::cluster("all")] } else { Vec::new() });
        // It need not wait for the next round.
        watches.map::<Pod>(|change| if is_stuck(change) { vec![ObjectKey::cluster("all")] } else { Vec::new() });
    }

    async fn reconcile(&self, _key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let lost = self.lost_nodes(cx).await?;
        let down: Vec<Arc<str>> = self.nodes.by_index_stored(DOWN, "", |_| true).iter().map(|node| node.key.name.clone()).collect();
        let candidates = self.candidates(&lost, &down, self.kept).await;
        for (pod, why) in plan(&candidates, &lost, &down, self.kept) {
            let (name, uid) = (&*pod.meta.name, &*pod.meta.uid);
            let api = cx.client().namespaced::<Pod>(pod.meta.namespace.clone());
            if !pod.standing.is_finished()
                && let Some(known) = self.pods.get_once(&ObjectKey::new(pod.meta.namespace.clone(), pod.meta.name.clone()))
            {
                let patch = json!({"metadata": {"uid": uid}, "status": mark(why, &known, cx.now())});
                // The pod is deleted next either way: the mark is for those who watch.
                let _ = api.patch(name, "status", PatchType::StrategicMerge, &patch).await;
            }
            let options = DeleteOptions { grace_period_seconds: Some(0), precondition_uid: Some(uid.to_owned()), ..DeleteOptions::default() };
            match api.delete(name, options).await {
                Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status.into()),
                _ => {}
            }
        }
        Ok(Outcome::RequeueAfter(PERIOD))
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::{
        decoding::decoded_here,
        meta::{Cause, Object, Revision},
        stored::StoredObject,
    };

    use super::*;
    use crate::runtime::cache::digest_of;

    fn pod(name: &str, node: &str, phase: &str, deleted: bool) -> Arc<Pod> {
        let mut object = json!({"metadata": {"name": name}, "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase}});
        if deleted {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    #[test]
    fn a_pod_that_its_kubelet_lets_go_is_no_reason_to_look() {
        let stuck = |node: &str, deleted: bool| {
            let tree = Object::from_value(serde_json::to_value(&*pod("a", node, "Pending", deleted)).expect("it encodes")).expect("an object");
            let stored = Arc::new(StoredObject::from_object(&tree).expect("well formed"));
            is_stuck(&Change::between(stored.key.clone(), None, Some(stored), Cause::default()))
        };
        assert!(stuck("", true));
        assert!(!stuck("here", true) && !stuck("", false));
    }

    #[test]
    fn only_lost_stuck_and_surplus_pods_go() {
        let pods =
            [pod("a", "lost", "Running", false), pod("b", "here", "Running", true), pod("c", "", "Pending", true), pod("d", "here", "Failed", false)];
        let digests: Vec<Arc<PodDigest>> = pods.iter().map(|pod| digest_of(&**pod)).collect();
        let names_where = |down: &[Arc<str>], kept| {
            let doomed = plan(&digests, &[Arc::from("lost")], down, kept).into_iter();
            doomed.map(|(pod, why)| (pod.meta.name.to_string(), why)).collect::<Vec<_>>()
        };
        let names = |kept| names_where(&[], kept);
        assert_eq!(names(1), [("a".into(), Why::NodeLost), ("c".into(), Why::NeverScheduled)]);
        assert_eq!(names(0).last(), Some(&("d".into(), Why::TooManyFinished)));
        // Those that were not told to go stay.
        let of_down = names_where(&[Arc::from("here")], 1);
        assert_eq!(of_down, [("a".into(), Why::NodeLost), ("b".into(), Why::NodeDown), ("c".into(), Why::NeverScheduled)]);
    }

    #[test]
    fn what_no_kubelet_ends_has_failed() {
        let of_generation = |generation: i64| {
            let mut pod = Pod::clone(&pod("a", "here", "Running", false));
            pod.metadata.generation = Some(generation);
            pod
        };
        assert_eq!(mark(Why::NodeDown, &of_generation(2), Timestamp::UNIX_EPOCH), json!({"phase": "Failed", "observedGeneration": 2}));
        let lost = mark(Why::NodeLost, &of_generation(3), Timestamp::UNIX_EPOCH);
        assert_eq!((&lost["observedGeneration"], &lost["conditions"][0]["observedGeneration"]), (&json!(3), &json!(3)));
        assert_eq!((&lost["phase"], &lost["conditions"][0]["type"]), (&json!("Failed"), &json!("DisruptionTarget")));
    }

    /// Two that are finished, one of them on a node that is lost.
    fn finished_pods() -> Cache<Pod> {
        let stored = |name: &str, node: &str, phase: &str| {
            let mut tree = serde_json::to_value(&*pod(name, node, phase, false)).expect("it encodes");
            tree["metadata"]["uid"] = json!(format!("{name}-uid"));
            Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
        };
        let pods = index_by_node(Cache::default());
        pods.add_index(FINISHED, |pod| is_finished(pod).then(|| "".into()).into_iter().collect());
        let listed = [stored("a", "here", "Failed"), stored("d", "lost", "Succeeded")];
        pods.replace_now(listed.into_iter().map(|stored| (stored.key.clone(), stored)).collect(), Revision(1));
        pods
    }

    #[actix::test]
    async fn finished_pods_are_decoded_once_however_often_they_are_counted() {
        let pods = finished_pods();
        let controller = PodGcController { digests: pods.digests(), pods, nodes: Cache::default(), missing: Default::default(), kept: FINISHED_KEPT };
        assert_eq!(controller.candidates(&[], &[], 1).await.len(), 2);
        let before = decoded_here();
        let found = controller.candidates(&[Arc::from("lost")], &[], 1).await;
        assert_eq!(found.iter().map(|pod| &*pod.meta.name).collect::<Vec<_>>(), ["d", "a"], "each once, though d is lost and finished");
        assert_eq!(decoded_here(), before);
        assert_eq!(controller.candidates(&[], &[], 2).await.len(), 0, "there is room for them");
    }
}
