//! Repair: what Services hold is marked, and what nobody holds is given back. Events tell of what was wrong.
//!
//! Runs at start and every few minutes, on every server. An address or port without its Service may belong to a create in
//! flight, here or on another server: only those go that nobody held for long.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use ipnetwork::IpNetwork;
use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::Value;
use troupe_api::{
    meta::{Clock, ObjectKey, time::parse_time},
    resources::Feature,
    status::Status,
    stored::StoredObject,
};

use super::{
    ServiceAllocator,
    findings::{Finding, Flaw, parent},
    needs,
    needs::IpNeed,
    ports::Suspects,
};
use crate::apiserver::{listers::CacheListers, read::Reader, store_status::store_status};

/// How old an address without a Service must be to go.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Writes an event.
pub type WriteEvent = Arc<dyn Fn(Value) -> BoxFuture<'static, Result<(), Status>> + Send + Sync>;

/// Compares the addresses and ports of an allocator with the objects that hold them.
pub struct Repair {
    allocator: Arc<ServiceAllocator>,
    reader: Arc<Reader>,
    listers: Arc<CacheListers>,
    clock: Arc<dyn Clock>,
    write_event: WriteEvent,
    told: Mutex<HashSet<Finding>>,
}

impl Repair {
    pub fn new(
        allocator: Arc<ServiceAllocator>,
        reader: Arc<Reader>,
        listers: Arc<CacheListers>,
        clock: Arc<dyn Clock>,
        write_event: WriteEvent,
    ) -> Self {
        Repair { allocator, reader, listers, clock, write_event, told: Mutex::default() }
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
        let (mut ports, mut holders) = (HashSet::new(), Vec::new());
        let mut found = Vec::new();
        let ranges = self.allocator.addresses.all_ranges();
        for service in cache.load().scan("", None) {
            let object = service.to_object();
            let named = needs::named_ports(&object);
            if !named.is_empty() {
                holders.push((service.clone(), named));
            }
            let held = needs::held(&object);
            for ip in held.ips {
                self.ensure_address(&ip, service, &ranges, &mut found).await?;
                in_use.insert(ip);
            }
            ports.extend(held.ports);
        }
        self.drop_orphans(&in_use, &mut found).await?;
        let mended = self.allocator.ports.mend(marked, &ports, suspects).await.map_err(Status::internal);
        let unmarked = mended.as_ref().map(|mended| mended.unmarked.clone()).unwrap_or_default();
        found.extend(Finding::of_ports(&holders, self.allocator.ports.range(), &unmarked));
        self.tell(found).await;
        Ok(mended?.suspects)
    }

    /// Marks an address that a Service has, if it is of one of these ranges, and tells what was wrong with it.
    async fn ensure_address(&self, ip: &str, service: &StoredObject, ranges: &[IpNetwork], found: &mut Vec<Finding>) -> Result<(), Status> {
        let addresses = &self.allocator.addresses;
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        let about = |flaw: Flaw| Finding::of_service(service, ip, family, flaw);
        if !ip.parse::<IpAddr>().is_ok_and(|ip| ranges.iter().any(|range| range.contains(ip))) {
            found.push(about(Flaw::OutOfRange));
            return Ok(());
        }
        let known = self.listers.cache(&*addresses.row()?)?.get(&ObjectKey::cluster(ip));
        let Some(known) = known else { return self.take(ip, family, service, about(Flaw::NotAllocated), found).await };
        match parent(&known.to_object()) {
            Some(holder) if holder == service.key => {}
            Some(holder) if self.holds(&holder, ip) => found.push(about(Flaw::Shared)),
            // Another one may have been given it a moment ago.
            Some(_) if !self.is_old(&known) => {}
            _ => match addresses.release(ip, known.revision).await {
                Ok(()) => self.take(ip, family, service, about(Flaw::WrongReference), found).await?,
                // The others are looked at all the same: a start waits for this.
                Err(status) => tracing::warn!(%ip, service = %service.key, %status, "cannot mark a cluster IP as another Service's"),
            },
        }
        Ok(())
    }

    async fn take(&self, ip: &str, family: &str, service: &StoredObject, finding: Finding, found: &mut Vec<Finding>) -> Result<(), Status> {
        let need = IpNeed { index: 0, family: family.into(), requested: Some(ip.to_owned()) };
        match self.allocator.addresses.take(&need, &service.key, false).await {
            Ok(_) => found.push(finding),
            Err(error) => tracing::warn!(%ip, service = %service.key, %error, "cannot mark a cluster IP as taken"),
        }
        Ok(())
    }

    /// Whether a Service has an address.
    fn holds(&self, service: &ObjectKey, ip: &str) -> bool {
        self.service(service).is_some_and(|service| needs::held(&service.to_object()).ips.iter().any(|held| held == ip))
    }

    fn service(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let row = self.listers.row("", "services")?;
        self.listers.cache(&row).ok()?.get(key)
    }

    fn is_old(&self, address: &StoredObject) -> bool {
        let created = address.meta().creation_timestamp.as_deref().and_then(|time| parse_time(time).ok());
        created.is_some_and(|time| self.clock.now().duration_since(time) > GRACE)
    }

    async fn drop_orphans(&self, in_use: &HashSet<String>, found: &mut Vec<Finding>) -> Result<(), Status> {
        let addresses = &self.allocator.addresses;
        for address in self.listers.cache(&*addresses.row()?)?.load().scan("", None) {
            let ours = address.meta().labels.get("ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io");
            if ours && !in_use.contains(&*address.key.name) && self.is_old(address) {
                tracing::info!(ip = %address.key.name, "releasing a cluster IP that no service holds");
                let holder = parent(&address.to_object());
                let flaw = match &holder {
                    None => Flaw::NoService,
                    Some(holder) if self.service(holder).is_some() => Flaw::NotHeld,
                    Some(_) => Flaw::Leaked,
                };
                found.push(Finding::of_address(address, holder, flaw));
                addresses.release(&address.key.name, address.revision).await?;
            }
        }
        Ok(())
    }

    /// Posts events of what was found, of each flaw once for as long as it is there.
    async fn tell(&self, found: Vec<Finding>) {
        let new: Vec<Finding> = {
            let mut told = self.told.lock();
            let fresh = found.iter().filter(|finding| !told.contains(*finding)).cloned().collect();
            *told = found.into_iter().collect();
            fresh
        };
        for finding in new {
            if let Err(status) = (self.write_event)(finding.event(self.clock.now())).await {
                tracing::warn!(%status, finding = %finding.message, "cannot tell what is wrong with a Service");
            }
        }
    }
}
