use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use proptest::prelude::*;
use serde_json::json;

use crate::{
    controllers::{
        pod_digest::PodDigest,
        replicaset::{
            Replicated,
            plan::{Action, Plan},
        },
    },
    runtime::cache::digest_of,
};

fn plan(controller: &ReplicationController, pods: &[Arc<Pod>], failure: Option<&str>, now: Timestamp) -> Plan {
    let pods: Vec<Arc<PodDigest>> = pods.iter().map(|pod| digest_of::<Pod, PodDigest>(pod)).collect();
    super::plan::plan(controller, &pods, &[], failure, now)
}

fn controller(replicas: i32) -> ReplicationController {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}});
    let spec = json!({"replicas": replicas, "selector": {"app": "web"}, "template": template});
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "r", "generation": 1}, "spec": spec})).expect("a controller")
}

fn pod(name: &str, owned: bool, label: &str) -> Arc<Pod> {
    let owners = owned.then(|| json!([{"apiVersion": "v1", "kind": "ReplicationController", "name": "web", "uid": "r", "controller": true}]));
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"});
    let object = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": label}, "ownerReferences": owners},
        "spec": {"containers": [], "nodeName": "a"},
        "status": {"phase": "Running", "conditions": [condition]},
    });
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

#[test]
fn orphans_are_adopted_and_relabelled_pods_released() {
    let pods = [pod("orphan", false, "web"), pod("moved", true, "db")];
    let actions = plan(&controller(1), &pods, None, Timestamp::UNIX_EPOCH).actions;
    let want = [Action::Adopt { pod: "orphan".into(), uid: "orphan".into() }, Action::Release { pod: "moved".into(), uid: "moved".into() }];
    assert_eq!(actions[..2], want);
}

#[test]
fn a_controller_that_cannot_make_pods_says_so_and_says_when_it_can_again() {
    let controller = controller(1);
    let status = |controller: &ReplicationController, failure| {
        let actions = plan(controller, &[], failure, Timestamp::UNIX_EPOCH).actions;
        let status = actions.into_iter().find_map(|action| if let Action::UpdateStatus(status) = action { Some(*status) } else { None });
        controller.with_status(status.expect("a status"))
    };
    let failing = status(&controller, Some("exceeded quota"));
    let conditions = failing.status.clone().expect("written").conditions.expect("one");
    assert_eq!((conditions[0].type_.as_str(), conditions[0].message.as_deref()), ("ReplicaFailure", Some("exceeded quota")));
    assert_eq!(status(&failing, None).status.expect("written").conditions, None);
}

proptest! {
    /// Applying a plan leaves nothing to do.
    #[test]
    fn one_plan_is_enough(wanted in 0_i32..20, owned in 0_usize..20, orphans in 0_usize..5) {
        let mut controller = controller(wanted);
        let mut pods: Vec<_> = (0..owned).map(|n| pod(&format!("p{n}"), true, "web")).collect();
        pods.extend((0..orphans).map(|n| pod(&format!("o{n}"), false, "web")));
        for _ in 0..2 {
            for action in plan(&controller, &pods, None, Timestamp::UNIX_EPOCH).actions {
                match action {
                    Action::Create { count } => pods.extend((0..count).map(|n| pod(&format!("n{n}"), true, "web"))),
                    Action::Delete { uid, .. } => pods.retain(|pod| pod.metadata.uid.as_deref() != Some(&uid)),
                    Action::Adopt { uid, .. } => {
                        let at = pods.iter().position(|pod| pod.metadata.uid.as_deref() == Some(&uid)).expect("known");
                        pods[at] = pod(&uid, true, "web");
                    }
                    Action::Release { .. } => unreachable!("all labels match"),
                    Action::UpdateStatus(status) => controller = controller.with_status(*status),
                }
            }
        }
        prop_assert_eq!(plan(&controller, &pods, None, Timestamp::UNIX_EPOCH).actions, vec![]);
        prop_assert_eq!(pods.len(), usize::try_from(wanted).expect("small"));
        prop_assert_eq!(controller.status.expect("written").replicas, wanted);
    }
}
