//! Upstream's cases, and two properties: a plan that took effect leaves nothing to do, and no volume has two claims.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use proptest::prelude::*;
use serde_json::{Value, from_value, json};

use super::{
    claim::{self, View},
    model::{About, Action},
    volume,
};
use crate::storage::{self, class_of_claim, matching::is_bound_to, volume_name, volume_phase};

const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn claim(name: &str, more: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    merge(&mut claim, more);
    from_value(claim).expect("a claim")
}

fn volume(name: &str, more: Value) -> PersistentVolume {
    let mut volume = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/d"},
        },
        "status": {"phase": "Available"},
    });
    merge(&mut volume, more);
    from_value(volume).expect("a volume")
}

fn kept_for(name: &str, uid: &str) -> Value {
    let uid = if uid.is_empty() { Value::Null } else { uid.into() };
    json!({"spec": {"claimRef": {"namespace": "n", "name": name, "uid": uid}}})
}

fn class(name: &str, provisioner: &str, mode: &str) -> StorageClass {
    from_value(json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})).expect("a class")
}

/// Objects to which plans are applied as the API would.
#[derive(Default)]
struct World {
    claims: Vec<PersistentVolumeClaim>,
    volumes: Vec<PersistentVolume>,
    classes: Vec<StorageClass>,
    default_class: Option<&'static str>,
    waiting_pods: Vec<String>,
    users: Vec<String>,
    events: Vec<(String, String)>,
}

impl World {
    fn of(claims: Vec<PersistentVolumeClaim>, volumes: Vec<PersistentVolume>) -> Self {
        World { claims, volumes, ..World::default() }
    }

    fn plan_claim(&self, at: usize) -> Vec<Action> {
        let claim = &self.claims[at];
        let key = format!("n/{}", claim.metadata.name.as_deref().unwrap_or_default());
        let is_candidate = |volume: &&PersistentVolume| match storage::claim_of_volume(volume) {
            Some(claim) => claim == key,
            None => storage::class_of_volume(volume) == class_of_claim(claim),
        };
        let candidates: Vec<_> = self.volumes.iter().filter(is_candidate).cloned().map(Arc::new).collect();
        claim::plan(&View {
            claim,
            named: self.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(volume_name(claim))),
            candidates: &candidates,
            class: self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(class_of_claim(claim))),
            default_class: self.default_class,
            waiting_pods: &self.waiting_pods,
        })
    }

    fn plan_volume(&self, at: usize) -> Vec<Action> {
        let volume = &self.volumes[at];
        let uid = storage::binding::claim_uid(volume);
        let claim = self.claims.iter().find(|claim| claim.metadata.uid.as_deref() == Some(uid) && is_bound_to(volume, claim));
        volume::plan(volume, claim, &self.users)
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::UpdateVolume(new) => self.put_volume(|old| PersistentVolume { status: old.status.clone(), ..(*new).clone() }, &new),
                Action::UpdateVolumeStatus(new) => self.put_volume(|old| PersistentVolume { status: new.status.clone(), ..old.clone() }, &new),
                Action::UpdateClaim(new) => self.put_claim(|old| PersistentVolumeClaim { status: old.status.clone(), ..(*new).clone() }, &new),
                Action::UpdateClaimStatus(new) => self.put_claim(|old| PersistentVolumeClaim { status: new.status.clone(), ..old.clone() }, &new),
                Action::DeleteHostPath { volume, .. } => self.volumes.retain(|old| old.metadata.uid != volume.metadata.uid),
                Action::Tell { reason, message, .. } => self.events.push((reason.to_owned(), message)),
            }
        }
    }

    fn put_volume(&mut self, put: impl Fn(&PersistentVolume) -> PersistentVolume, new: &PersistentVolume) {
        let place = self.volumes.iter_mut().find(|old| old.metadata.uid == new.metadata.uid).expect("it exists");
        *place = put(place);
    }

    fn put_claim(&mut self, put: impl Fn(&PersistentVolumeClaim) -> PersistentVolumeClaim, new: &PersistentVolumeClaim) {
        let place = self.claims.iter_mut().find(|old| old.metadata.uid == new.metadata.uid).expect("it exists");
        *place = put(place);
    }

    /// Every claim and volume has its turn, until nothing is written any more.
    fn settle(&mut self) {
        for _ in 0..20 {
            let mut wrote = false;
            for at in 0..self.claims.len() {
                let actions = self.plan_claim(at);
                wrote |= actions.iter().any(is_write);
                self.apply(actions);
            }
            for at in 0..self.volumes.len() {
                let actions = self.plan_volume(at);
                wrote |= actions.iter().any(is_write);
                self.apply(actions);
            }
            if !wrote {
                return;
            }
        }
        panic!("it never settles: {:#?} {:#?}", self.claims, self.volumes);
    }

    fn settled(mut self) -> Self {
        self.settle();
        self
    }

    /// The claim's phase and volume.
    fn claim(&self, at: usize) -> (&str, &str) {
        (storage::claim_phase(&self.claims[at]), volume_name(&self.claims[at]))
    }

    /// The volume's phase and the claim that it refers to, with a mark where that has no UID.
    fn volume(&self, at: usize) -> (&str, String) {
        let volume = &self.volumes[at];
        let kept = if storage::binding::claim_uid(volume).is_empty() { "?" } else { "" };
        (volume_phase(volume), storage::claim_of_volume(volume).map(|claim| claim + kept).unwrap_or_default())
    }

    fn told(&self, reason: &str) -> Option<&str> {
        self.events.iter().find(|(told, _)| told == reason).map(|(_, message)| message.as_str())
    }
}

