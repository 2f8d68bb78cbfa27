use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet},
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    backoff::Backoff,
    eligibility::{Eligibility, Judge, Place},
    model::{Action, Why},
    plan::{Plan, Snapshot, plan},
    template::{HASH_LABEL, pod_for_node},
};
use crate::{
    controllers::{owners::controller_reference, pod_digest::PodDigest, pods::target_node},
    runtime::cache::digest_of,
};

fn daemon_set(strategy: Value, pod_spec: Value) -> DaemonSet {
    let mut spec = json!({"containers": [{"name": "c", "image": "a"}]});
    for (key, value) in pod_spec.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let template = json!({"metadata": {"labels": {"app": "agent"}}, "spec": spec});
    let spec = json!({"selector": {"matchLabels": {"app": "agent"}}, "template": template, "updateStrategy": strategy, "revisionHistoryLimit": 1});
    serde_json::from_value(json!({"metadata": {"name": "agent", "namespace": "n", "uid": "d", "generation": 1}, "spec": spec})).expect("a set")
}

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
}

fn node(name: &str, labels: Value, taints: Value) -> Arc<Node> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}})).expect("a node"))
}

/// A cluster in which every planned action takes effect, and pods become ready when told to.
struct World {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    revisions: Vec<Arc<ControllerRevision>>,
    backoff: Backoff,
    now: Timestamp,
    made: i64,
}

impl World {
    fn new(set: DaemonSet, nodes: usize) -> Self {
        let nodes = (0..nodes).map(|number| node(&format!("n{number:02}"), json!({}), json!([]))).collect();
        World { set, nodes, pods: Vec::new(), revisions: Vec::new(), backoff: Backoff::default(), now: Timestamp::UNIX_EPOCH, made: 0 }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<Arc<PodDigest>> = self.pods.iter().map(|pod| digest_of::<Pod, PodDigest>(pod)).collect();
        let (set, nodes, revisions, backoff) = (&self.set, &self.nodes, &self.revisions, &self.backoff);
        let snapshot = Snapshot { set, nodes, pods: &pods, revisions, backoff, compares_tolerations: false };
        plan(&snapshot, self.now)
    }

    fn next_time(&mut self) -> Option<Time> {
        self.made += 1;
        Some(Time(Timestamp::from_second(self.made).expect("small")))
    }

    fn apply(&mut self, plan: Plan) {
        for action in plan.actions {
            match action {
                Action::CreatePods { nodes, hash } => {
                    for node in nodes {
                        let mut pod = pod_for_node(&self.set, &node, &hash, controller_reference(&self.set));
                        pod.metadata.creation_timestamp = self.next_time();
                        let name = format!("agent-{}", self.made);
                        (pod.metadata.name, pod.metadata.uid) = (Some(name.clone()), Some(name));
                        pod.spec.as_mut().expect("made").node_name = Some(node);
                        self.pods.push(Arc::new(pod));
                    }
                }
                Action::DeletePod { uid, why, .. } => {
                    if let Why::Failed { node } = why {
                        self.backoff.replaced(&node, self.now);
                    }
                    self.pods.retain(|pod| pod.metadata.uid.as_deref() != Some(&uid));
                }
                Action::CreateRevision(mut revision) => {
                    revision.metadata.uid = revision.metadata.name.clone();
                    self.revisions.push(Arc::new(*revision));
                }
                Action::UpdateRevision(revision) => {
                    let at = self.revisions.iter().position(|other| other.metadata.uid == revision.metadata.uid).expect("known");
                    self.revisions[at] = Arc::new(*revision);
                }
                Action::DeleteRevision { uid, .. } => self.revisions.retain(|revision| revision.metadata.uid.as_deref() != Some(&uid)),
                Action::UpdateStatus(status) => self.set.status = Some(*status),
                other => unreachable!("nothing is adopted or doubled: {other:?}"),
            }
        }
    }

    /// Pods that `is_up` picks are ready since the beginning, others are not.
    fn settle(&mut self, is_up: impl Fn(&Pod) -> bool) {
        for pod in &mut self.pods {
            let ready = if is_up(pod) { "True" } else { "False" };
            let status =
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]});
            Arc::make_mut(pod).status = serde_json::from_value(status).expect("a status");
        }
    }

    fn roll_out(&mut self) {
        for _ in 0..200 {
            self.settle(|_| true);
            let plan = self.plan();
            if plan.actions.is_empty() {
                return;
            }
            self.apply(plan);
        }
        panic!("no end: {:?}", self.plan());
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.set.spec.as_mut().expect("set");
        spec.template.spec.as_mut().expect("set").containers[0].image = Some(image.into());
        self.set.metadata.generation = self.set.metadata.generation.map(|generation| generation + 1);
    }

    fn fail(&mut self, at: usize) {
        Arc::make_mut(&mut self.pods[at]).status = serde_json::from_value(json!({"phase": "Failed"})).expect("a status");
    }

    fn images(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut images: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pod in &self.pods {
            let image = pod.spec.as_ref().expect("made").containers[0].image.as_deref().expect("set");
            images.entry(target_node(pod).expect("pinned")).or_default().push(image);
        }
        images
    }

    fn deleted(plan: &Plan) -> usize {
        plan.actions.iter().filter(|action| matches!(action, Action::DeletePod { .. })).count()
    }
}

