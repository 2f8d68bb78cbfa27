use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    claims,
    identity::{corrected, new_pod},
    member::{MemberDigest, REVISION_LABEL},
    model::{Action, Claims},
    plan::{Snapshot, plan},
};
use crate::{controllers::owners::controller_reference, runtime::cache::digest_of};

fn set(replicas: i32, more: Value) -> StatefulSet {
    let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}});
    let mut spec = json!({
        "replicas": replicas, "serviceName": "db", "revisionHistoryLimit": 1, "selector": {"matchLabels": {"app": "db"}},
        "template": template, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "n", "uid": "s", "generation": 1}, "spec": spec})).expect("a set")
}

fn with_claims(when_deleted: &str, when_scaled: &str) -> Value {
    json!({
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": when_scaled},
    })
}

/// A cluster in which every planned action takes effect; kubelets and the garbage collector act when told to.
struct World {
    set: StatefulSet,
    pods: Vec<Pod>,
    claims: Claims,
    revisions: Vec<ControllerRevision>,
    now: Timestamp,
    made: u32,
    /// Every pod made or deleted, as `+db-0` and `-db-0`.
    log: Vec<String>,
}

impl World {
    fn new(set: StatefulSet) -> Self {
        World { set, pods: Vec::new(), claims: Claims::new(), revisions: Vec::new(), now: Timestamp::UNIX_EPOCH, made: 0, log: Vec::new() }
    }

    fn plan(&self) -> Vec<Action> {
        let pods = self.digests();
        let revisions: Vec<_> = self.revisions.iter().cloned().map(Arc::new).collect();
        plan(&Snapshot { set: &self.set, pods: &pods, claims: &self.claims, revisions: &revisions }, self.now).actions
    }

    fn digests(&self) -> Vec<Arc<MemberDigest>> {
        self.pods.iter().map(digest_of).collect()
    }

    fn uid(&mut self) -> Option<String> {
        self.made += 1;
        Some(format!("u{}", self.made))
    }