fn is_write(action: &Action) -> bool {
    !matches!(action, Action::Tell { .. })
}

#[test]
fn a_claim_is_bound_to_the_smallest_volume_that_fits_and_both_say_so() {
    let size = |size: &str| json!({"spec": {"capacity": {"storage": size}}});
    let world = World::of(vec![claim("c", json!({}))], vec![volume("tiny", size("500Mi")), volume("big", size("10Gi")), volume("fits", size("2Gi"))])
        .settled();
    assert_eq!(world.claim(0), ("Bound", "fits"));
    assert_eq!(world.volume(2), ("Bound", "n/c".into()));
    assert_eq!(world.volume(1), ("Available", String::new()));
    let claim = serde_json::to_value(&world.claims[0]).expect("encodes");
    assert_eq!(claim["metadata"]["annotations"], json!({COMPLETED: "yes", BY_CONTROLLER: "yes"}));
    assert_eq!(claim["status"], json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}));
    let volume = serde_json::to_value(&world.volumes[2]).expect("encodes");
    assert_eq!(volume["metadata"]["annotations"], json!({BY_CONTROLLER: "yes"}));
    assert_eq!((&volume["spec"]["claimRef"]["uid"], &volume["spec"]["claimRef"]["kind"]), (&json!("uid-c"), &json!("PersistentVolumeClaim")));
}

#[test]
fn volumes_that_do_not_match_stay_free() {
    for (what, claim_more, volume_more) in [
        ("too small", json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), json!({})),
        ("class", json!({"spec": {"storageClassName": "gold"}}), json!({})),
        ("class of the volume", json!({}), json!({"spec": {"storageClassName": "gold"}})),
        ("access", json!({"spec": {"accessModes": ["ReadWriteMany"]}}), json!({})),
        ("mode", json!({"spec": {"volumeMode": "Block"}}), json!({})),
        ("labels", json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}), json!({"metadata": {"labels": {"a": "c"}}})),
        ("attributes", json!({"spec": {"volumeAttributesClassName": "fast"}}), json!({})),
        ("going", json!({}), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        ("kept for another", json!({}), kept_for("other", "")),
        ("not available", json!({}), json!({"status": {"phase": "Released"}, "spec": {"claimRef": {"namespace": "n", "name": "o", "uid": "u"}}})),
    ] {
        let world = World::of(vec![claim("c", claim_more)], vec![volume("v", volume_more)]).settled();
        assert_eq!(world.claim(0), ("Pending", ""), "{what}");
    }
    let selected = claim("c", json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}));
    let world = World::of(vec![selected], vec![volume("v", json!({"metadata": {"labels": {"a": "b"}}}))]).settled();
    assert_eq!(world.claim(0), ("Bound", "v"));
}