#[test]
fn every_node_that_fits_gets_one_pod() {
    let set = daemon_set(rolling(json!(1), json!(0)), json!({"nodeSelector": {"disk": "ssd"}}));
    let mut world = World::new(set, 0);
    let network_away = json!([{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]);
    world.nodes = vec![
        node("fits", json!({"disk": "ssd"}), json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])),
        node("other", json!({"disk": "hdd"}), json!([])),
        node("closed", json!({"disk": "ssd"}), json!([{"key": "k", "effect": "NoSchedule"}])),
        node("offline", json!({"disk": "ssd"}), network_away),
    ];
    world.roll_out();
    assert_eq!(world.images().into_keys().collect::<Vec<_>>(), ["fits"]);
    let status = world.set.status.clone().expect("written");
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled, status.number_ready), (1, 1, 1));
    assert_eq!((status.number_available, status.number_unavailable, status.observed_generation), (Some(1), None, Some(1)));
    world.set.spec.as_mut().expect("set").template.spec.as_mut().expect("set").host_network = Some(true);
    world.roll_out();
    assert_eq!(world.images().into_keys().collect::<Vec<_>>(), ["fits", "offline"]);
}

#[test]
fn taints_that_forbid_scheduling_keep_running_pods_and_those_that_evict_end_them() {
    let set = daemon_set(rolling(json!(1), json!(0)), json!({}));
    let judge = |taints: Value| Judge::new(&set, false).judge(&node("a", json!({}), taints));
    assert_eq!(judge(json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}])), Eligibility::Wanted);
    assert_eq!(judge(json!([{"key": "k", "effect": "NoSchedule"}])), Eligibility::Kept);
    assert_eq!(judge(json!([{"key": "k", "effect": "NoExecute"}])), Eligibility::Unwanted);
    let mut world = World::new(set, 1);
    world.roll_out();
    world.nodes = vec![node("n00", json!({}), json!([{"key": "k", "effect": "NoSchedule"}]))];
    world.roll_out();
    assert_eq!((world.pods.len(), world.set.status.clone().expect("written").number_misscheduled), (1, 1));
    world.nodes = vec![node("n00", json!({}), json!([{"key": "k", "effect": "NoExecute"}]))];
    world.roll_out();
    assert_eq!(world.pods.len(), 0);
}

#[test]
fn tolerations_that_compare_count_where_they_may() {
    let set = daemon_set(rolling(json!(1), json!(0)), json!({"tolerations": [{"key": "sla", "operator": "Gt", "value": "950"}]}));
    let judge = |value: &str, compares: bool| {
        let taints = json!([{"key": "sla", "value": value, "effect": "NoSchedule"}]);
        Judge::new(&set, compares).judge(&node("a", json!({}), taints))
    };
    assert_eq!((judge("990", true), judge("950", true), judge("990", false)), (Eligibility::Wanted, Eligibility::Kept, Eligibility::Kept));
}

#[test]
fn a_set_wants_a_node_by_no_more_than_is_kept_of_it() {
    let set = daemon_set(rolling(json!(1), json!(0)), json!({"nodeSelector": {"disk": "ssd"}}));
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}}});
    let pinned = daemon_set(rolling(json!(1), json!(0)), json!({"affinity": affinity}));
    for name in ["a", "b"] {
        for disk in ["ssd", "hdd"] {
            for effect in ["NoSchedule", "NoExecute", "PreferNoSchedule"] {
                let whole = node(name, json!({"disk": disk}), json!([{"key": "k", "effect": effect}]));
                let place = digest_of::<Node, Place>(&whole);
                for set in [&set, &pinned] {
                    assert_eq!(Judge::new(set, false).judge(&place.node), Judge::new(set, false).judge(&whole), "{name} {disk} {effect}");
                }
            }
        }
    }
}

#[test]
fn pods_are_pinned_to_their_node_and_carry_their_revision() {
    let mut world = World::new(daemon_set(rolling(json!(1), json!(0)), json!({"nodeSelector": {}})), 1);
    world.set.metadata.annotations = Some([("deprecated.daemonset.template.generation".to_owned(), "3".to_owned())].into());
    world.roll_out();
    let labels = world.pods[0].metadata.labels.clone().expect("set");
    assert_eq!(labels["pod-template-generation"], "3");
    assert_eq!(world.revisions[0].metadata.labels.as_ref().expect("set")[HASH_LABEL], labels[HASH_LABEL]);
    assert_eq!(world.revisions[0].metadata.name, Some(format!("agent-{}", labels[HASH_LABEL])));
    let mut pending = (*world.pods[0]).clone();
    pending.spec.as_mut().expect("set").node_name = None;
    assert_eq!(target_node(&pending), Some("n00"));
}

