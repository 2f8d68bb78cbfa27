//! A volume's way into a pod: attached, staged once a node, published for each pod. Safe to repeat at any point.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::api::{core::v1::Pod, storage::v1::CSIDriver};
use tokio_util::sync::CancellationToken;

use super::{
    Csi, Volume,
    client::{Capabilities, NodeClient},
    proto::{NodePublishVolumeRequest, NodeStageVolumeRequest, RpcType},
    record::{Record, remove_place},
    waits_for_attach,
};
use crate::files::blocking;

/// What a driver gets service account tokens under.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// What a pod wants of a driver.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub volume: &'a Volume,
    pub pod: &'a Pod,
    /// What the cluster knows of the driver.
    pub driver: Option<&'a CSIDriver>,
    /// The service account tokens that the driver wants, by audience, as JSON.
    pub tokens: Option<&'a str>,
    /// The pod's `fsGroup`.
    pub group: Option<i64>,
    /// The pod may run with it already: what is there stays there whatever comes.
    pub again: bool,
    pub cancel: &'a CancellationToken,
}

/// A volume that a pod can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The directory, or the device.
    pub path: PathBuf,
    /// Nothing was there before.
    pub is_new: bool,
    /// Its files are to be given to the pod's group.
    pub is_given_to_group: bool,
}

/// Upstream's words for what failed.
struct Words {
    stage: &'static str,
    publish: &'static str,
}

const FILES: Words = Words { stage: "MountVolume.MountDevice", publish: "MountVolume.SetUp" };
const DEVICE: Words = Words { stage: "MapVolume.SetUpDevice", publish: "MapVolume.MapPodDevice" };

impl Csi {
    /// Brings a volume to its place for a pod.
    ///
    /// # Errors
    /// The whole message of the event that says why not.
    pub async fn publish(&self, request: &Request<'_>) -> Result<Published, String> {
        let volume = request.volume;
        let words = if volume.is_block { DEVICE } else { FILES };
        let uid = request.pod.metadata.uid.as_deref().unwrap_or_default();
        let told = |what: &str, why: String| format!("{what} failed for volume {:?} : {why}", volume.spec_name);
        let set_up = |why: String| told(words.publish, why);
        let client = self.driver(&volume.driver).map_err(|why| match volume.is_ephemeral {
            true => set_up(format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {why}")),
            false => told(words.stage, format!("kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {why}")),
        })?;
        volume
            .check_lifecycle(request.driver)
            .map_err(|why| set_up(format!("kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: {why}")))?;
        let context = match waits_for_attach(volume, request.driver) {
            true => self.attached(volume, uid, request.cancel).await?,
            false => BTreeMap::new(),
        };
        let _alone = self.lock(&volume.unique_name()).await;
        if request.cancel.is_cancelled() || self.leaving.lock().contains(uid) {
            return Err(set_up("the pod stops".into()));
        }
        let record = Record::of(volume, &self.node);
        let (layout, written, owner) = (self.layout.clone(), record.clone(), uid.to_owned());
        blocking(move || layout.write(&owner, &written))
            .await
            .map_err(|error| set_up(format!("kubernetes.io/csi: mounter.SetUpAt failed to save volume info data: {error}")))?;
        let able = client.capabilities().await.map_err(|error| told(words.stage, error.to_string()))?;
        let stages = able.has(RpcType::StageUnstageVolume) && !volume.is_ephemeral;
        if stages {
            self.stage(&client, &able, request, &record, &context).await.map_err(|why| told(words.stage, why))?;
        }
        let call = Call { client: &client, able: &able, record: &record, stages, context };
        self.publish_staged(call, request, uid).await.map_err(set_up)
    }

    async fn stage(
        &self,
        client: &NodeClient,
        able: &Capabilities,
        request: &Request<'_>,
        record: &Record,
        context: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let volume = request.volume;
        let secrets = self.secret(volume.stage_secret.as_ref(), "NodeStageSecretRef").await?;
        let (layout, staged) = (self.layout.clone(), record.clone());
        blocking(move || layout.write_staged(&staged))
            .await
            .map_err(|error| format!("kubernetes.io/csi: attacher.MountDevice failed to create dir {:?}:  {error}", self.layout.staging(record)))?;
        let asked = NodeStageVolumeRequest {
            volume_id: volume.handle.clone(),
            publish_context: context.clone(),
            staging_target_path: self.layout.staging(record).display().to_string(),
            volume_capability: Some(volume.capability(able, request.group)),
            secrets,
            volume_context: volume.attributes.clone(),
        };
        client.stage(asked).await.map_err(|error| error.to_string())
    }

    async fn publish_staged(&self, call: Call<'_>, request: &Request<'_>, uid: &str) -> Result<Published, String> {
        let Call { client, able, record, stages, context } = call;
        let volume = request.volume;
        let mut secrets = self.secret(volume.publish_secret.as_ref(), "NodePublishSecretRef").await?;
        let mut volume_context = volume.context(request.pod, request.driver);
        if let Some(tokens) = request.tokens {
            let in_secrets = request.driver.and_then(|driver| driver.spec.service_account_token_in_secrets) == Some(true);
            let place = if in_secrets { &mut secrets } else { &mut volume_context };
            place.insert(TOKENS.to_owned(), tokens.to_owned());
        }
        let target = self.layout.target(uid, record);
        let parent = target.parent().unwrap_or(&target).to_owned();
        blocking(move || std::fs::create_dir_all(parent)).await.map_err(|error| error.to_string())?;
        let is_new = !target.exists();
        let staging = if stages { self.layout.staging(record).display().to_string() } else { String::new() };
        let asked = NodePublishVolumeRequest {
            volume_id: volume.handle.clone(),
            publish_context: context,
            staging_target_path: staging,
            target_path: target.display().to_string(),
            volume_capability: Some(volume.capability(able, request.group)),
            readonly: volume.read_only,
            secrets,
            volume_context,
        };
        if let Err(error) = client.publish(asked).await {
            if error.is_final && !request.again {
                let left = target.clone();
                // It has ended without success: what is left is an empty place at most.
                blocking(move || remove_place(&left)).await.unwrap_or_else(|error| tracing::debug!(%error, "place of a volume not removed"));
            }
            return Err(error.to_string());
        }
        Ok(Published { path: target, is_new, is_given_to_group: volume.is_given_to_group(request.driver, able) })
    }
}

/// What is known when a volume is published.
struct Call<'a> {
    client: &'a NodeClient,
    able: &'a Capabilities,
    record: &'a Record,
    stages: bool,
    context: BTreeMap<String, String>,
}
