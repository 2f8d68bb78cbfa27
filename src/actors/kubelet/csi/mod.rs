//! Volumes of CSI drivers on this node: which drivers there are, and what they are asked for pods.
//!
//! Drivers come through the plugin watcher (`registration.rs`). A pod's volume goes through attaching (waited for), staging and publishing
//! (`publish.rs`) and the same way back (`release.rs`); what is written down before is in `record.rs`.

mod attach;
pub mod client;
mod expand;
mod in_use;
mod node_info;
pub mod proto;
mod publish;
pub mod record;
pub mod registration;
mod release;
pub mod stats;
pub mod volume;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Instant,
};

use k8s_openapi::api::{
    core::v1::{Node, Secret},
    storage::v1::CSIDriver,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::OwnedMutexGuard;
use troupe_api::{Status, service::PatchType};
use troupe_api_client::Client;

use self::{client::NodeClient, in_use::InUse, node_info::Told, record::Layout, volume::SecretName};
pub use self::{
    publish::{Published, Request},
    volume::Volume,
};
use crate::storage::csi::is_attached;

/// A driver that has told the kubelet of itself.
#[derive(Clone, Debug, PartialEq)]
struct Driver {
    endpoint: PathBuf,
    version: (u64, u64, u64),
    told: Told,
    /// When it said so.
    asked: Instant,
}

/// Serialises work on one volume.
type Lock = tokio::sync::Mutex<()>;

/// See the module. Share it by `Arc`.
pub struct Csi {
    node: Arc<str>,
    layout: Layout,
    client: Option<Client>,
    drivers: Mutex<BTreeMap<String, Driver>>,
    /// Held while the node's objects are made to say which drivers there are.
    objects: tokio::sync::Mutex<()>,
    in_use: InUse,
    locks: Mutex<BTreeMap<String, Weak<Lock>>>,
    stats: stats::Known,
    /// Pods that get no volume any more.
    leaving: Mutex<BTreeSet<String>>,
}

impl Csi {
    /// `client` acts as the node; without one there is no API server, and no driver is asked for anything.
    pub fn new(kubelet_root: &Path, node: Arc<str>, client: Option<Client>) -> Self {
        let (layout, in_use) = (Layout::new(kubelet_root), InUse::default());
        // What pods had when this process' forerunner ended, they may still have.
        for (uid, record) in layout.all().into_iter().filter(|(_, record)| !record.is_ephemeral()) {
            in_use.hold(record.unique_name(), &uid);
        }
        let (drivers, locks, leaving) = (Mutex::default(), Mutex::default(), Mutex::default());
        let objects = tokio::sync::Mutex::default();
        Csi { node, layout, client, drivers, objects, in_use, locks, stats: stats::Known::default(), leaving }
    }

    /// The registered drivers.
    pub fn drivers(&self) -> Vec<String> {
        self.drivers.lock().keys().cloned().collect()
    }

    fn driver(&self, name: &str) -> Result<NodeClient, String> {
        let known = self.drivers.lock().get(name).cloned();
        let driver = known.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))?;
        Ok(NodeClient::new(name, &driver.endpoint))
    }

    /// What the cluster knows of a driver; `None` for one without an object.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn driver_object(&self, name: &str) -> Result<Option<Arc<CSIDriver>>, Status> {
        match &self.client {
            Some(client) => client.all::<CSIDriver>().get_opt(name).await,
            None => Ok(None),
        }
    }

    async fn secret(&self, wanted: Option<&SecretName>, what: &str) -> Result<BTreeMap<String, String>, String> {
        let (Some(SecretName { namespace, name }), Some(client)) = (wanted, &self.client) else { return Ok(BTreeMap::new()) };
        let failed = |why: String| format!("fetching {what} {namespace}/{name} failed: {why}");
        let found = client.namespaced::<Secret>(namespace.as_str()).get_opt(name).await.map_err(|status| failed(status.message))?;
        let secret = found.ok_or_else(|| failed(format!("secrets {name:?} not found")))?;
        let text = |(key, value): (&String, &k8s_openapi::ByteString)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned());
        Ok(secret.data.iter().flatten().map(text).collect())
    }

    /// Waits until nobody else works on the volume.
    async fn lock(&self, volume: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(volume).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Lock::default());
                    locks.insert(volume.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }

    /// Writes into the node's status which volumes are in use, unless it says so; `anew` also what somebody may have taken away.
    ///
    /// # Errors
    /// When the API does not take it.
    pub async fn report_in_use(&self, anew: bool) -> Result<(), Status> {
        let Some(client) = &self.client else { return Ok(()) };
        let mut written = self.in_use.written.lock().await;
        let names = self.in_use.names();
        if written.as_ref() == Some(&names) && !anew {
            return Ok(());
        }
        let api = client.all::<Node>();
        if anew || written.is_none() {
            let node = api.get(&self.node).await?;
            let shown = node.status.as_ref().and_then(|status| status.volumes_in_use.clone()).unwrap_or_default();
            if shown == names {
                *written = Some(names);
                return Ok(());
            }
        }
        api.patch(&self.node, "status", PatchType::Merge, &json!({"status": {"volumesInUse": names}})).await?;
        *written = Some(names);
        Ok(())
    }
}

/// Whether a volume is attached before it is used.
fn waits_for_attach(volume: &Volume, driver: Option<&CSIDriver>) -> bool {
    !volume.is_ephemeral && is_attached(driver)
}