#[test]
fn of_volumes_the_one_that_can_do_least_more_is_taken() {
    let modes = |modes: Value, size: &str| json!({"spec": {"accessModes": modes, "capacity": {"storage": size}}});
    let world = World::of(
        vec![claim("c", json!({}))],
        vec![
            volume("many", modes(json!(["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]), "1Gi")),
            volume("two", modes(json!(["ReadWriteOnce", "ReadOnlyMany"]), "5Gi")),
        ],
    )
    .settled();
    assert_eq!(world.claim(0), ("Bound", "two"));
}

#[test]
fn a_volume_that_is_kept_for_a_claim_is_taken_before_others() {
    let world = World::of(vec![claim("c", json!({}))], vec![volume("free", json!({})), volume("kept", kept_for("c", ""))]).settled();
    assert_eq!(world.claim(0), ("Bound", "kept"));
    assert_eq!(world.volumes[1].metadata.annotations, None, "a person bound it");
    assert_eq!(world.volume(1), ("Bound", "n/c".into()));
}

#[test]
fn without_a_class_and_without_a_volume_a_claim_waits() {
    let world = World::of(vec![claim("c", json!({}))], vec![]).settled();
    assert_eq!(world.claim(0), ("Pending", ""));
    assert_eq!(world.told("FailedBinding"), Some("no persistent volumes available for this claim and no storage class is set"));
}

#[test]
fn a_claim_that_says_nothing_of_its_class_gets_the_default_one_later() {
    let mut world = World::of(vec![claim("c", json!({"spec": {"storageClassName": null}}))], vec![]);
    world.settle();
    assert_eq!(world.claims[0].spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()), None);
    world.default_class = Some("gold");
    world.classes = vec![class("gold", "example.com/disk", "Immediate")];
    world.settle();
    assert_eq!(class_of_claim(&world.claims[0]), "gold");
    let empty = World { default_class: Some("gold"), ..World::of(vec![claim("c", json!({}))], vec![]) }.settled();
    assert_eq!(class_of_claim(&empty.claims[0]), "", "the empty class is one, too");
}

#[test]
fn the_provisioner_of_the_class_is_asked_and_told_of() {
    let of_class = || claim("c", json!({"spec": {"storageClassName": "gold"}}));
    let world = World { classes: vec![class("gold", "example.com/disk", "Immediate")], ..World::of(vec![of_class()], vec![]) }.settled();
    let annotations = world.claims[0].metadata.annotations.clone().expect("it was asked");
    for name in ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"] {
        assert_eq!(annotations.get(name).map(String::as_str), Some("example.com/disk"));
    }
    let waiting = "Waiting for a volume to be created either by the external provisioner 'example.com/disk' or manually by the system administrator.";
    assert!(world.told("ExternalProvisioning").is_some_and(|message| message.starts_with(waiting)), "{:?}", world.events);
    let unknown = World::of(vec![of_class()], vec![]).settled();
    assert_eq!(unknown.told("ProvisioningFailed"), Some("storageclass.storage.k8s.io \"gold\" not found"));
    let by_hand =
        World { classes: vec![class("gold", "kubernetes.io/no-provisioner", "Immediate")], ..World::of(vec![of_class()], vec![]) }.settled();
    assert_eq!(by_hand.told("ProvisioningFailed"), Some("no volume plugin matched name: kubernetes.io/no-provisioner"));
}

#[test]
fn a_class_that_waits_for_a_pod_leaves_binding_to_the_scheduler() {
    let delayed = || claim("c", json!({"spec": {"storageClassName": "late"}}));
    let free = || volume("v", json!({"spec": {"storageClassName": "late"}}));
    let world = |claim| World { classes: vec![class("late", "example.com/disk", "WaitForFirstConsumer")], ..World::of(vec![claim], vec![free()]) };
    let waiting = world(delayed()).settled();
    assert_eq!(waiting.claim(0), ("Pending", ""));
    assert_eq!(waiting.told("WaitForFirstConsumer"), Some("waiting for first consumer to be created before binding"));
    for (pods, message) in [(vec!["a"], "waiting for pod a to be scheduled"), (vec!["a", "b"], "waiting for pods a,b to be scheduled")] {
        let waiting = World { waiting_pods: pods.into_iter().map(str::to_owned).collect(), ..world(delayed()) }.settled();
        assert_eq!(waiting.told("WaitForPodScheduled"), Some(message));
    }
    let mut chosen = world(delayed());
    chosen.volumes[0].spec.as_mut().expect("a spec").claim_ref =
        from_value(json!({"namespace": "n", "name": "c", "uid": "uid-c"})).expect("a reference");
    chosen.settle();
    assert_eq!(chosen.claim(0), ("Bound", "v"), "the scheduler has bound the volume");
    let mut selected = delayed();
    selected.metadata.annotations = from_value(json!({"volume.kubernetes.io/selected-node": "one"})).expect("annotations");
    assert!(world(selected).settled().told("ExternalProvisioning").is_some());
}

#[test]
fn a_claim_that_names_its_volume_gets_it_or_waits() {
    let named = || claim("c", json!({"spec": {"volumeName": "v"}}));
    let bound = World::of(vec![named()], vec![volume("v", json!({}))]).settled();
    assert_eq!(bound.claim(0), ("Bound", "v"));
    assert!(!bound.claims[0].metadata.annotations.as_ref().expect("some").contains_key(BY_CONTROLLER), "a person named the volume");
    let missing = World::of(vec![named()], vec![]).settled();
    assert_eq!(missing.claim(0), ("Pending", "v"));
    for (more, why) in [
        (json!({"spec": {"capacity": {"storage": "1Mi"}}}), "requested PV is too small"),
        (json!({"spec": {"storageClassName": "gold"}}), "storageClassName does not match"),
        (json!({"spec": {"volumeMode": "Block"}}), "incompatible volumeMode"),
        (json!({"spec": {"accessModes": ["ReadOnlyMany"]}}), "incompatible accessMode"),
        (json!({"spec": {"volumeAttributesClassName": "fast"}}), "volumeAttributesClassName does not match"),
        (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), "the volume is marked for deletion \"v\""),
    ] {
        let world = World::of(vec![named()], vec![volume("v", more)]).settled();
        assert_eq!(world.claim(0), ("Pending", "v"));
        assert_eq!(world.told("VolumeMismatch"), Some(format!("Cannot bind to requested volume \"v\": {why}").as_str()));
    }
    let taken = World::of(vec![named(), claim("other", json!({}))], vec![volume("v", kept_for("other", ""))]).settled();
    assert_eq!((taken.claim(0), taken.claim(1)), (("Pending", "v"), ("Bound", "v")));
    assert_eq!(taken.told("FailedBinding"), Some("volume \"v\" already bound to a different claim."));
}

#[test]
fn a_claim_that_was_bound_is_lost_with_its_volume() {
    let was_bound = |volume: &str| {
        claim("c", json!({"metadata": {"annotations": {COMPLETED: "yes"}}, "spec": {"volumeName": volume}, "status": {"phase": "Bound"}}))
    };
    let gone = World::of(vec![was_bound("v")], vec![]).settled();
    assert_eq!(gone.claim(0), ("Lost", "v"));
    assert_eq!(gone.told("ClaimLost"), Some("Bound claim has lost its PersistentVolume. Data on the volume is lost!"));
    assert_eq!(gone.events.len(), 1, "it is told once");
    let unnamed = World::of(vec![was_bound("")], vec![]).settled();
    assert_eq!(unnamed.told("ClaimLost"), Some("Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"));
    let misbound = World::of(vec![was_bound("v"), claim("other", json!({}))], vec![volume("v", kept_for("other", "uid-other"))]).settled();
    assert_eq!(misbound.told("ClaimMisbound"), Some("Two claims are bound to the same volume, this one is bound incorrectly"));
    let unbound = World::of(vec![was_bound("v")], vec![volume("v", json!({}))]).settled();
    assert_eq!((unbound.claim(0), unbound.volume(0)), (("Bound", "v"), ("Bound", "n/c".into())), "the volume's side is put right");
}

#[test]
fn a_volume_whose_claim_is_gone_is_released_and_reclaimed() {
    let released = |policy: &str, more: Value| {
        let mut bound = kept_for("gone", "uid-gone");
        merge(&mut bound, json!({"spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": "Bound"}}));
        merge(&mut bound, more);
        World::of(vec![], vec![volume("v", bound)]).settled()
    };
    assert_eq!(released("Retain", json!({})).volume(0), ("Released", "n/gone".into()));
    let external = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "example.com/disk"}}});
    assert_eq!(released("Delete", external).volume(0), ("Released", "n/gone".into()), "its provisioner deletes it");
    let nobody = released("Delete", json!({}));
    assert_eq!(nobody.volume(0).0, "Failed");
    let why = "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched";
    assert_eq!(
        (nobody.told("VolumeFailedDelete"), nobody.volumes[0].status.as_ref().and_then(|status| status.message.as_deref())),
        (Some(why), Some(why))
    );
    let recycled = released("Recycle", json!({}));
    assert_eq!((recycled.volume(0).0, recycled.told("VolumeFailedRecycle")), ("Failed", Some("No recycler plugin found for the volume!")));
    let strange = released("Burn", json!({}));
    assert_eq!(strange.told("VolumeUnknownReclaimPolicy"), Some("Volume has unrecognized PersistentVolumeReclaimPolicy"));
}

