//! Cluster IPs: each one taken is an `IPAddress` object whose name is the address.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use rand::Rng;
use serde_json::json;
use thiserror::Error;
use troupe_api::{
    meta::{Clock, Object, ObjectKey, Revision, time::format_time},
    resources::Resource,
    status::Status,
};
use uuid::Uuid;

use super::{families::family_of, needs::IpNeed};
use crate::apiserver::{
    commit::{CommitError, Committer},
    listers::CacheListers,
    read::Reader,
};

/// Group and name of the resource whose objects are ranges, beside those that the server was started with.
const SERVICE_CIDRS: (&str, &str) = ("networking.k8s.io", "servicecidrs");
/// Group and name of the resource whose objects are addresses.
const IP_ADDRESSES: (&str, &str) = ("networking.k8s.io", "ipaddresses");

/// Why an address was not taken.
#[derive(Debug, Error)]
pub enum AddressError {
    #[error("provided IP is already allocated")]
    Taken,
    #[error("the provided network does not match the current range")]
    OutOfRange,
    #[error("range is full")]
    Full,
    #[error("{0}")]
    Store(Status),
}

/// Addresses of a range by number, network and (for IPv4) broadcast address left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Band {
    base: u128,
    v4: bool,
    /// How many addresses can be handed out.
    size: u64,
}

impl Band {
    fn of(range: &IpNetwork) -> Self {
        match range {
            IpNetwork::V4(range) => {
                let size = (1_u64 << (32 - range.prefix())).saturating_sub(2);
                Band { base: u128::from(u32::from(range.network())), v4: true, size }
            }
            IpNetwork::V6(range) => {
                // Upstream caps what it hands out of a large IPv6 range.
                let bits = (128 - range.prefix()).min(62);
                Band { base: u128::from(range.network()), v4: false, size: (1_u64 << bits).saturating_sub(1) }
            }
        }
    }

    /// The address at `offset` from 0.
    fn at(&self, offset: u64) -> IpAddr {
        let number = self.base + 1 + u128::from(offset);
        if self.v4 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
    }

    /// The lower part, which automatic allocation uses last: people choose addresses there.
    fn reserved(&self) -> u64 {
        const MIN: u64 = 16;
        const MAX: u64 = 256;
        if self.size < MIN { 0 } else { (self.size / 16).clamp(MIN, MAX) }
    }

    /// All offsets, the upper part first, each part from a random start on.
    fn offsets(&self) -> impl Iterator<Item = u64> {
        let reserved = self.reserved();
        rotated(reserved, self.size).chain(rotated(0, reserved))
    }
}

fn rotated(from: u64, to: u64) -> impl Iterator<Item = u64> {
    let start = if to > from { rand::rng().random_range(from..to) } else { from };
    (start..to).chain(from..start)
}

/// The first usable address of a range: the Service `kubernetes` has it.
pub fn first(range: &IpNetwork) -> IpAddr {
    Band::of(range).at(0)
}

/// Takes and releases cluster IPs.
pub struct AddressAllocator {
    ranges: Vec<IpNetwork>,
    reader: Arc<Reader>,
    committer: Arc<Committer>,
    listers: Arc<CacheListers>,
    clock: Arc<dyn Clock>,
}

impl AddressAllocator {
    pub fn new(ranges: Vec<IpNetwork>, reader: Arc<Reader>, committer: Arc<Committer>, listers: Arc<CacheListers>, clock: Arc<dyn Clock>) -> Self {
        AddressAllocator { ranges, reader, committer, listers, clock }
    }

    /// The ranges that addresses are of; the first one is the default family.
    pub fn ranges(&self) -> &[IpNetwork] {
        &self.ranges
    }

    /// The row of the objects that addresses are.
    pub fn row(&self) -> Result<Arc<Resource>, Status> {
        self.listers.row(IP_ADDRESSES.0, IP_ADDRESSES.1).ok_or_else(|| Status::internal("no resource for IP addresses"))
    }

    /// The ranges of a family that addresses may be taken of now: first those that the server was started with, then those of
    /// ServiceCIDRs that are Ready and stay.
    fn ranges_now(&self, family: &str) -> Result<Vec<IpNetwork>, Status> {
        let mut ranges = self.ranges.clone();
        if let Some(row) = self.listers.row(SERVICE_CIDRS.0, SERVICE_CIDRS.1) {
            let known = self.listers.cache(&row)?.load();
            for range in known.scan("", None).filter(|range| range.meta().deletion_timestamp.is_none()) {
                ranges.extend(ready_ranges(&range.to_object()).filter(|range| !self.ranges.contains(range)));
            }
        }
        ranges.retain(|range| family_of(range) == family);
        Ok(ranges)
    }

    /// All ranges that there are, also those of ServiceCIDRs that are not Ready: nobody else has their addresses.
    pub fn all_ranges(&self) -> Vec<IpNetwork> {
        let told = self.listers.row(SERVICE_CIDRS.0, SERVICE_CIDRS.1).and_then(|row| Some(self.listers.cache(&row).ok()?.load()));
        let told = told.iter().flat_map(|known| known.scan("", None)).flat_map(|range| range.to_object().list(&["spec", "cidrs"]).to_vec());
        self.ranges.iter().copied().chain(told.filter_map(|range| range.as_str()?.parse().ok())).collect()
    }