    fn pod(&mut self, name: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some(name)).expect("there")
    }

    fn step(&mut self) -> bool {
        let actions = self.plan();
        let idle = actions.is_empty();
        for action in actions {
            self.apply(action);
        }
        !idle
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::CreatePod { template, ordinal } => {
                let mut pod = new_pod(&self.set, &template.template, &template.revision, ordinal);
                self.log.push(format!("+{}", pod.metadata.name.as_deref().expect("named")));
                pod.metadata.uid = self.uid();
                pod.status.get_or_insert_default().phase = Some("Pending".into());
                assert!(self.pods.iter().all(|other| other.metadata.name != pod.metadata.name), "made twice: {:?}", pod.metadata.name);
                self.pods.push(pod);
            }
            Action::UpdatePod { pod, ordinal, .. } => {
                let before = self.pod(&pod).clone();
                *self.pod(&pod) = corrected(&self.set, &before, ordinal);
            }
            Action::DeletePod { pod, .. } => {
                self.log.push(format!("-{pod}"));
                let now = Some(Time(self.now));
                self.pod(&pod).metadata.deletion_timestamp = now;
            }
            Action::AdoptPod { pod, .. } => {
                let owner = controller_reference(&self.set);
                self.pod(&pod).metadata.owner_references = Some(vec![owner]);
            }
            Action::ReleasePod { pod, .. } => self.pod(&pod).metadata.owner_references = None,
            Action::AdoptRevision { name, .. } => {
                let owner = controller_reference(&self.set);
                self.revision(&name).metadata.owner_references = Some(vec![owner]);
            }
            Action::CreateRevision(mut revision) => {
                revision.metadata.uid = self.uid();
                self.revisions.push(*revision);
            }
            Action::UpdateRevision(revision) => {
                let name = revision.metadata.name.clone().expect("named");
                *self.revision(&name) = *revision;
            }
            Action::DeleteRevision { uid, .. } => self.revisions.retain(|revision| revision.metadata.uid.as_ref() != Some(&uid)),
            Action::CreateClaim { template, ordinal } => {
                let mut claim = claims::new_claim(&self.set, template, ordinal).expect("a template");
                claim.metadata.uid = self.uid();
                self.claims.insert(claim.metadata.name.clone().expect("named"), Arc::new(claim));
            }
            Action::UpdateClaim { claim, owners, .. } => {
                let name = claim.metadata.name.clone().expect("named");
                self.claims.insert(name, Arc::new(claims::with_owners(&claim, owners)));
            }
            Action::Wait { .. } => {}
            Action::UpdateStatus(status) => self.set.status = Some(*status),
        }
    }

    fn revision(&mut self, name: &str) -> &mut ControllerRevision {
        self.revisions.iter_mut().find(|revision| revision.metadata.name.as_deref() == Some(name)).expect("there")
    }

    /// Pods come up, deleted ones go, and claims go with the pod that owns them.
    fn kubelets(&mut self) {
        let gone: Vec<_> = self.pods.extract_if(.., |pod| pod.metadata.deletion_timestamp.is_some()).filter_map(|pod| pod.metadata.uid).collect();
        let owned = |claim: &PersistentVolumeClaim| claim.metadata.owner_references.iter().flatten().any(|owner| gone.contains(&owner.uid));
        self.claims.retain(|_, claim| !owned(claim));
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": self.now.to_string()}]);
        for pod in &mut self.pods {
            let broken = pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some("broken"));
            let status = pod.status.get_or_insert_default();
            if status.phase.as_deref() == Some("Pending") && !broken {
                status.phase = Some("Running".into());
                status.conditions = serde_json::from_value(ready.clone()).expect("conditions");
            }
        }
    }

    /// Goes on until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..500 {
            let before = self.pods.clone();
            let stepped = self.step();
            self.kubelets();
            if !stepped && before == self.pods {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.log);
    }

    fn image(&mut self, image: &str) {
        let spec = self.set.spec.as_mut().expect("a spec");
        spec.template.spec.as_mut().expect("a pod").containers[0].image = Some(image.into());
        self.set.metadata.generation = self.set.metadata.generation.map(|generation| generation + 1);
        self.log.clear();
    }

    fn scale(&mut self, replicas: i32) {
        self.set.spec.as_mut().expect("a spec").replicas = Some(replicas);
        self.log.clear();
    }

    fn images(&self) -> Vec<(String, String)> {
        let image = |pod: &'_ Pod| pod.spec.as_ref().expect("a spec").containers[0].image.clone().unwrap_or_default();
        let mut all: Vec<_> = self.pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), image(pod))).collect();
        all.sort_unstable();
        all
    }
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, image)| (name.to_owned(), image.to_owned())).to_vec()
}

#[test]
fn pods_come_one_after_the_other_and_go_in_reverse() {
    let mut world = World::new(set(3, json!({})));
    world.step();
    assert_eq!(world.log, ["+db-0"]);
    world.step();
    assert_eq!(world.log, ["+db-0"], "the first is not ready yet");
    world.settle();
    assert_eq!(world.log, ["+db-0", "+db-1", "+db-2"]);
    world.scale(1);
    world.step();
    assert_eq!(world.log, ["-db-2"]);
    world.settle();
    assert_eq!(world.log, ["-db-2", "-db-1"]);
}

#[test]
fn with_parallel_management_all_come_and_go_at_once() {
    let mut world = World::new(set(3, json!({"podManagementPolicy": "Parallel"})));
    world.step();
    assert_eq!(world.log, ["+db-0", "+db-1", "+db-2"]);
    world.settle();
    world.scale(1);
    world.step();
    assert_eq!(world.log, ["-db-2", "-db-1"]);
}

#[test]
fn a_pod_knows_its_name_its_number_and_its_service() {
    let mut world = World::new(set(1, json!({"ordinals": {"start": 7}})));
    world.settle();
    let pod = &world.pods[0];
    assert_eq!(pod.metadata.name.as_deref(), Some("db-7"));
    let labels = pod.metadata.labels.clone().expect("labels");
    assert_eq!((labels["statefulset.kubernetes.io/pod-name"].as_str(), labels["apps.kubernetes.io/pod-index"].as_str()), ("db-7", "7"));
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-7"), Some("db")));
    assert_eq!(Some(&labels[REVISION_LABEL]), world.revisions[0].metadata.name.as_ref());
}

#[test]
fn numbers_may_be_as_large_as_a_set_can_say() {
    let mut world = World::new(set(2, json!({"ordinals": {"start": i32::MAX}})));
    world.settle();
    assert_eq!(world.log, ["+db-2147483647", "+db-2147483648"]);
    world.image("a:2");
    world.settle();
    assert_eq!(world.images(), owned([("db-2147483647", "a:2"), ("db-2147483648", "a:2")]));
}

