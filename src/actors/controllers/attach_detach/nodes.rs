//! Which volumes a node's status says are attached: the node mounts no others.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{AttachedVolume, Node, Pod},
    storage::v1::VolumeAttachment,
};
use serde_json::json;
use troupe_api::{meta::ObjectKey, service::PatchType};

use super::{BY_NODE, World, plan::Hold};
use crate::{
    controllers::pods::node_of,
    runtime::controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    storage::{
        claims_of,
        csi::{attached, source, unique_name},
    },
};

/// See the module. Keys are nodes.
pub struct AttachedVolumes {
    world: World,
}

impl AttachedVolumes {
    pub(super) fn new(world: World) -> Self {
        AttachedVolumes { world }
    }

    /// The names of volumes that are attached and stay so, with where the driver says they are.
    fn wanted(&self, node: &str, now: Timestamp) -> BTreeMap<String, String> {
        let attachments = self.world.attachments.by_index(BY_NODE, node);
        let stays =
            |attachment: &&Arc<VolumeAttachment>| attached(attachment) && !matches!(self.world.standing(attachment, now), Some((_, Hold::Free)));
        let name = |attachment: &Arc<VolumeAttachment>| {
            let volume = self.world.volumes.get(&ObjectKey::cluster(attachment.spec.source.persistent_volume_name.as_deref()?))?.object;
            source(&volume).map(|source| unique_name(&source.driver, &source.volume_handle))
        };
        attachments.iter().filter(stays).filter_map(name).map(|name| (name, String::new())).collect()
    }
}

impl Controller for AttachedVolumes {
    const NAME: &'static str = "attachdetach-controller-nodes";
    const EVENT_SOURCE: Option<&'static str> = Some("attachdetach-controller");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Node>();
        watches
            .map::<VolumeAttachment>(|change| change.versions().map(|attachment| ObjectKey::cluster(attachment.spec.node_name.as_str())).collect());
        watches.map::<Pod>(|change| {
            let on_nodes = change.versions().filter(|pod| claims_of(pod).next().is_some()).filter_map(|pod| node_of(pod));
            on_nodes.map(ObjectKey::cluster).collect()
        });
        watches.reads::<k8s_openapi::api::core::v1::PersistentVolume>();
        watches.reads::<k8s_openapi::api::core::v1::PersistentVolumeClaim>();
        *self.world.nodes_waker.lock() = Some(watches.waker());
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.world.nodes.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let listed = node.status.as_ref().and_then(|status| status.volumes_attached.clone()).unwrap_or_default();
        let wanted = self.wanted(&key.name, cx.now());
        // What others list, of kinds of volumes that are not ours, stays.
        let is_ours = |volume: &AttachedVolume| volume.name.starts_with("kubernetes.io/csi/");
        let shown: BTreeMap<_, _> = listed.iter().filter(|volume| is_ours(volume)).map(|volume| (volume.name.clone(), String::new())).collect();
        if shown == wanted {
            return Ok(Outcome::Done);
        }
        let ours = wanted.into_iter().map(|(name, device_path)| AttachedVolume { name, device_path });
        let all: Vec<_> = listed.into_iter().filter(|volume| !is_ours(volume)).chain(ours).collect();
        // The node may have begun to use one: then it has another version, and is looked at again.
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "status": {"volumesAttached": all}});
        let written = cx.client().all::<Node>().patch(&key.name, "status", PatchType::Merge, &patch).await?;
        cx.wrote(&self.world.nodes, &*written);
        Ok(Outcome::Done)
    }
}