#[test]
fn a_pod_that_fails_again_is_replaced_after_a_pause() {
    let mut world = World::new(daemon_set(rolling(json!(1), json!(0)), json!({})), 1);
    world.roll_out();
    for _ in 0..2 {
        world.fail(0);
        let plan = world.plan();
        assert!(plan.actions.iter().any(|action| matches!(action, Action::DeletePod { why: Why::Failed { node }, .. } if node == "n00")));
        world.apply(plan);
        world.roll_out();
        world.fail(0);
        let plan = world.plan();
        assert_eq!(World::deleted(&plan), 0);
        world.now += SignedDuration::try_from(plan.again_after.expect("it waits")).expect("short");
    }
    assert_eq!(world.now, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(3));
}

#[test]
fn pauses_double_and_a_node_that_held_out_begins_anew() {
    let (mut backoff, mut now) = (Backoff::default(), Timestamp::UNIX_EPOCH);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        backoff.replaced("a", now);
        let left = backoff.left("a", now).expect("a pause");
        pauses.push(left.as_secs());
        now += SignedDuration::try_from(left).expect("short");
        assert_eq!(backoff.left("a", now), None);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
    now += SignedDuration::from_hours(1);
    backoff.replaced("a", now);
    assert_eq!(backoff.left("a", now), Some(Duration::from_secs(1)));
}

#[test]
fn with_on_delete_old_pods_stay_until_somebody_deletes_them() {
    let mut world = World::new(daemon_set(json!({"type": "OnDelete"}), json!({})), 2);
    world.roll_out();
    world.set_image("b");
    world.roll_out();
    assert!(world.images().values().all(|images| *images == ["a"]));
    assert_eq!(world.set.status.clone().expect("written").updated_number_scheduled, None);
    world.pods.remove(0);
    world.roll_out();
    assert_eq!(world.images().into_values().flatten().collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn a_rollback_renumbers_the_old_revision_and_the_limit_drops_unused_ones() {
    let mut world = World::new(daemon_set(rolling(json!("100%"), json!(0)), json!({})), 3);
    for image in ["a", "b", "a", "c", "d"] {
        world.set_image(image);
        world.roll_out();
    }
    let mut numbers: Vec<i64> = world.revisions.iter().map(|revision| revision.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [4, 5]);
}

#[test]
fn orphans_are_adopted_and_pods_that_no_longer_match_released() {
    let mut world = World::new(daemon_set(rolling(json!(1), json!(0)), json!({})), 2);
    world.roll_out();
    Arc::make_mut(&mut world.pods[0]).metadata.owner_references = None;
    Arc::make_mut(&mut world.pods[1]).metadata.labels = None;
    let actions = world.plan().actions;
    assert!(actions.contains(&Action::AdoptPod { pod: "agent-1".into(), uid: "agent-1".into() }));
    assert!(actions.contains(&Action::ReleasePod { pod: "agent-2".into(), uid: "agent-2".into() }));
    assert!(actions.iter().any(|action| matches!(action, Action::CreatePods { nodes, .. } if *nodes == ["n01"])));
}

#[test]
fn pods_that_wait_for_a_node_that_is_gone_are_deleted() {
    let mut world = World::new(daemon_set(rolling(json!(1), json!(0)), json!({})), 2);
    world.roll_out();
    Arc::make_mut(&mut world.pods[0]).spec.as_mut().expect("made").node_name = None;
    world.nodes.clear();
    world.roll_out();
    assert_eq!(world.images().into_keys().collect::<Vec<_>>(), ["n01"]);
}

proptest! {
    /// Whatever the bounds, an update ends, with one new pod a node, and keeps to its bounds on the way.
    #[test]
    fn an_update_stays_within_its_bounds(nodes in 1_usize..10, surging in any::<bool>(), bound in 1_usize..5, steps in proptest::collection::vec(0_i64..4, 1..40)) {
        let strategy = if surging { rolling(json!(0), json!(bound)) } else { rolling(json!(bound), json!(0)) };
        let mut world = World::new(daemon_set(strategy, json!({})), nodes);
        world.roll_out();
        let old = world.made;
        world.set_image("b");
        let mut up = old;
        for step in steps {
            let plan = world.plan();
            world.apply(plan);
            // Old pods stay up; new ones come up one after another and stay so.
            up = (up + step).min(world.made);
            let number = |pod: &Pod| pod.metadata.name.as_deref().and_then(|name| name.strip_prefix("agent-")?.parse::<i64>().ok()).expect("numbered");
            world.settle(|pod| number(pod) <= up);
            let ready = |images: &World| images.pods.iter().filter(|pod| number(pod) <= up).map(|pod| target_node(pod).expect("pinned").to_owned()).collect::<std::collections::BTreeSet<_>>().len();
            if surging {
                prop_assert_eq!(ready(&world), nodes);
                prop_assert!(world.pods.len() <= nodes + bound);
            } else {
                prop_assert!(ready(&world) + bound >= nodes);
                prop_assert!(world.pods.len() <= nodes);
            }
        }
        world.roll_out();
        prop_assert!(world.images().len() == nodes && world.images().values().all(|images| *images == ["b"]));
        prop_assert_eq!(world.plan(), Plan::default());
    }
}