#[test]
fn an_update_goes_from_the_highest_down_to_the_partition() {
    let mut world = World::new(set(4, json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}})));
    world.settle();
    world.image("a:2");
    world.settle();
    assert_eq!(world.log, ["-db-3", "+db-3", "-db-2", "+db-2"]);
    assert_eq!(world.images(), owned([("db-0", "a:1"), ("db-1", "a:1"), ("db-2", "a:2"), ("db-3", "a:2")]));
    let status = world.set.status.clone().expect("a status");
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), Some(2)));
    assert_ne!(status.current_revision, status.update_revision);
    // A pod below the partition comes back as it was.
    world.log.clear();
    world.pod("db-0").metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.settle();
    assert_eq!(world.images()[0], owned([("db-0", "a:1")])[0]);
}

#[test]
fn a_finished_update_makes_its_revision_the_current_one() {
    let mut world = World::new(set(2, json!({})));
    world.settle();
    world.image("a:2");
    world.settle();
    let status = world.set.status.clone().expect("a status");
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!((status.current_replicas, status.updated_replicas, status.ready_replicas), (Some(2), Some(2), Some(2)));
    assert_eq!(world.revisions.len(), 2);
    world.image("a:1");
    world.settle();
    assert_eq!(world.revisions.len(), 2, "the first template has its revision already");
    assert_eq!(world.revisions.iter().map(|revision| revision.revision).max(), Some(3));
    for image in ["a:3", "a:4"] {
        world.image(image);
        world.settle();
    }
    assert_eq!(world.revisions.len(), 2, "the limit is one beside the current");
}

#[test]
fn a_broken_update_stops_at_its_first_pod() {
    let mut world = World::new(set(3, json!({})));
    world.settle();
    world.image("broken");
    world.settle();
    assert_eq!(world.log, ["-db-2", "+db-2"]);
    assert_eq!(world.images()[1], owned([("db-1", "a:1")])[0]);
    // In order, nothing replaces a pod that is not ready: somebody must delete it, as with upstream.
    world.image("a:2");
    world.settle();
    assert_eq!(world.images()[2], owned([("db-2", "broken")])[0]);
    world.pod("db-2").metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.settle();
    assert_eq!(world.images(), owned([("db-0", "a:2"), ("db-1", "a:2"), ("db-2", "a:2")]));
}

#[test]
fn on_delete_updates_what_others_delete() {
    let mut world = World::new(set(2, json!({"updateStrategy": {"type": "OnDelete"}})));
    world.settle();
    world.image("a:2");
    world.settle();
    assert_eq!(world.images(), owned([("db-0", "a:1"), ("db-1", "a:1")]));
    world.pod("db-0").metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.settle();
    assert_eq!(world.images(), owned([("db-0", "a:2"), ("db-1", "a:1")]));
}

#[test]
fn several_pods_are_updated_at_once_where_that_is_allowed() {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": "50%"}});
    let mut world = World::new(set(5, json!({"updateStrategy": strategy, "podManagementPolicy": "Parallel"})));
    world.settle();
    world.image("a:2");
    world.step();
    assert_eq!(world.log, ["-db-4", "-db-3"]);
    world.settle();
    assert!(world.images().iter().all(|(_, image)| image == "a:2"));
}

#[test]
fn a_pod_that_ended_is_replaced() {
    let mut world = World::new(set(1, json!({})));
    world.settle();
    for phase in ["Failed", "Succeeded"] {
        world.log.clear();
        world.pod("db-0").status.as_mut().expect("a status").phase = Some(phase.into());
        world.settle();
        assert_eq!(world.log, ["-db-0", "+db-0"]);
    }
}

#[test]
fn the_next_pod_waits_until_the_last_is_available() {
    let mut world = World::new(set(2, json!({"minReadySeconds": 10})));
    world.step();
    world.kubelets();
    world.now += SignedDuration::from_secs(4);
    let planned = plan(&Snapshot { set: &world.set, pods: &world.digests(), claims: &world.claims, revisions: &[] }, world.now);
    assert_eq!(planned.again_after.map(|wait| wait.as_secs()), Some(6));
    world.step();
    assert_eq!(world.log, ["+db-0"]);
    world.now += SignedDuration::from_secs(6);
    world.step();
    assert_eq!(world.log, ["+db-0", "+db-1"]);
}

