//! What the scheduler knows of devices: slices, classes and claims out of caches, as they will be when what was decided is written.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use k8s_openapi::api::{
    core::v1::Pod,
    resource::{
        v1::{AllocationResult, DeviceClass, DeviceRequestAllocationResult, ResourceClaim, ResourceSlice},
        v1beta2::DeviceTaintRule,
    },
};
use parking_lot::RwLock;
use troupe_api::meta::{Clock, ObjectKey};

use super::{
    Amounts, InUse, Selectors, Slices,
    assumed::Assumed,
    capacity::amount,
    extended::{self, Classes},
    published::Published,
};
use crate::{
    devices::{DeviceId, allocation, claim_name, claims_of, is_for_pod, taken_by},
    runtime::cache::{Cache, Caches, Change},
};

/// Files classes under the extended resources that they stand for.
const BY_RESOURCE: &str = "for extended resource";
/// Files claims for extended resources under their pods.
const EXTENDED: &str = "for extended resources of pod";
/// Files claims under the devices that they have.
const BY_DEVICE: &str = "with device";

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct DeviceCaches {
    pub claims: Cache<ResourceClaim>,
    pub classes: Cache<DeviceClass>,
    pub published: Cache<ResourceSlice>,
    pub pods: Cache<Pod>,
    slices: Arc<RwLock<Published>>,
    pub selectors: Arc<Selectors>,
    pub assumed: Arc<Assumed>,
    /// Changes after which there may be devices for claims for which there were none.
    changes: Arc<AtomicU64>,
    pub clock: Arc<dyn Clock>,
}

impl DeviceCaches {
    pub fn new(caches: &Caches) -> Self {
        let claims: Cache<ResourceClaim> = caches.cache();
        claims.add_index(BY_DEVICE, |claim| taken_by(claim).map(|result| DeviceId::of(result).to_string().into()).collect());
        claims.add_index(EXTENDED, |claim| {
            let is_extended = claim.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(extended::ANNOTATION));
            let owners = claim.metadata.owner_references.iter().flatten().filter(|owner| is_extended && owner.controller == Some(true));
            owners.map(|owner| owner.uid.as_str().into()).collect()
        });
        let classes: Cache<DeviceClass> = caches.cache();
        classes.add_index(BY_RESOURCE, |class| class.spec.extended_resource_name.as_deref().map(Arc::from).into_iter().collect());
        DeviceCaches {
            claims,
            classes,
            published: caches.cache(),
            pods: caches.cache(),
            slices: Arc::default(),
            selectors: Arc::default(),
            assumed: Arc::default(),
            changes: Arc::default(),
            clock: caches.system().clock().clone(),
        }
    }

    /// A slice has come, changed or gone.
    pub fn take(&self, change: &Change<ResourceSlice>) {
        let mut slices = self.slices.write();
        match change.after() {
            Some(slice) => slices.set(&change.key.name, slice.clone()),
            None => slices.remove(&change.key.name),
        }
        self.selectors.verdicts.forget(&change.key.name);
        self.note_change();
    }

    /// A claim has come, changed or gone: one that has devices no more leaves them to others.
    pub fn take_claim(&self, change: &Change<ResourceClaim>) {
        let allocated = |claim: Option<&Arc<ResourceClaim>>| claim.and_then(|claim| allocation(claim).cloned());
        let before = allocated(change.before());
        if before.is_some() && before != allocated(change.after()) {
            self.note_change();
        }
    }

    /// There may be devices for claims for which there were none.
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was noted: what was not found stays so until it is another number.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A rule that taints devices has come, changed or gone. Whether devices may have other taints since.
    pub fn take_rule(&self, change: &Change<DeviceTaintRule>) -> bool {
        let matters = self.slices.write().set_rule(&change.key.name, change.after().cloned());
        if matters {
            self.note_change();
        }
        matters
    }

    /// What drivers publish just now.
    pub fn slices(&self) -> Slices {
        self.slices.read().slices()
    }

    pub fn class(&self, name: &str) -> Option<Arc<DeviceClass>> {
        self.classes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    /// The class that an extended resource stands for; of several the newest.
    pub fn class_for(&self, resource: &str) -> Option<String> {
        if let Some(name) = resource.strip_prefix(extended::OF_CLASS) {
            return self.class(name).map(|_| name.to_owned());
        }
        let named = self.classes.by_index(BY_RESOURCE, resource);
        let age = |class: &DeviceClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let newest = named.iter().max_by(|one, other| age(one).cmp(&age(other)).then_with(|| other.metadata.name.cmp(&one.metadata.name)))?;
        newest.metadata.name.clone()
    }

    /// The classes that extended resources of a pod stand for.
    pub fn classes_for(&self, pod: &Pod) -> Classes {
        let extended = extended::resources_of(pod).into_iter().filter(|name| name.contains('/'));
        extended.filter_map(|name| Some((name.to_owned(), self.class_for(name)?))).collect()
    }

    /// The claim that was made for a pod's extended resources, and that it does not use yet.
    pub fn extended_claim(&self, pod: &Pod) -> Option<Arc<ResourceClaim>> {
        self.claims.by_index(EXTENDED, pod.metadata.uid.as_deref()?).into_iter().next()
    }

    pub fn claim(&self, namespace: &str, name: &str) -> Option<Arc<ResourceClaim>> {
        self.claims.get(&ObjectKey::new(namespace, name)).map(|cached| cached.object)
    }

    /// How large the claims of a pod are together, in bytes as they are stored. None is decoded for this.
    pub fn size_of_claims(&self, pod: &Pod) -> usize {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names: BTreeSet<&str> = claims_of(pod).iter().filter_map(|asked| Some(claim_name(pod, asked).ok()??.0)).collect();
        let stored = names.into_iter().filter_map(|name| self.claims.stored(&ObjectKey::new(namespace, name)));
        stored.map(|claim| claim.encoded_length()).sum()
    }

    /// The claims of a pod.
    ///
    /// # Errors
    /// What it waits for.
    pub fn claims_of(&self, pod: &Pod) -> Result<Vec<Arc<ResourceClaim>>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut claims: Vec<Arc<ResourceClaim>> = Vec::new();
        for asked in claims_of(pod) {
            let Some((name, own)) = claim_name(pod, asked).map_err(|why| why.to_string())? else { continue };
            let claim = self.claim(namespace, name).ok_or_else(|| format!("resourceclaim.resource.k8s.io {name:?} not found"))?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("resourceclaim {name:?} is being deleted"));
            }
            if own {
                is_for_pod(pod, &claim)?;
            }
            // A pod may have several names for one claim.
            if !claims.iter().any(|known| known.metadata.uid == claim.metadata.uid) {
                claims.push(claim);
            }
        }
        Ok(claims)
    }

    /// Which devices are taken, as of now.
    pub fn in_use(&self) -> Taken {
        Taken { claims: self.claims.clone(), in_flight: self.assumed.all() }
    }
}

