//! The objects that names follow from, indexed for lookups by name and by address.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::view::{Service, Slice};

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// Current objects. Later versions replace earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Index {
    namespaces: HashSet<String>,
    services: HashMap<ServiceKey, Service>,
    slices: HashMap<ServiceKey, BTreeMap<String, Slice>>,
    /// The Service that each slice was last known to belong to.
    owners: HashMap<ServiceKey, ServiceKey>,
    reverse: HashMap<IpAddr, BTreeSet<ServiceKey>>,
}

impl Index {
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The slices of a Service, in the order of their names.
    pub fn slices(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Slice> {
        self.slices.get(&(namespace.to_owned(), name.to_owned())).into_iter().flat_map(BTreeMap::values)
    }

    /// Services that have `ip` as a cluster address or as an endpoint.
    pub fn by_address(&self, ip: IpAddr) -> impl Iterator<Item = &ServiceKey> {
        self.reverse.get(&ip).into_iter().flatten()
    }

    pub fn add_namespace(&mut self, name: String) {
        self.namespaces.insert(name);
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub fn replace_namespaces(&mut self, names: impl IntoIterator<Item = String>) {
        self.namespaces = names.into_iter().collect();
    }

    pub fn add_service(&mut self, service: Service) {
        let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
        let addresses = service.addresses();
        let old = self.services.insert(key.clone(), service).map(|old| old.addresses()).unwrap_or_default();
        self.refresh(&key, old.into_iter().chain(addresses));
    }

    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.services.remove(&key) {
            self.refresh(&key, old.addresses());
        }
    }

    pub fn replace_services(&mut self, services: Vec<Service>) {
        let kept: HashSet<ServiceKey> = services.iter().map(|service| (service.metadata.namespace.clone(), service.metadata.name.clone())).collect();
        let gone: Vec<ServiceKey> = self.services.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        gone.iter().for_each(|(namespace, name)| self.remove_service(namespace, name));
        services.into_iter().for_each(|service| self.add_service(service));
    }

    pub fn add_slice(&mut self, slice: Slice) {
        let (namespace, name) = (slice.metadata.namespace.clone(), slice.metadata.name.clone());
        let owner = slice.service().map(|service| (namespace.clone(), service.to_owned()));
        let id = (namespace.clone(), name.clone());
        if self.owners.get(&id) != owner.as_ref() {
            self.remove_slice(&namespace, &name);
        }
        let Some(owner) = owner else { return };
        self.owners.insert(id, owner.clone());
        let addresses = addresses(&slice);
        let old = self.slices.entry(owner.clone()).or_default().insert(name, slice).map(|old| self::addresses(&old)).unwrap_or_default();
        self.refresh(&owner, old.into_iter().chain(addresses));
    }

    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let id = (namespace.to_owned(), name.to_owned());
        let Some(owner) = self.owners.remove(&id) else { return };
        let Some(slices) = self.slices.get_mut(&owner) else { return };
        let old = slices.remove(name).map(|old| addresses(&old)).unwrap_or_default();
        if slices.is_empty() {
            self.slices.remove(&owner);
        }
        self.refresh(&owner, old);
    }

    pub fn replace_slices(&mut self, slices: Vec<Slice>) {
        let kept: HashSet<ServiceKey> = slices.iter().map(|slice| (slice.metadata.namespace.clone(), slice.metadata.name.clone())).collect();
        let gone: Vec<ServiceKey> = self.owners.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        gone.iter().for_each(|(namespace, name)| self.remove_slice(namespace, name));
        slices.into_iter().for_each(|slice| self.add_slice(slice));
    }

    /// Makes the reverse entries of `ips` say whether `key` still has them.
    fn refresh(&mut self, key: &ServiceKey, ips: impl IntoIterator<Item = IpAddr>) {
        for ip in ips {
            let own = self.services.get(key).is_some_and(|service| service.addresses().contains(&ip));
            let endpoint = self.slices.get(key).is_some_and(|slices| slices.values().any(|slice| addresses(slice).contains(&ip)));
            if own || endpoint {
                self.reverse.entry(ip).or_default().insert(key.clone());
            } else if let Some(keys) = self.reverse.get_mut(&ip) {
                keys.remove(key);
                if keys.is_empty() {
                    self.reverse.remove(&ip);
                }
            }
        }
    }
}

fn addresses(slice: &Slice) -> Vec<IpAddr> {
    slice.ready().flat_map(super::view::Endpoint::ips).collect()
}