#[test]
fn strangers_are_left_alone_and_orphans_of_the_right_name_adopted() {
    let mut world = World::new(set(1, json!({})));
    world.settle();
    world.pod("db-0").metadata.owner_references = None;
    world.settle();
    assert!(world.pods[0].metadata.owner_references.is_some());
    world.pod("db-0").metadata.labels.get_or_insert_default().insert("app".into(), "other".into());
    let actions = world.plan();
    assert!(matches!(&actions[0], Action::ReleasePod { pod, .. } if pod == "db-0"), "{actions:?}");
}

#[test]
fn claims_outlive_their_pods_and_are_found_again() {
    let mut world = World::new(set(2, with_claims("Retain", "Retain")));
    world.settle();
    assert_eq!(world.claims.keys().collect::<Vec<_>>(), ["data-db-0", "data-db-1"]);
    let volume = &world.pods[0].spec.as_ref().expect("a spec").volumes.as_ref().expect("volumes")[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str()), Some("data-db-0"));
    let before = world.claims.clone();
    world.scale(0);
    world.settle();
    world.scale(2);
    world.settle();
    assert_eq!(world.claims, before);
    assert!(world.claims.values().all(|claim| claim.metadata.owner_references.is_none()));
}

#[test]
fn claims_go_with_the_set_or_with_pods_that_are_scaled_away() {
    let owners = |world: &World, name: &str| -> Vec<String> {
        world.claims[name].metadata.owner_references.iter().flatten().map(|owner| owner.kind.clone()).collect()
    };
    let mut world = World::new(set(2, with_claims("Delete", "Retain")));
    world.settle();
    assert_eq!(owners(&world, "data-db-1"), ["StatefulSet"]);
    world.scale(1);
    world.settle();
    assert_eq!(owners(&world, "data-db-1"), ["StatefulSet"]);
    let mut world = World::new(set(2, with_claims("Delete", "Delete")));
    world.settle();
    assert_eq!(owners(&world, "data-db-1"), ["StatefulSet"]);
    world.scale(1);
    world.step();
    assert_eq!(owners(&world, "data-db-1"), ["Pod"], "it goes with the pod");
    world.settle();
    assert_eq!(world.claims.keys().collect::<Vec<_>>(), ["data-db-0"]);
}

#[test]
fn a_pod_waits_while_its_claim_is_deleted() {
    let mut world = World::new(set(1, with_claims("Retain", "Retain")));
    world.settle();
    let mut claim = (*world.claims["data-db-0"]).clone();
    claim.metadata.deletion_timestamp = Some(Time(world.now));
    world.claims.insert("data-db-0".into(), Arc::new(claim));
    world.pods.clear();
    let actions = world.plan();
    let waits = |action: &Action| matches!(action, Action::Wait { why, announce: true, .. } if why == "pvc data-db-0 is being deleted");
    assert!(actions.iter().any(waits), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::CreatePod { .. })), "{actions:?}");
}

#[test]
fn a_deleted_set_leaves_its_pods_to_the_garbage_collector() {
    let mut world = World::new(set(2, json!({})));
    world.settle();
    world.set.metadata.deletion_timestamp = Some(Time(world.now));
    world.pods.pop();
    let actions = world.plan();
    assert!(matches!(actions[..], [Action::UpdateStatus(_)]), "{actions:?}");
}

/// As many as a number can say.
const ABSURD: i32 = i32::MAX;

#[test]
fn a_set_of_absurd_size_costs_what_is_done_now() {
    for (policy, first) in [("OrderedReady", 1), ("Parallel", 500)] {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 7, "maxUnavailable": "100%"}});
        for start in [0, ABSURD - 1000] {
            let more = json!({"podManagementPolicy": policy, "ordinals": {"start": start}, "updateStrategy": strategy});
            let mut world = World::new(set(ABSURD, more));
            let begun = std::time::Instant::now();
            world.step();
            assert_eq!((world.pods.len(), world.log[0].as_str()), (first, format!("+db-{start}").as_str()), "{policy}");
            world.kubelets();
            world.step();
            assert_eq!(world.pods.len(), 2 * first, "{policy}");
            assert!(begun.elapsed().as_secs() < 10, "{policy}: {:?}", begun.elapsed());
        }
    }
}

