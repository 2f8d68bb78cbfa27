use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use proptest::prelude::*;
use serde_json::json;
use troupe_api::decoding::decoded_here;

use super::plan::{Action, Plan};
use crate::{controllers::pod_digest::PodDigest, runtime::cache::digest_of};

fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}});
    let spec = json!({"replicas": replicas, "minReadySeconds": min_ready_seconds, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"}, "spec": spec})).expect("a set")
}

fn pod(name: &str, owner: Option<&str>, label: &str, ready: bool) -> Arc<Pod> {
    let owners = owner.map(|uid| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true}]));
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "1970-01-01T00:00:00Z"});
    let object = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": label}, "ownerReferences": owners},
        "spec": {"containers": [], "nodeName": "a"},
        "status": {"phase": "Running", "conditions": [condition]},
    });
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], failure: Option<&str>, now: Timestamp) -> Plan {
    let pods: Vec<Arc<PodDigest>> = pods.iter().map(|pod| digest_of::<Pod, PodDigest>(pod)).collect();
    super::plan::plan(set, &pods, &pods, failure, now)
}

fn steps(set: &ReplicaSet, pods: &[Arc<Pod>]) -> Vec<Action> {
    let actions = plan(set, pods, None, Timestamp::UNIX_EPOCH).actions;
    actions.into_iter().filter(|action| !matches!(action, Action::UpdateStatus(_))).collect()
}

#[test]
fn missing_pods_are_created_in_bursts() {
    assert_eq!(steps(&set(3, 0), &[pod("a", Some("s"), "web", true)]), [Action::Create { count: 2 }]);
    assert_eq!(steps(&set(2000, 0), &[]), [Action::Create { count: 500 }]);
}

#[test]
fn a_set_of_absurd_size_gets_pods_while_they_come_to_run() {
    let waiting = |count: usize| -> Vec<_> { (0..count).map(|n| pending(&format!("p{n}"))).collect() };
    assert_eq!(steps(&set(i32::MAX, 0), &waiting(1900)), [Action::Create { count: 100 }]);
    let planned = plan(&set(i32::MAX, 0), &waiting(2000), None, Timestamp::UNIX_EPOCH);
    assert!(planned.held_back && planned.again_after.is_some(), "{planned:?}");
    assert!(!planned.actions.iter().any(|action| matches!(action, Action::Create { .. })), "{planned:?}");
    assert!(!plan(&set(2000, 0), &waiting(2000), None, Timestamp::UNIX_EPOCH).held_back, "nothing is missing");
}

fn pending(name: &str) -> Arc<Pod> {
    let mut waiting = (*pod(name, Some("s"), "web", false)).clone();
    waiting.status = serde_json::from_value(json!({"phase": "Pending"})).expect("a status");
    Arc::new(waiting)
}

#[test]
fn unready_pods_are_deleted_before_ready_ones() {
    let pods = [pod("a", Some("s"), "web", true), pod("b", Some("s"), "web", false), pod("c", Some("s"), "web", true)];
    assert_eq!(steps(&set(2, 0), &pods), [Action::Delete { pod: "b".into(), uid: "b".into() }]);
}

#[test]
fn pods_that_crowd_a_node_are_deleted_before_others() {
    let on = |name: &str, node: &str| {
        let mut bound = (*pod(name, Some("s"), "web", true)).clone();
        bound.spec.as_mut().expect("a spec").node_name = Some(node.into());
        Arc::new(bound)
    };
    let pods = [on("a", "one"), on("b", "two"), on("c", "two"), on("d", "three")];
    assert_eq!(steps(&set(3, 0), &pods), [Action::Delete { pod: "b".into(), uid: "b".into() }]);
    // Those of another set with the same controller crowd it, too.
    let digest = |pod: &Arc<Pod>| digest_of::<Pod, PodDigest>(pod);
    let own: Vec<Arc<PodDigest>> = [on("a", "one"), on("d", "three")].iter().map(digest).collect();
    let related: Vec<Arc<PodDigest>> = [on("a", "one"), on("d", "three"), on("x", "three")].iter().map(digest).collect();
    let planned = super::plan::plan(&set(1, 0), &own, &related, None, Timestamp::UNIX_EPOCH);
    assert!(planned.actions.contains(&Action::Delete { pod: "d".into(), uid: "d".into() }), "{planned:?}");
    // Of pods that are alike their UIDs say.
    let planned = super::plan::plan(&set(1, 0), &own, &[], None, Timestamp::UNIX_EPOCH);
    assert!(planned.actions.contains(&Action::Delete { pod: "a".into(), uid: "a".into() }), "{planned:?}");
}

