//! A volume's way out of a pod: unpublished, and unstaged when its last pod on this node is done. All from what is on disk: the pod, its
//! claim and its volume may be gone from the API by then.

use std::time::Instant;

use super::{
    Csi,
    proto::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, RpcType},
    record::{Record, remove_place},
};
use crate::{files::blocking, storage::operations};

impl Csi {
    /// Takes all volumes of a pod from it. What was begun by a process before this one is gone on with.
    ///
    /// # Errors
    /// The first failure; other volumes go all the same. Safe to repeat.
    pub async fn release(&self, uid: &str) -> Result<(), String> {
        // What is under way for it ends without a volume.
        self.leaving.lock().insert(uid.to_owned());
        let (layout, owner) = (self.layout.clone(), uid.to_owned());
        let records = blocking(move || layout.records(&owner)).await;
        let mut failure = None;
        for record in records {
            let begun = Instant::now();
            let released = self.release_one(uid, &record).await;
            // The driver was known when the volume was brought.
            let operation = if record.is_block() { "unmap_volume" } else { "volume_unmount" };
            operations::attempted(&format!("kubernetes.io/csi:{}", record.driver), operation, released.is_ok(), begun.elapsed());
            if let Err(why) = released {
                failure = failure.or(Some(format!("UnmountVolume.TearDown failed for volume {:?} : {why}", record.spec_name)));
            }
        }
        match failure {
            Some(why) => Err(why),
            None => {
                // It may have waited for a volume that it never got.
                self.in_use.release_pod(uid);
                self.tell_in_use().await;
                Ok(())
            }
        }
    }

    /// Nothing more comes for a pod that is gone.
    pub fn forget_pod(&self, uid: &str) {
        self.leaving.lock().remove(uid);
    }

    /// Where it fails, somebody looks again in a moment.
    async fn tell_in_use(&self) {
        if let Err(error) = self.report_in_use(false).await {
            tracing::debug!(%error, "the node's volumes in use were not written");
        }
    }

    async fn release_one(&self, uid: &str, record: &Record) -> Result<(), String> {
        let unique = record.unique_name();
        let _alone = self.lock(&unique).await;
        let failed = |what: &str, why: String| format!("kubernetes.io/csi: {what} failed: {why}");
        let client = self.driver(&record.driver).map_err(|why| format!("kubernetes.io/csi: Unmounter.TearDownAt failed to get CSI client: {why}"))?;
        let target = self.layout.target(uid, record);
        let asked = NodeUnpublishVolumeRequest { volume_id: record.handle.clone(), target_path: target.display().to_string() };
        client.unpublish(asked).await.map_err(|error| failed("Unmounter.TearDownAt", error.to_string()))?;
        let left = target.clone();
        blocking(move || remove_place(&left))
            .await
            .map_err(|error| format!("kubernetes.io/csi: Unmounter.TearDownAt failed to clean mount dir [{}]: {error}", target.display()))?;
        if !record.is_ephemeral() && !self.is_used_by_others(uid, record).await {
            self.unstage(&client, record).await?;
        }
        let (layout, owner, done) = (self.layout.clone(), uid.to_owned(), record.clone());
        blocking(move || layout.forget(&owner, &done)).await.map_err(|error| error.to_string())?;
        if !record.is_ephemeral() {
            self.in_use.release(&unique, uid);
            self.tell_in_use().await;
        }
        Ok(())
    }

    async fn unstage(&self, client: &super::client::NodeClient, record: &Record) -> Result<(), String> {
        let staging = self.layout.staging(record);
        let able = client.capabilities().await.map_err(|error| error.to_string())?;
        if able.has(RpcType::StageUnstageVolume) {
            let asked = NodeUnstageVolumeRequest { volume_id: record.handle.clone(), staging_target_path: staging.display().to_string() };
            let unstaged = client.unstage(asked).await;
            unstaged.map_err(|error| format!("UnmountDevice failed: kubernetes.io/csi: attacher.UnmountDevice failed: {error}"))?;
        }
        let (layout, staged) = (self.layout.clone(), record.clone());
        blocking(move || layout.forget_staged(&staged))
            .await
            .map_err(|error| format!("kubernetes.io/csi: failed to clean up global mount {}: {error}", staging.display()))
    }

    async fn is_used_by_others(&self, uid: &str, record: &Record) -> bool {
        let (layout, uid, record) = (self.layout.clone(), uid.to_owned(), record.clone());
        let is_other = move |(owner, other): (String, Record)| owner != uid && (&other.driver, &other.handle) == (&record.driver, &record.handle);
        blocking(move || layout.all().into_iter().any(is_other)).await
    }
}
