//! Attaching volumes of CSI drivers to the nodes whose pods use them, and detaching them after.
//!
//! A VolumeAttachment asks the driver's external attacher; it says when the volume is there. Upstream's one loop is two controllers
//! here: [`Attacher`] has volumes for keys, so that nobody decides twice at a time about one that only one node may have, and
//! [`AttachedVolumes`] nodes, whose status it alone writes. A volume goes in three steps, each of which waits for the one before to be
//! seen: the node says that it is not in use, its status forgets it (a write that fails if the node has begun to use it meanwhile),
//! and the attachment is deleted.

mod nodes;
pub mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::{CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use parking_lot::Mutex;
use troupe_api::{
    meta::{Cause, ObjectKey},
    service::DeleteOptions,
};

pub use self::nodes::AttachedVolumes;
use self::plan::{Hold, Plan, View, hold, is_listed, multi_attach, plan};
use super::pods::{is_finished, node_of};
use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Waker, Watches},
    },
    storage::{
        claims_of,
        csi::{attached, attachment_name, is_attached, is_exclusive, source, unique_name},
        is_for_pod, operations,
        users::{index_by_claim, users_of},
        volume_name,
    },
};

/// Files attachments under their volume, and under their node.
const BY_VOLUME: &str = "attached volume";
const BY_NODE: &str = "attached to node";
/// Files volumes under their driver.
const BY_DRIVER: &str = "of driver";

/// What both controllers know. Cheap to clone.
#[derive(Clone)]
struct World {
    volumes: Cache<PersistentVolume>,
    claims: Cache<PersistentVolumeClaim>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    attachments: Cache<VolumeAttachment>,
    drivers: Cache<CSIDriver>,
    /// Since when nobody wants a volume on a node.
    unwanted: Arc<Mutex<BTreeMap<(String, String), Timestamp>>>,
    /// Wakes the controller of nodes.
    nodes_waker: Arc<Mutex<Option<Waker>>>,
}

impl World {
    fn new(caches: &Caches) -> Self {
        let (attachments, volumes): (Cache<VolumeAttachment>, Cache<PersistentVolume>) = (caches.cache(), caches.cache());
        attachments.add_index(BY_VOLUME, |attachment| attachment.spec.source.persistent_volume_name.as_deref().map(Arc::from).into_iter().collect());
        attachments.add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.as_str().into()]);
        volumes.add_index(BY_DRIVER, |volume| source(volume).map(|source| source.driver.as_str().into()).into_iter().collect());
        World {
            volumes,
            claims: caches.cache(),
            pods: index_by_claim(caches.cache()),
            nodes: caches.cache(),
            attachments,
            drivers: caches.cache(),
            unwanted: Arc::default(),
            nodes_waker: Arc::default(),
        }
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    /// The pods on nodes that use a volume, by their nodes; those that have ended use nothing.
    fn users(&self, volume: &PersistentVolume) -> BTreeMap<String, Vec<Arc<Pod>>> {
        let mut users: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return users };
        let key = ObjectKey::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
        let Some(claim) = self.claims.get(&key).map(|cached| cached.object) else { return users };
        if Some(volume_name(&claim)) != volume.metadata.name.as_deref() || claim.metadata.uid != reference.uid {
            return users;
        }
        let uses = |pod: &Arc<Pod>| {
            let named = claims_of(pod).find(|used| Some(&used.name) == claim.metadata.name.as_ref());
            named.is_some_and(|used| !used.ephemeral || is_for_pod(&claim, pod).is_ok())
        };
        for pod in users_of(&self.pods, &key).into_iter().filter(|pod| !is_finished(pod) && uses(pod)) {
            if let Some(node) = node_of(&pod) {
                users.entry(node.to_owned()).or_default().push(pod.clone());
            }
        }
        users
    }

    /// How the node of an attachment stands to its volume; `None` where pods want it there, or its volume is not known.
    fn standing(&self, attachment: &VolumeAttachment, now: Timestamp) -> Option<(String, Hold)> {
        let name = attachment.spec.source.persistent_volume_name.as_deref()?;
        let volume = self.volumes.get(&ObjectKey::cluster(name))?.object;
        let source = source(&volume)?;
        let node = &attachment.spec.node_name;
        let key = (name.to_owned(), node.clone());
        if self.users(&volume).contains_key(node) {
            self.unwanted.lock().remove(&key);
            return None;
        }
        let since = *self.unwanted.lock().entry(key).or_insert(now);
        let unique = unique_name(&source.driver, &source.volume_handle);
        let hold = hold(self.node(node).as_deref(), &unique, since, now);
        Some((unique, hold))
    }

    fn volume_of(&self, key: &ObjectKey) -> Option<ObjectKey> {
        let claim = self.claims.get(key)?.object;
        Some(volume_name(&claim)).filter(|name| !name.is_empty()).map(ObjectKey::cluster)
    }
}

