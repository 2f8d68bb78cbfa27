//! Cluster IPs and node ports of Services: taken before a write, given back if it fails, released when it lets go.
//!
//! Every address is an `IPAddress` object, created under its own key; node ports are one bitmap object. Both are
//! taken by compare-and-swap, so no two servers hand out the same one. What a crash leaves behind, `repair` finds.

mod addresses;
mod external;
mod families;
mod findings;
mod in_use;
mod needs;
mod ports;
mod repair;

use std::sync::Arc;

use ipnetwork::IpNetwork;
use troupe_api::{
    meta::{Object, Revision},
    resources::{Feature, validation::service},
    service::Target,
    status::{FieldError, Status},
    stored::StoredObject,
};

pub use self::{
    addresses::{AddressAllocator, first as first_address},
    ports::{PortAllocator, Suspects},
    repair::{Repair, WriteEvent},
};
use self::{
    in_use::{Cluster, InUse},
    needs::Needs,
};
use super::{commit::CommitError, listers::CacheListers, options::Listening, writer::Writer};

/// What a write took from the ranges, to be given back if it fails, and what it lets go of if it succeeds.
#[derive(Debug, Default)]
pub struct Allocation {
    taken_ips: Vec<String>,
    taken_ports: Vec<u16>,
    released_ips: Vec<String>,
    released_ports: Vec<u16>,
}

/// How a write ended, for what it took from the ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    Committed(Revision),
    /// It certainly did not happen.
    Dropped,
    /// It may have happened: everything stays taken, and repair finds what nobody holds.
    Unclear,
}

impl Settlement {
    /// By the revision that was written; a dry run has none.
    pub fn of(result: Result<Option<Revision>, &CommitError>) -> Self {
        match result {
            Ok(Some(revision)) => Settlement::Committed(revision),
            Ok(None) => Settlement::Dropped,
            Err(CommitError::Unclear(_)) => Settlement::Unclear,
            Err(_) => Settlement::Dropped,
        }
    }
}

/// Takes and releases what Services hold.
pub struct ServiceAllocator {
    addresses: AddressAllocator,
    ports: PortAllocator,
    listers: Arc<CacheListers>,
    listening: Listening,
}

impl ServiceAllocator {
    pub fn new(addresses: AddressAllocator, ports: PortAllocator, listers: Arc<CacheListers>, listening: Listening) -> Self {
        ServiceAllocator { addresses, ports, listers, listening }
    }

    /// The ranges of cluster IPs; the first one is the default family.
    pub fn ranges(&self) -> &[IpNetwork] {
        self.addresses.ranges()
    }

    /// Takes what the Service in `new` needs beyond `old` and writes it into `new`; other kinds need nothing.
    pub async fn allocate(&self, writer: &Writer, new: &mut Object, old: Option<&Object>) -> Result<Allocation, Status> {
        if !writer.target.resource.has(Feature::ServiceAddresses) || !writer.target.subresource.is_empty() {
            return Ok(Allocation::default());
        }
        let mut errors = families::complete(new, old, self.ranges());
        if let (Some(old), true) = (old, errors.is_empty()) {
            errors.extend(service::address_changes(new, old));
        }
        let (first, last) = (self.ports.range().start(), self.ports.range().end());
        errors.extend(needs::impossible_ports(new).into_iter().map(|(field, port)| {
            let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            FieldError::invalid(field, port, why)
        }));
        if external::has_any(new) {
            let cluster = Cluster { service_ranges: self.ranges(), node_ports: self.ports.range(), listening: &self.listening };
            errors.extend(external::check(new, old, &InUse::read(&*self.listers, &cluster, new)));
        }
        if !errors.is_empty() {
            return Err(Status::invalid("", "Service", new.name(), errors));
        }
        let needs = needs::of(new, old);
        let mut allocation =
            Allocation { released_ips: needs.released_ips.clone(), released_ports: needs.released_ports.clone(), ..Allocation::default() };
        match self.take(writer, &needs, new, &mut allocation).await {
            Ok(()) => Ok(allocation),
            Err(status) => {
                self.settle(allocation, Settlement::Dropped).await;
                Err(status)
            }
        }
    }

    async fn take(&self, writer: &Writer, needs: &Needs, new: &mut Object, allocation: &mut Allocation) -> Result<(), Status> {
        let dry_run = writer.options.dry_run;
        let service = new.key();
        for need in &needs.ips {
            let ip = self.addresses.take(need, &service, dry_run).await.map_err(|error| address_status(new, need, &error))?;
            if !dry_run {
                allocation.taken_ips.push(ip.clone());
            }
            needs::set_ip(new, need.index, &ip);
        }
        let ports = self.ports.take(&needs.ports, dry_run).await.map_err(|error| port_status(new, &error))?;
        if !dry_run {
            allocation.taken_ports.clone_from(&ports);
        }
        for (need, port) in needs.ports.iter().zip(ports) {
            needs::set_port(new, need, port);
        }
        Ok(())
    }

    /// Gives back what is not needed, now that the write is decided.
    pub async fn settle(&self, allocation: Allocation, settlement: Settlement) {
        let Allocation { taken_ips, taken_ports, released_ips, released_ports } = allocation;
        match settlement {
            Settlement::Committed(revision) => self.give_back(&released_ips, &released_ports, revision).await,
            // Nobody else can hold what was taken here.
            Settlement::Dropped => self.give_back(&taken_ips, &taken_ports, Revision(u64::MAX)).await,
            Settlement::Unclear => {}
        }
    }

    /// Gives back what a Service held that was deleted at a revision.
    pub async fn release(&self, target: &Target, object: &StoredObject, deleted: Revision) {
        if target.resource.has(Feature::ServiceAddresses) {
            let held = needs::held(&object.to_object());
            self.give_back(&held.ips, &held.ports, deleted).await;
        }
    }

    async fn give_back(&self, ips: &[String], ports: &[u16], until: Revision) {
        for ip in ips {
            if let Err(status) = self.addresses.release(ip, until).await {
                tracing::warn!(%ip, %status, "cannot release a cluster IP, repair will");
            }
        }
        if !ports.is_empty()
            && let Err(error) = self.ports.release(ports).await
        {
            tracing::warn!(?ports, %error, "cannot release node ports, repair will");
        }
    }
}

fn address_status(service: &Object, need: &needs::IpNeed, error: &addresses::AddressError) -> Status {
    if matches!(error, addresses::AddressError::Full) {
        return Status::internal(format!("failed to allocate a serviceIP for Service {:?}: {error}", service.name()));
    }
    let what = match &need.requested {
        Some(ip) => format!("failed to allocate IP {ip}: {error}"),
        None => format!("failed to allocate IP: {error}"),
    };
    let ips = service.get(&["spec", "clusterIPs"]).cloned().unwrap_or_default();
    Status::invalid("", "Service", service.name(), vec![FieldError::invalid("spec.clusterIPs", ips, what)])
}

fn port_status(service: &Object, error: &ports::PortError) -> Status {
    match error {
        ports::PortError::Refused { field: Some(field), port, .. } => {
            Status::invalid("", "Service", service.name(), vec![FieldError::invalid(field.clone(), *port, error.to_string())])
        }
        other => Status::internal(format!("failed to allocate a nodePort: {other}")),
    }
}
