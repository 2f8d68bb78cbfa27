//! Claims and volumes under faults: made, given back and used again by people, and by a provisioner of somebody else's. At no time has a volume two
//! claims, and in the end every claim has a volume that can have one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tokio::time::{Instant, sleep};
use troupe_api::service::{DeleteOptions, PatchType};

use super::{
    Faults, SimulatedClock, simulate_with_clock,
    world::{World, seeds},
};
use crate::{
    controllers::{
        persistent_volume::{ClaimBinder, VolumeBinder},
        volume_protection::{PvProtectionController, PvcProtectionController},
    },
    runtime::system::System,
    storage::{
        PROVISIONED_BY, STORAGE_PROVISIONER, annotation,
        binding::claim_uid,
        claim_phase, class_of_claim,
        matching::{Search, best_match},
        reclaim_policy, volume_name, volume_phase,
    },
};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(180);
const REST: Duration = Duration::from_secs(900);

const PROVISIONED: &str = "disk";
const PROVISIONER: &str = "example.com/disk";
/// Claims have so many names: names come again, with other UIDs.
const NAMES: usize = 6;

/// Which volume each claim is bound to, by UID; which ever were, and what must not be.
#[derive(Default)]
struct Claims {
    bound: BTreeMap<String, String>,
    ever: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Claims {
    fn note(&mut self, claim: &PersistentVolumeClaim, is_there: bool) {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        self.bound.remove(&uid);
        match claim_phase(claim) {
            _ if !is_there => {}
            "Lost" => self.wrong.push(format!("claim {uid} has lost {}", volume_name(claim))),
            "Bound" => {
                let volume = volume_name(claim).to_owned();
                let other = self.bound.iter().find(|(_, bound)| **bound == volume).map(|(other, _)| other.clone());
                self.wrong.extend(other.map(|other| format!("claims {other} and {uid} have {volume}")));
                self.ever.insert(uid.clone());
                self.bound.insert(uid, volume);
            }
            _ => {}
        }
    }
}

/// Whose each volume is, by UIDs, and what must not be.
#[derive(Default)]
struct Volumes {
    claims: BTreeMap<String, String>,
    wrong: Vec<String>,
}

impl Volumes {
    fn note(&mut self, volume: &PersistentVolume, is_there: bool) {
        let uid = volume.metadata.uid.clone().unwrap_or_default();
        let before = self.claims.remove(&uid).unwrap_or_default();
        let claim = claim_uid(volume).to_owned();
        if is_there {
            if !before.is_empty() && !claim.is_empty() && before != claim {
                self.wrong.push(format!("volume {uid} went from claim {before} to {claim}"));
            }
            self.claims.insert(uid, claim);
        }
    }
}

async fn world(system: System, clock: Arc<SimulatedClock>, faults: Faults, seed: u64) -> World {
    let world = World::new(system, clock, faults, seed).await;
    world.start(ClaimBinder::new);
    world.start(VolumeBinder::new);
    world.start(PvcProtectionController::new);
    world.start(PvProtectionController::new);
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": PROVISIONED}, "provisioner": PROVISIONER});
    world.api.create(class).await;
    world
}

impl World {
    async fn claims(&self) -> Vec<Arc<PersistentVolumeClaim>> {
        self.list("default").await
    }

    async fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        self.list("").await
    }