#[test]
fn a_set_of_many_claims_makes_them_a_few_at_a_time() {
    let templates: Vec<_> = (0..2000).map(|at| json!({"metadata": {"name": format!("v{at}")}, "spec": {"accessModes": ["ReadWriteOnce"]}})).collect();
    for policy in ["OrderedReady", "Parallel"] {
        let mut world = World::new(set(2000, json!({"podManagementPolicy": policy, "volumeClaimTemplates": templates})));
        for round in 1..=4 {
            let actions = world.plan();
            assert!(actions.len() <= 502, "{} steps at once", actions.len());
            world.step();
            assert!(world.claims.len() >= 490 * round, "{policy}: {} claims after {round} rounds", world.claims.len());
        }
        world.step();
        assert_eq!(world.log, ["+db-0"], "{policy}: a pod comes when it has all its claims");
        let volumes = world.pods[0].spec.as_ref().expect("a spec").volumes.as_ref().expect("volumes");
        assert_eq!(volumes.len(), 2000);
        assert!(world.claims.keys().all(|claim| claims::Names::of(&world.set).is_claim(claim)));
    }
}

#[test]
fn the_claims_of_a_set_are_known_by_their_names() {
    let set = set(1, with_claims("Retain", "Retain"));
    let names = claims::Names::of(&set);
    let is_claim = |name: &str| {
        assert_eq!(claims::is_claim_of(&set, name), names.is_claim(name), "{name}");
        names.is_claim(name)
    };
    assert!(["data-db-0", "data-db-17"].iter().all(|name| is_claim(name)));
    assert!(!["data-db-", "data-db", "data-db-1x", "datadb-1", "more-data-db-1", "data-other-db-1", "-db-1", ""].iter().any(|name| is_claim(name)));
}

#[test]
fn a_set_whose_pods_do_not_run_gets_no_more_of_them() {
    let mut world = World::new(set(ABSURD, json!({"podManagementPolicy": "Parallel"})));
    while world.step() {}
    assert_eq!(world.pods.len(), 2000);
    let revisions: Vec<_> = world.revisions.iter().cloned().map(Arc::new).collect();
    let planned = plan(&Snapshot { set: &world.set, pods: &world.digests(), claims: &world.claims, revisions: &revisions }, world.now);
    assert!(planned.held_back && planned.again_after.is_some(), "{planned:?}");
    world.scale(1500);
    while world.step() {}
    assert_eq!(world.log.len(), 500, "what is too many goes all the same");
}

#[test]
fn a_missing_pod_comes_back_while_thousands_are_missing_above() {
    let mut world = World::new(set(ABSURD, json!({"podManagementPolicy": "Parallel"})));
    world.step();
    world.kubelets();
    world.pods.remove(3);
    world.log.clear();
    world.step();
    assert_eq!(world.log[0], "+db-3");
}

proptest! {
    /// Applying a plan leaves nothing to do until somebody else acts, and the set comes to what it says.
    #[test]
    fn one_plan_is_enough(
        sizes in prop::collection::vec((0_i32..6, 0_u8..3), 1..5), parallel in any::<bool>(), partition in 0_i32..4, most in 0_i32..3,
    ) {
        let mut rolling = json!({"partition": partition});
        if most > 0 {
            rolling["maxUnavailable"] = most.into();
        }
        let mut more = with_claims("Delete", "Delete");
        more["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
        more["podManagementPolicy"] = if parallel { "Parallel" } else { "OrderedReady" }.into();
        let mut world = World::new(set(2, more));
        world.settle();
        for (replicas, image) in sizes {
            world.scale(replicas);
            world.image(&format!("a:{image}"));
            for _ in 0..4 {
                world.step();
                prop_assert_eq!(world.plan(), vec![]);
                world.kubelets();
            }
            world.settle();
            prop_assert_eq!(world.pods.len(), usize::try_from(replicas).expect("small"));
            let above = world.images().into_iter().filter(|(name, _)| name[3..].parse::<i32>().expect("an ordinal") >= partition);
            let wanted = format!("a:{image}");
            prop_assert!(above.map(|(_, found)| found).all(|found| found == wanted));
            prop_assert_eq!(world.claims.len(), world.pods.len());
        }
    }
}