#[test]
fn a_host_path_volume_is_deleted_with_what_lies_below_tmp_and_nowhere_else() {
    let released = |path: &str, annotations: Value| {
        let mut bound = kept_for("gone", "uid-gone");
        let spec = json!({"persistentVolumeReclaimPolicy": "Delete", "local": null, "hostPath": {"path": path}});
        merge(&mut bound, json!({"metadata": {"annotations": annotations}, "spec": spec, "status": {"phase": "Released"}}));
        World::of(vec![], vec![volume("v", bound)])
    };
    let removed = |path: &str| match &released(path, json!({})).plan_volume(0)[..] {
        [Action::DeleteHostPath { path, .. }] => Some(path.display().to_string()),
        _ => None,
    };
    let paths = ["/tmp/v", "/tmp//a/b/", "/tmp/", "/tmp", "/tmpfiles/v", "/data/tmp/v"].map(removed);
    assert_eq!(paths, [Some("v".to_owned()), Some("a/b".to_owned()), None, None, None, None]);
    let by = |provisioner: &str| json!({"pv.kubernetes.io/provisioned-by": provisioner});
    assert!(released("/tmp/v", by("kubernetes.io/host-path")).settled().volumes.is_empty());
    assert_eq!(released("/tmp/v", by("example.com/disk")).settled().volume(0).0, "Released", "its provisioner deletes it");
    let elsewhere = released("/data/v", json!({})).settled();
    let why = "host_path deleter only supports /tmp/.+ but received provided /data/v";
    assert_eq!((elsewhere.volume(0).0, elsewhere.told("VolumeFailedDelete")), ("Failed", Some(why)));
}

