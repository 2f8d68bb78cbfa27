//! Repair: what Services hold is marked, and what nobody holds is given back.
//!
//! Runs at start and every few minutes, on every server. An address or port without its Service may belong to a create in
//! flight, here or on another server: only those go that nobody held for long.

use std::{collections::HashSet, sync::Arc};

use jiff::SignedDuration;
use troupe_api::{
    meta::{Clock, ObjectKey, time::parse_time},
    resources::Feature,
    status::Status,
    stored::StoredObject,
};

use super::{ServiceAllocator, needs, needs::IpNeed, ports::Suspects};
use crate::apiserver::{listers::CacheListers, read::Reader, store_status::store_status};

/// How old an address without a Service must be to go.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Compares the addresses and ports of an allocator with the objects that hold them.
pub struct Repair {
    allocator: Arc<ServiceAllocator>,
    reader: Arc<Reader>,
    listers: Arc<CacheListers>,
    clock: Arc<dyn Clock>,
}

impl Repair {
    pub fn new(allocator: Arc<ServiceAllocator>, reader: Arc<Reader>, listers: Arc<CacheListers>, clock: Arc<dyn Clock>) -> Self {
        Repair { allocator, reader, listers, clock }
    }

    /// Mends both ways. `suspects` come from the round before and go into the next.
    pub async fn run(&self, suspects: &Suspects) -> Result<Suspects, Status> {
        let registry = self.listers.registry.load_full();
        let Some(services) = registry.rows().iter().find(|row| row.has(Feature::ServiceAddresses)) else { return Ok(suspects.clone()) };
        let cache = self.listers.cache(services)?;
        // Before the Services are listed: what was taken by then and is in use is among them, or about to be.
        let marked = self.allocator.ports.now().await.map_err(store_status)?;
        self.reader.linearize(&cache).await?;
        let mut in_use = HashSet::new();
        let mut ports = HashSet::new();
        for service in cache.load().scan("", None) {
            let held = needs::held(&service.to_object());
            for ip in held.ips {
                self.ensure_address(&ip, service).await;
                in_use.insert(ip);
            }
            ports.extend(held.ports);
        }
        self.drop_orphans(&in_use).await?;
        self.allocator.ports.mend(marked, &ports, suspects).await.map_err(Status::internal)
    }

    async fn ensure_address(&self, ip: &str, service: &StoredObject) {
        let Ok(resource) = self.allocator.addresses.row() else { return };
        let known = self.listers.cache(&resource).is_ok_and(|cache| cache.get(&ObjectKey::cluster(ip)).is_some());
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        let need = IpNeed { index: 0, family: family.into(), requested: Some(ip.to_owned()) };
        if !known && let Err(error) = self.allocator.addresses.take(&need, &service.key, false).await {
            tracing::warn!(%ip, service = %service.key, %error, "cannot mark a cluster IP as taken");
        }
    }

    async fn drop_orphans(&self, in_use: &HashSet<String>) -> Result<(), Status> {
        let addresses = &self.allocator.addresses;
        for address in self.listers.cache(&*addresses.row()?)?.load().scan("", None) {
            let created = address.meta().creation_timestamp.as_deref().and_then(|time| parse_time(time).ok());
            let age = created.map(|time| self.clock.now().duration_since(time));
            let ours = address.meta().labels.get("ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io");
            if ours && !in_use.contains(&*address.key.name) && age.is_some_and(|age| age > GRACE) {
                tracing::info!(ip = %address.key.name, "releasing a cluster IP that no service holds");
                addresses.release(&address.key.name, address.revision).await?;
            }
        }
        Ok(())
    }
}