/// Volumes whose attachments are kept. See the module.
pub struct Attacher {
    world: World,
    /// Attachments of which it was not told yet that they stand, by volume and node, with since when.
    waiting: Mutex<BTreeMap<(String, String), Instant>>,
    /// Those that were deleted and are there, with their drivers, and since when.
    leaving: Mutex<BTreeMap<(String, String), (String, Instant)>>,
    /// The errors that were told of, and the nodes that were refused a volume, each once.
    told: Mutex<BTreeMap<(String, String), String>>,
    refused: Mutex<BTreeSet<(String, String)>>,
}

/// Both controllers.
pub fn controllers(caches: &Caches) -> (Attacher, AttachedVolumes) {
    let world = World::new(caches);
    let attacher =
        Attacher { world: world.clone(), waiting: Mutex::default(), leaving: Mutex::default(), told: Mutex::default(), refused: Mutex::default() };
    (attacher, AttachedVolumes::new(world))
}

impl Controller for Attacher {
    const NAME: &'static str = "attachdetach-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<PersistentVolume>(|change| change.versions().any(|volume| source(volume).is_some()));
        watches.map::<VolumeAttachment>(|change| {
            change.versions().filter_map(|attachment| attachment.spec.source.persistent_volume_name.as_deref()).map(ObjectKey::cluster).collect()
        });
        watches.map::<PersistentVolumeClaim>(|change| {
            change.versions().map(|claim| volume_name(claim)).filter(|name| !name.is_empty()).map(ObjectKey::cluster).collect()
        });
        let world = self.world.clone();
        watches.map::<Pod>(move |change| {
            let claims = change.versions().flat_map(|pod| claims_of(pod)).map(|claim| ObjectKey::new(change.key.namespace.clone(), claim.name));
            claims.filter_map(|claim| world.volume_of(&claim)).collect()
        });
        let world = self.world.clone();
        watches.map::<Node>(move |change| {
            let there = world.attachments.by_index(BY_NODE, &change.key.name);
            there.iter().filter_map(|attachment| attachment.spec.source.persistent_volume_name.as_deref()).map(ObjectKey::cluster).collect()
        });
        let world = self.world.clone();
        watches.map::<CSIDriver>(move |change| {
            let name = change.key.name.to_string();
            world.volumes.index_keys_where(BY_DRIVER, &name, |filed| filed == name)
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let world = &self.world;
        let attachments = world.attachments.by_index(BY_VOLUME, &key.name);
        self.forget(&key.name, &attachments, cx.system().instant());
        let Some(volume) = world.volumes.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let Some(csi) = source(&volume) else { return Ok(Outcome::Done) };
        let driver = world.drivers.get(&ObjectKey::cluster(csi.driver.as_str())).map(|cached| cached.object);
        let users = world.users(&volume);
        let unique = unique_name(&csi.driver, &csi.volume_handle);
        let mut wanted: Vec<String> = if is_attached(driver.as_deref()) { users.keys().cloned().collect() } else { Vec::new() };
        wanted.sort_by_key(|node| (users[node].iter().filter_map(|pod| pod.metadata.creation_timestamp.clone()).min(), node.clone()));
        let standing = |attachment: &Arc<VolumeAttachment>| {
            let node = attachment.spec.node_name.clone();
            let (_, hold) = world.standing(attachment, cx.now())?;
            let listed = is_listed(world.node(&node).as_deref(), &unique);
            Some((node, (hold, listed)))
        };
        let unwanted = attachments.iter().filter_map(standing).collect();
        let seen: Vec<_> = attachments.iter().map(|attachment| &**attachment).collect();
        let plan = plan(&View { wanted: &wanted, attachments: &seen, is_exclusive: is_exclusive(&volume), unwanted: &unwanted });
        self.tell(&key.name, &attachments, &users, cx);
        self.refuse(&key.name, &plan, &attachments, &users, cx);
        self.apply(&volume, plan, cx).await
    }
}

/// Counts what an external attacher did, or failed to do.
fn attempted(driver: &str, operation: &str, is_done: bool, took: Duration) {
    operations::attempted(&format!("kubernetes.io/csi:{driver}"), operation, is_done, took);
}

impl Attacher {
    /// Forgets what was noted of attachments that are gone.
    fn forget(&self, volume: &str, attachments: &[Arc<VolumeAttachment>], now: Instant) {
        let is_there = |key: &(String, String)| key.0 != volume || attachments.iter().any(|attachment| attachment.spec.node_name == key.1);
        self.world.unwanted.lock().retain(|key, _| is_there(key));
        self.told.lock().retain(|key, _| is_there(key));
        self.waiting.lock().retain(|key, _| is_there(key));
        self.leaving.lock().retain(|key, (driver, since)| {
            let stays = is_there(key);
            if !stays {
                attempted(driver, "volume_detach", true, now.saturating_duration_since(*since));
            }
            stays
        });
    }