#[test]
fn a_new_claim_of_the_same_name_does_not_get_the_old_ones_volume() {
    let mut bound = kept_for("c", "uid-before");
    merge(&mut bound, json!({"status": {"phase": "Bound"}}));
    let world = World::of(vec![claim("c", json!({}))], vec![volume("v", bound)]).settled();
    assert_eq!((world.claim(0), world.volume(0)), (("Pending", ""), ("Released", "n/c".into())));
}

#[test]
fn a_volume_whose_claim_is_bound_elsewhere_is_given_back() {
    let elsewhere =
        || claim("c", json!({"metadata": {"annotations": {COMPLETED: "yes"}}, "spec": {"volumeName": "other"}, "status": {"phase": "Bound"}}));
    let pair = |more: Value| {
        let mut bound = kept_for("c", "uid-c");
        merge(&mut bound, json!({"status": {"phase": "Bound"}}));
        merge(&mut bound, more);
        World::of(vec![elsewhere()], vec![volume("v", bound), volume("other", kept_for("c", "uid-c"))]).settled()
    };
    assert_eq!(pair(json!({"metadata": {"annotations": {BY_CONTROLLER: "yes"}}})).volume(0), ("Available", String::new()));
    assert_eq!(pair(json!({})).volume(0), ("Available", "n/c?".into()), "a person kept it for the claim");
    let made = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "example.com/disk"}}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    assert_eq!(pair(made).volume(0), ("Released", "n/c".into()), "it was made for the claim alone");
}