/// See [`DeviceCaches::in_use`].
pub struct Taken {
    claims: Cache<ResourceClaim>,
    in_flight: HashMap<String, AllocationResult>,
}

impl Taken {
    /// Results about a device. One that is written and still in flight is told once.
    fn results(&self, device: &DeviceId) -> Vec<DeviceRequestAllocationResult> {
        let is_about = |result: &&DeviceRequestAllocationResult| DeviceId::of(result) == *device;
        let claims = self.claims.by_index(BY_DEVICE, &device.to_string());
        let known = |uid: &String| claims.iter().any(|claim| claim.metadata.uid.as_ref() == Some(uid));
        let written = claims.iter().flat_map(|claim| taken_by(claim)).filter(is_about).cloned();
        let in_flight =
            self.in_flight.iter().filter(|(uid, _)| !known(uid)).flat_map(|(_, allocation)| allocation.devices.as_ref()?.results.as_ref());
        let in_flight = in_flight.flatten().filter(|result| result.admin_access != Some(true)).filter(is_about).cloned();
        written.chain(in_flight).collect()
    }
}

impl InUse for Taken {
    fn is_taken(&self, device: &DeviceId) -> bool {
        self.results(device).iter().any(|result| result.share_id.is_none())
    }

    fn shares(&self, device: &DeviceId) -> Option<Amounts> {
        let mut sum: Option<Amounts> = None;
        for result in self.results(device).iter().filter(|result| result.share_id.is_some()) {
            let sum = sum.get_or_insert_default();
            for (name, consumed) in result.consumed_capacity.iter().flatten() {
                *sum.entry(name.clone()).or_default() += amount(consumed);
            }
        }
        sum
    }
}