#[test]
fn thousands_of_pods_are_planned_on_without_decoding_them() {
    let pods: Vec<Arc<Pod>> = (0..1000).map(|n| pod(&format!("p{n:04}"), Some("s"), "web", true)).collect();
    let digests: Vec<Arc<PodDigest>> = pods.iter().map(|pod| digest_of::<Pod, PodDigest>(pod)).collect();
    let before = decoded_here();
    let planned = super::plan::plan(&set(990, 0), &digests, &digests, None, Timestamp::UNIX_EPOCH);
    assert_eq!(planned.actions.iter().filter(|action| matches!(action, Action::Delete { .. })).count(), 10);
    let status = planned.actions.iter().find_map(|action| if let Action::UpdateStatus(status) = action { Some(status) } else { None });
    assert_eq!(status.map(|status| (status.replicas, status.ready_replicas, status.fully_labeled_replicas)), Some((1000, Some(1000), Some(1000))));
    assert_eq!(decoded_here(), before);
}

#[test]
fn orphans_are_adopted_strangers_left_alone_and_relabelled_pods_released() {
    let pods = [pod("orphan", None, "web", true), pod("other", Some("x"), "web", true), pod("moved", Some("s"), "db", true)];
    let want = [Action::Adopt { pod: "orphan".into(), uid: "orphan".into() }, Action::Release { pod: "moved".into(), uid: "moved".into() }];
    assert_eq!(steps(&set(1, 0), &pods), want);
}

#[test]
fn a_pod_counts_as_available_after_min_ready_seconds() {
    let (set, pods) = (set(1, 10), [pod("a", Some("s"), "web", true)]);
    let available = |seconds| {
        let planned = plan(&set, &pods, None, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
        let status = planned.actions.iter().find_map(|action| if let Action::UpdateStatus(status) = action { Some(status.clone()) } else { None });
        (status.expect("changed").available_replicas.unwrap_or(0), planned.again_after.map(|wait| wait.as_secs()))
    };
    assert_eq!(available(4), (0, Some(6)));
    assert_eq!(available(10), (1, None));
}

proptest! {
    /// Applying a plan leaves nothing to do.
    #[test]
    fn one_plan_is_enough(wanted in 0_i32..20, owned in 0_usize..20, orphans in 0_usize..5) {
        let mut set = set(wanted, 0);
        let mut pods: Vec<_> = (0..owned).map(|n| pod(&format!("p{n}"), Some("s"), "web", true)).collect();
        pods.extend((0..orphans).map(|n| pod(&format!("o{n}"), None, "web", true)));
        for _ in 0..2 {
            for action in plan(&set, &pods, None, Timestamp::UNIX_EPOCH).actions {
                match action {
                    Action::Create { count } => pods.extend((0..count).map(|n| pod(&format!("n{n}"), Some("s"), "web", true))),
                    Action::Delete { uid, .. } => pods.retain(|pod| pod.metadata.uid.as_deref() != Some(&uid)),
                    Action::Adopt { uid, .. } => {
                        let at = pods.iter().position(|pod| pod.metadata.uid.as_deref() == Some(&uid)).expect("known");
                        pods[at] = pod(&uid, Some("s"), "web", true);
                    }
                    Action::Release { .. } => unreachable!("all labels match"),
                    Action::UpdateStatus(status) => set.status = Some(*status),
                }
            }
        }
        prop_assert_eq!(plan(&set, &pods, None, Timestamp::UNIX_EPOCH).actions, vec![]);
        prop_assert_eq!(pods.len(), usize::try_from(wanted).expect("small"));
    }
}
