//! How full volumes are, as their drivers tell.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Csi,
    proto::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, RpcType, Unit},
    record::Record,
};
use crate::files::blocking;

/// How long a figure stands for what is; upstream's.
const FRESH: Duration = Duration::from_secs(60);
/// Who asks for figures does not wait longer for a driver: what it told last stands, if anything.
const PATIENCE: Duration = Duration::from_secs(3);

/// A volume's figures. What its driver does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// In the pod's spec.
    pub volume: String,
    pub available_bytes: Option<i64>,
    pub capacity_bytes: Option<i64>,
    pub used_bytes: Option<i64>,
    pub inodes_free: Option<i64>,
    pub inodes: Option<i64>,
    pub inodes_used: Option<i64>,
}

/// What was told last, by pod and volume.
pub(super) type Known = Mutex<BTreeMap<(String, String), (Instant, VolumeUsage)>>;

fn usage(volume: &str, told: &NodeGetVolumeStatsResponse) -> VolumeUsage {
    let mut usage = VolumeUsage { volume: volume.to_owned(), ..VolumeUsage::default() };
    for figures in &told.usage {
        let (free, all, used) = (Some(figures.available), Some(figures.total), Some(figures.used));
        match Unit::try_from(figures.unit) {
            Ok(Unit::Bytes) => (usage.available_bytes, usage.capacity_bytes, usage.used_bytes) = (free, all, used),
            Ok(Unit::Inodes) => (usage.inodes_free, usage.inodes, usage.inodes_used) = (free, all, used),
            _ => {}
        }
    }
    usage
}

impl Csi {
    /// The figures of all volumes of all pods here, by the pods' uids; those of which drivers tell none are left out.
    pub async fn stats(&self) -> BTreeMap<String, Vec<VolumeUsage>> {
        let layout = self.layout.clone();
        let all = blocking(move || layout.all()).await;
        let told = all.into_iter().map(|(uid, record)| async move {
            let known = self.stats.lock().get(&(uid.clone(), record.spec_name.clone())).cloned();
            let usage = match known {
                Some(known) if known.0.elapsed() < FRESH => Some(known),
                known => tokio::time::timeout(PATIENCE, self.usage_of(&uid, &record)).await.unwrap_or(known),
            };
            (uid, record, usage)
        });
        let told = futures::future::join_all(told).await;
        let mut known = BTreeMap::new();
        let mut by_pod: BTreeMap<String, Vec<VolumeUsage>> = BTreeMap::new();
        for (uid, record, usage) in told {
            if let Some((taken, usage)) = usage {
                by_pod.entry(uid.clone()).or_default().push(usage.clone());
                known.insert((uid, record.spec_name), (taken, usage));
            }
        }
        *self.stats.lock() = known;
        by_pod
    }

    async fn usage_of(&self, uid: &str, record: &Record) -> Option<(Instant, VolumeUsage)> {
        let client = self.driver(&record.driver).ok()?;
        let able = client.capabilities().await.ok().filter(|able| able.has(RpcType::GetVolumeStats))?;
        let staging = if able.has(RpcType::StageUnstageVolume) && !record.is_ephemeral() {
            self.layout.staging(record).display().to_string()
        } else {
            String::new()
        };
        let volume_path = self.layout.target(uid, record).display().to_string();
        let asked = NodeGetVolumeStatsRequest { volume_id: record.handle.clone(), volume_path, staging_target_path: staging };
        match client.stats(asked).await {
            Ok(told) => Some((Instant::now(), usage(&record.pod_volume, &told))),
            Err(error) => {
                tracing::debug!(%error, volume = record.spec_name, "a driver tells no figures");
                None
            }
        }
    }
}