    /// Takes the address that `need` asks for, for `service`.
    pub async fn take(&self, need: &IpNeed, service: &ObjectKey, dry_run: bool) -> Result<String, AddressError> {
        let ranges = self.ranges_now(&need.family).map_err(AddressError::Store)?;
        let resource = self.row().map_err(AddressError::Store)?;
        if let Some(requested) = &need.requested {
            let ip: IpAddr = requested.parse().map_err(|_| AddressError::OutOfRange)?;
            return self.take_requested(&resource, &ranges, ip, service, dry_run).await;
        }
        if ranges.is_empty() {
            return Err(AddressError::OutOfRange);
        }
        for range in &ranges {
            match self.take_any(&resource, range, service, dry_run).await {
                Err(AddressError::Full) => {}
                settled => return settled,
            }
        }
        Err(AddressError::Full)
    }

    /// Takes any address of a range.
    async fn take_any(&self, resource: &Resource, range: &IpNetwork, service: &ObjectKey, dry_run: bool) -> Result<String, AddressError> {
        let band = Band::of(range);
        let taken = self.listers.cache(resource).map_err(AddressError::Store)?.load();
        for offset in band.offsets() {
            let ip = band.at(offset);
            // The cache is a hint; the create decides.
            if taken.objects.contains_key(&ObjectKey::cluster(ip.to_string())) {
                continue;
            }
            match self.create_address(resource, ip, service, dry_run).await {
                Err(AddressError::Taken) => {}
                settled => return settled,
            }
        }
        Err(AddressError::Full)
    }

    async fn take_requested(
        &self,
        resource: &Resource,
        ranges: &[IpNetwork],
        ip: IpAddr,
        service: &ObjectKey,
        dry_run: bool,
    ) -> Result<String, AddressError> {
        let number = match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let usable = |range: &IpNetwork| {
            let band = Band::of(range);
            range.contains(ip) && number > band.base && number <= band.base + u128::from(band.size)
        };
        if !ranges.iter().any(usable) {
            return Err(AddressError::OutOfRange);
        }
        self.create_address(resource, ip, service, dry_run).await
    }

    async fn create_address(&self, resource: &Resource, ip: IpAddr, service: &ObjectKey, dry_run: bool) -> Result<String, AddressError> {
        let name = ip.to_string();
        if dry_run {
            let found = self.reader.read_live(resource, &ObjectKey::cluster(name.as_str())).await.map_err(AddressError::Store)?;
            return if found.is_some() { Err(AddressError::Taken) } else { Ok(name) };
        }
        let object = address_object(resource, ip, service, self.clock.now());
        match self.committer.create(resource, &object, &Default::default()).await {
            Ok(_) => Ok(name),
            Err(CommitError::Lost(_)) => Err(AddressError::Taken),
            Err(CommitError::Failed(status) | CommitError::Unclear(status)) => Err(AddressError::Store(status)),
        }
    }

    /// Releases an address taken before `until`; later it may be somebody else's already, who got it through repair.
    pub async fn release(&self, ip: &str, until: Revision) -> Result<(), Status> {
        let resource = self.row()?;
        let key = ObjectKey::cluster(ip);
        while let Some(address) = self.reader.read_live(&resource, &key).await? {
            if address.revision > until {
                return Ok(());
            }
            match self.committer.delete(&resource, &key, address.revision, &Default::default()).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Lost(_)) => {}
                Err(CommitError::Failed(status) | CommitError::Unclear(status)) => return Err(status),
            }
        }
        Ok(())
    }
}

/// The ranges of a ServiceCIDR that is Ready.
fn ready_ranges(object: &Object) -> impl Iterator<Item = IpNetwork> {
    let is_ready = |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
    let ready = object.list(&["status", "conditions"]).iter().any(is_ready);
    object.list(&["spec", "cidrs"]).iter().filter(move |_| ready).filter_map(|range| range.as_str()?.parse().ok())
}

fn address_object(resource: &Resource, ip: IpAddr, service: &ObjectKey, now: jiff::Timestamp) -> Object {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut object = Object::from_value(json!({
        "metadata": {
            "name": ip.to_string(),
            "uid": Uuid::new_v4().to_string(),
            "creationTimestamp": format_time(now),
            "generation": 1,
            "labels": {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": &*service.namespace, "name": &*service.name}},
    }))
    .expect("an object literal");
    object.set_gvk(&resource.storage_gvk());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_is_one_behind_the_network_and_the_broadcast_is_never_used() {
        let range: IpNetwork = "10.96.0.0/28".parse().expect("a range");
        assert_eq!(first(&range).to_string(), "10.96.0.1");
        let band = Band::of(&range);
        let mut all: Vec<_> = band.offsets().map(|offset| band.at(offset).to_string()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 14);
        assert!(!all.contains(&"10.96.0.15".to_owned()) && !all.contains(&"10.96.0.0".to_owned()));
    }

    #[test]
    fn automatic_allocation_leaves_the_lower_part_for_people() {
        let band = Band::of(&"10.96.0.0/16".parse().expect("a range"));
        assert_eq!(band.reserved(), 256);
        assert!(band.offsets().take(1000).all(|offset| offset >= 256));
    }
}