#[test]
fn a_volume_of_another_mode_that_is_bound_to_a_claim_is_told_on_both_sides() {
    let mut bound = kept_for("c", "uid-c");
    merge(&mut bound, json!({"spec": {"volumeMode": "Block"}}));
    let world = World::of(vec![claim("c", json!({}))], vec![volume("v", bound)]).settled();
    assert_eq!(world.claim(0), ("Pending", ""));
    let told: Vec<_> = world.events.iter().filter(|(reason, _)| reason == "VolumeMismatch").map(|(_, message)| message.as_str()).collect();
    assert!(told.contains(&"Cannot bind PersistentVolume to requested PersistentVolumeClaim \"c\" due to incompatible volumeMode."), "{told:?}");
    assert!(told.contains(&"Cannot bind PersistentVolume \"v\" to requested PersistentVolumeClaim due to incompatible volumeMode."), "{told:?}");
}

#[test]
fn events_are_about_the_object_that_they_are_on() {
    let world = World::of(vec![claim("c", json!({}))], vec![]);
    let [Action::Tell { about: About::Claim(told), .. }] = &world.plan_claim(0)[..] else { panic!("one event") };
    assert_eq!(told.metadata.name.as_deref(), Some("c"));
}

fn any_claim(at: usize) -> impl Strategy<Value = PersistentVolumeClaim> {
    let class = prop_oneof![Just(Some("")), Just(Some("gold")), Just(Some("late")), Just(None)];
    let named = prop_oneof![4 => Just(None), 1 => (0..4_usize).prop_map(|at| Some(format!("v{at}")))];
    (1..4_u32, class, named, any::<bool>(), any::<bool>()).prop_map(move |(size, class, named, block, completed)| {
        let annotations = if completed { json!({COMPLETED: "yes"}) } else { json!({}) };
        let mode = if block { "Block" } else { "Filesystem" };
        let resources = json!({"requests": {"storage": format!("{size}Gi")}});
        let spec = json!({"storageClassName": class, "volumeName": named, "volumeMode": mode, "resources": resources});
        claim(&format!("c{at}"), json!({"metadata": {"annotations": annotations}, "spec": spec}))
    })
}

fn any_volume(at: usize) -> impl Strategy<Value = PersistentVolume> {
    let class = prop_oneof![Just(""), Just("gold"), Just("late")];
    let kept = prop_oneof![3 => Just(None), 2 => (0..4_usize, any::<bool>(), any::<bool>()).prop_map(Some)];
    let policy = prop_oneof![Just("Retain"), Just("Delete"), Just("Recycle")];
    (1..5_u32, class, kept, any::<bool>(), policy, any::<bool>()).prop_map(move |(size, class, kept, block, policy, made)| {
        let mode = if block { "Block" } else { "Filesystem" };
        let mut more = json!({"spec": {
            "storageClassName": class, "capacity": {"storage": format!("{size}Gi")}, "volumeMode": mode, "persistentVolumeReclaimPolicy": policy,
        }});
        if made {
            merge(&mut more, json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "example.com/disk"}}}));
        }
        if let Some((claim, is_bound, by_controller)) = kept {
            merge(&mut more, kept_for(&format!("c{claim}"), &if is_bound { format!("uid-c{claim}") } else { String::new() }));
            if by_controller {
                merge(&mut more, json!({"metadata": {"annotations": {BY_CONTROLLER: "yes"}}}));
            }
        }
        volume(&format!("v{at}"), more)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn everything_settles_and_no_two_claims_have_one_volume(
        claims in (any_claim(0), any_claim(1), any_claim(2), any_claim(3)),
        volumes in (any_volume(0), any_volume(1), any_volume(2), any_volume(3)),
    ) {
        let (a, b, c, d) = claims;
        let (e, f, g, h) = volumes;
        let mut world = World::of(vec![a, b, c, d], vec![e, f, g, h]);
        world.classes = vec![class("gold", "example.com/disk", "Immediate"), class("late", "example.com/disk", "WaitForFirstConsumer")];
        world.settle();
        for at in 0..4 {
            prop_assert!(!world.plan_claim(at).iter().any(is_write) && !world.plan_volume(at).iter().any(is_write));
        }
        let mut bound: Vec<&str> = (0..4).map(|at| world.claim(at)).filter(|(phase, _)| *phase == "Bound").map(|(_, volume)| volume).collect();
        let all = bound.len();
        bound.sort_unstable();
        bound.dedup();
        prop_assert_eq!(bound.len(), all, "two claims are bound to one volume");
    }
}