    async fn claim(&self, name: usize, class: &str, size: u32) {
        let resources = json!({"requests": {"storage": format!("{size}Gi")}});
        let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": resources});
        let metadata = json!({"name": format!("c{name}"), "namespace": "default"});
        self.api.ensure(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})).await;
    }

    async fn volume(&self, name: &str, class: &str, size: u32) {
        let capacity = json!({"storage": format!("{size}Gi")});
        let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": capacity, "hostPath": {"path": "/v"}});
        self.api.create(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})).await;
    }

    /// Something that people do.
    async fn act(&self, at: usize, rng: &mut StdRng) {
        let (class, size) = (*["", PROVISIONED].choose(rng).expect("two"), rng.random_range(1..4));
        match rng.random_range(0..10) {
            0..4 => self.claim(rng.random_range(0..NAMES), class, size).await,
            4..6 => self.volume(&format!("v{at}"), class, size).await,
            6..8 => {
                let claims = self.claims().await;
                let living: Vec<_> = claims.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()).collect();
                let Some(name) = living.choose(rng).and_then(|claim| claim.metadata.name.as_deref()) else { return };
                self.api.delete("persistentvolumeclaims", "default", name, DeleteOptions::default()).await.expect("deleted");
            }
            _ => self.look_after_released(rng.random_bool(0.5)).await,
        }
    }

    /// A volume that its claim has left is given to others, or removed.
    async fn look_after_released(&self, is_given: bool) {
        let is_left = |volume: &&Arc<PersistentVolume>| {
            volume_phase(volume) == "Released" && reclaim_policy(volume) == "Retain" && volume.metadata.deletion_timestamp.is_none()
        };
        let volumes = self.volumes().await;
        let Some(name) = volumes.iter().find(is_left).and_then(|volume| volume.metadata.name.as_deref()) else { return };
        if is_given {
            let target = self.api.target("persistentvolumes", "", name);
            self.api.patch(target, PatchType::Merge, json!({"spec": {"claimRef": null}})).await.expect("patched");
        } else {
            self.api.delete("persistentvolumes", "", name, DeleteOptions::default()).await.expect("deleted");
        }
    }

    /// Makes the volumes that the provisioner is asked for, and removes those that were left, as upstream's provisioners do.
    async fn provision(&self) {
        for claim in self.claims().await {
            let is_asked = annotation(&claim.metadata, STORAGE_PROVISIONER) == Some(PROVISIONER) && volume_name(&claim).is_empty();
            if !is_asked || claim.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let uid = claim.metadata.uid.as_deref().unwrap_or_default();
            let reference =
                json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": claim.metadata.name, "uid": uid});
            let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
            let spec = json!({
                "storageClassName": PROVISIONED, "accessModes": ["ReadWriteOnce"], "capacity": requests, "hostPath": {"path": "/v"},
                "persistentVolumeReclaimPolicy": "Delete", "claimRef": reference,
            });
            let metadata = json!({"name": format!("pvc-{uid}"), "annotations": {PROVISIONED_BY: PROVISIONER}});
            self.api.ensure(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})).await;
        }
        for volume in self.volumes().await {
            let is_ours = annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER) && volume.metadata.deletion_timestamp.is_none();
            if is_ours && volume_phase(&volume) == "Released" {
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                self.api.delete("persistentvolumes", "", name, DeleteOptions::default()).await.expect("deleted");
            }
        }
    }

    /// The provisioner works for a while, and people do something about every third second if they do anything.
    async fn provision_for(&self, time: Duration, mut people: Option<StdRng>) {
        let begun = Instant::now();
        for at in 0.. {
            if begun.elapsed() >= time {
                return;
            }
            if let Some(rng) = &mut people
                && rng.random_ratio(1, 3)
            {
                self.act(at, rng).await;
            }
            self.provision().await;
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Claims and volumes say the same of each other, nothing waits that need not, and nothing is left that was to go.
    async fn check(&self) {
        let (claims, volumes, seed) = (self.claims().await, self.volumes().await, self.seed);
        for claim in &claims {
            assert!(claim.metadata.deletion_timestamp.is_none(), "seed {seed}: it stays: {claim:?}");
            let named = volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(volume_name(claim)));
            match (claim_phase(claim), named) {
                ("Bound", Some(volume)) => {
                    assert_eq!(Some(claim_uid(volume)), claim.metadata.uid.as_deref(), "seed {seed}");
                    assert_eq!(volume_phase(volume), "Bound", "seed {seed}: {volume:?}");
                }
                ("Pending", None) => {
                    assert_eq!(class_of_claim(claim), "", "seed {seed}: the provisioner was not asked: {claim:?}");
                    let fitting = best_match(claim, &volumes, Search::default());
                    assert_eq!(fitting, None, "seed {seed}: {claim:?}");
                }
                _ => panic!("seed {seed}: {claim:?} of {named:?}"),
            }
        }
        for volume in &volumes {
            assert!(volume.metadata.deletion_timestamp.is_none(), "seed {seed}: it stays: {volume:?}");
            let uid = claim_uid(volume);
            let claim = claims.iter().find(|claim| claim.metadata.uid.as_deref() == Some(uid));
            match volume_phase(volume) {
                "Bound" => assert_eq!(claim.map(|claim| volume_name(claim)), volume.metadata.name.as_deref(), "seed {seed}: {volume:?}"),
                "Available" => assert_eq!(uid, "", "seed {seed}: {volume:?}"),
                "Released" => assert!(claim.is_none() && reclaim_policy(volume) == "Retain", "seed {seed}: {volume:?}"),
                phase => panic!("seed {seed}: {phase}: {volume:?}"),
            }
        }
    }
}

#[test]
fn no_volume_has_two_claims_at_any_time_and_in_the_end_all_that_can_be_bound_is() {
    for seed in seeds() {
        for faults in [Faults::default(), Faults { conflict: 0.5, ..Faults::default() }, Faults { lost_reply: 0.3, ..Faults::default() }] {
            simulate_with_clock(seed, |system, clock| async move {
                let world = world(system, clock, faults, seed).await;
                let claims = world.note("claims", Claims::note);
                let volumes = world.note("volumes", Volumes::note);
                world.in_trouble(world.provision_for(FAULTY, Some(StdRng::seed_from_u64(seed)))).await;
                world.provision_for(REST, None).await;
                assert_eq!(claims.look().wrong, Vec::<String>::new(), "seed {seed}");
                assert_eq!(volumes.look().wrong, Vec::<String>::new(), "seed {seed}");
                assert!(!claims.look().ever.is_empty(), "seed {seed}: something was bound");
                world.check().await;
            });
        }
    }
}

#[test]
fn claims_and_volumes_are_bound_one_to_one_under_faults() {
    for seed in seeds() {
        simulate_with_clock(seed, |system, clock| async move {
            let world = world(system, clock, Faults::default(), seed).await;
            for name in 0..NAMES {
                world.claim(name, "", 1).await;
            }
            for at in 0..4 {
                world.volume(&format!("v{at}"), "", 1).await;
            }
            world.in_trouble(sleep(FAULTY)).await;
            sleep(REST).await;
            world.check().await;
            let bound: BTreeSet<_> = world.claims().await.iter().map(|claim| volume_name(claim).to_owned()).filter(|name| !name.is_empty()).collect();
            assert_eq!(bound.len(), 4, "seed {seed}");
        });
    }
}