    /// Tells the pods of attachments that stand by now, and of those that an attacher has failed on.
    fn tell(&self, volume: &str, attachments: &[Arc<VolumeAttachment>], users: &BTreeMap<String, Vec<Arc<Pod>>>, cx: &ReconcileContext) {
        let now = cx.system().instant();
        for attachment in attachments {
            let key = (volume.to_owned(), attachment.spec.node_name.clone());
            let pods = users.get(&attachment.spec.node_name).map(Vec::as_slice).unwrap_or_default();
            let failure = attachment.status.as_ref().and_then(|status| status.attach_error.as_ref());
            if attached(attachment) {
                self.told.lock().remove(&key);
                if let Some(since) = self.waiting.lock().remove(&key) {
                    attempted(&attachment.spec.attacher, "volume_attach", true, now.saturating_duration_since(since));
                    let message = format!("AttachVolume.Attach succeeded for volume {volume:?} ");
                    pods.iter().for_each(|pod| cx.tell(&**pod, false, "SuccessfulAttachVolume", message.clone()));
                }
            } else if let Some(failure) = failure {
                let why = failure.message.clone().unwrap_or_default();
                let stamp = format!("{:?} {why}", failure.time);
                let since = self.waiting.lock().get(&key).copied().unwrap_or(now);
                if self.told.lock().insert(key, stamp.clone()) != Some(stamp) {
                    attempted(&attachment.spec.attacher, "volume_attach", false, now.saturating_duration_since(since));
                    let message = format!("AttachVolume.Attach failed for volume {volume:?} : {why}");
                    pods.iter().for_each(|pod| cx.tell(&**pod, true, "FailedAttachVolume", message.clone()));
                }
            } else if attachment.metadata.deletion_timestamp.is_none() {
                self.waiting.lock().entry(key).or_insert(now);
            }
        }
    }

    /// Tells pods, once, that another node has their volume.
    fn refuse(
        &self,
        volume: &str,
        plan: &Plan,
        attachments: &[Arc<VolumeAttachment>],
        users: &BTreeMap<String, Vec<Arc<Pod>>>,
        cx: &ReconcileContext,
    ) {
        let holders = |node: &str| -> Vec<(String, String)> {
            let others = attachments.iter().map(|attachment| &attachment.spec.node_name).chain(&plan.attach).filter(|other| *other != node);
            let pods = others.filter_map(|other| users.get(other)).flatten();
            let name = |pod: &Arc<Pod>| (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
            pods.map(name).collect()
        };
        let mut refused = self.refused.lock();
        refused.retain(|(known, node)| known != volume || plan.refused.contains(node));
        for node in &plan.refused {
            if refused.insert((volume.to_owned(), node.clone())) {
                let holders = holders(node);
                for pod in users.get(node).into_iter().flatten() {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    cx.tell(&**pod, true, "FailedAttachVolume", multi_attach(volume, namespace, &holders));
                }
            }
        }
    }

    async fn apply(&self, volume: &PersistentVolume, plan: Plan, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(csi) = source(volume) else { return Ok(Outcome::Done) };
        let api = cx.client().all::<VolumeAttachment>();
        for node in &plan.unlist {
            if let Some(waker) = &*self.world.nodes_waker.lock() {
                waker.wake(ObjectKey::cluster(node.as_str()), Cause::default());
            }
        }
        for name in plan.detach {
            let key = ObjectKey::cluster(name.as_str());
            let attachment = self.world.attachments.get(&key).map(|cached| cached.object);
            let uid = attachment.as_ref().and_then(|attachment| attachment.metadata.uid.clone()).unwrap_or_default();
            let options = DeleteOptions { precondition_uid: Some(uid.clone()), ..DeleteOptions::default() };
            match api.delete(&name, options).await {
                Ok(()) => {
                    if let Some(attachment) = attachment {
                        let place = (volume.metadata.name.clone().unwrap_or_default(), attachment.spec.node_name.clone());
                        self.leaving.lock().entry(place).or_insert((attachment.spec.attacher.clone(), cx.system().instant()));
                    }
                    cx.deleted(&self.world.attachments, key, uid);
                }
                Err(status) if status.is_not_found() || status.is_conflict() => {}
                Err(status) => return Err(status.into()),
            }
        }
        for node in plan.attach {
            let name = attachment_name(&csi.volume_handle, &csi.driver, &node);
            let made = VolumeAttachment {
                metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
                spec: VolumeAttachmentSpec {
                    attacher: csi.driver.clone(),
                    node_name: node,
                    source: VolumeAttachmentSource { persistent_volume_name: volume.metadata.name.clone(), ..VolumeAttachmentSource::default() },
                },
                status: None,
            };
            match api.create(&made).await {
                Ok(written) => {
                    let node = written.spec.node_name.clone();
                    let place = (volume.metadata.name.clone().unwrap_or_default(), node);
                    self.waiting.lock().insert(place, cx.system().instant());
                    cx.wrote(&self.world.attachments, &*written);
                }
                // The cache shows it in a moment.
                Err(status) if status.is_already_exists() => {}
                Err(status) => return Err(status.into()),
            }
        }
        Ok(match plan.look_at {
            Some(at) => {
                let left = at.duration_since(cx.now()).try_into().unwrap_or(Duration::ZERO);
                Outcome::RequeueAfter(left + Duration::from_millis(1))
            }
            None => Outcome::Done,
        })
    }
}
