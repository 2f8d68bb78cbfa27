//! The objects that names follow from, indexed for lookups by name and by address.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
    /// Who has an address, and how many times: a change costs as much as it changes, however many endpoints a Service has.
    reverse: HashMap<IpAddr, BTreeMap<ServiceKey, usize>>,
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
        self.reverse.get(&ip).into_iter().flat_map(BTreeMap::keys)
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
        self.hold(&key, service.addresses());
        let old = self.services.insert(key.clone(), service);
        self.release(&key, old.map(|old| old.addresses()).unwrap_or_default());
    }

    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.services.remove(&key) {
            self.release(&key, old.addresses());
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
        self.hold(&owner, addresses(&slice));
        let old = self.slices.entry(owner.clone()).or_default().insert(name, slice);
        self.release(&owner, old.map(|old| addresses(&old)).unwrap_or_default());
    }

    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let id = (namespace.to_owned(), name.to_owned());
        let Some(owner) = self.owners.remove(&id) else { return };
        let Some(slices) = self.slices.get_mut(&owner) else { return };
        let old = slices.remove(name).map(|old| addresses(&old)).unwrap_or_default();
        if slices.is_empty() {
            self.slices.remove(&owner);
        }
        self.release(&owner, old);
    }

    pub fn replace_slices(&mut self, slices: Vec<Slice>) {
        let kept: HashSet<ServiceKey> = slices.iter().map(|slice| (slice.metadata.namespace.clone(), slice.metadata.name.clone())).collect();
        let gone: Vec<ServiceKey> = self.owners.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        gone.iter().for_each(|(namespace, name)| self.remove_slice(namespace, name));
        slices.into_iter().for_each(|slice| self.add_slice(slice));
    }

    /// A Service has these addresses once more.
    fn hold(&mut self, key: &ServiceKey, ips: Vec<IpAddr>) {
        for ip in ips {
            let keys = self.reverse.entry(ip).or_default();
            match keys.get_mut(key) {
                Some(count) => *count += 1,
                None => drop(keys.insert(key.clone(), 1)),
            }
        }
    }

    /// A Service has these addresses once less.
    fn release(&mut self, key: &ServiceKey, ips: Vec<IpAddr>) {
        for ip in ips {
            let Some(keys) = self.reverse.get_mut(&ip) else { continue };
            if let Some(count) = keys.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    keys.remove(key);
                }
            }
            if keys.is_empty() {
                self.reverse.remove(&ip);
            }
        }
    }
}

fn addresses(slice: &Slice) -> Vec<IpAddr> {
    slice.ready().flat_map(super::view::Endpoint::ips).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, endpoints: &[Value]) -> Slice {
        let metadata = json!({"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}});
        serde_json::from_value(json!({"metadata": metadata, "endpoints": endpoints})).expect("a slice")
    }

    fn holders(index: &Index, ip: &str) -> usize {
        index.by_address(ip.parse().expect("an address")).count()
    }

    #[test]
    fn an_address_is_known_as_long_as_somebody_has_it() {
        let mut index = Index::default();
        let end = |ip: &str| json!({"addresses": [ip]});
        index.add_slice(slice("a", &[end("10.0.0.1"), end("10.0.0.1"), end("10.0.0.2")]));
        index.add_slice(slice("b", &[end("10.0.0.1")]));
        index.add_slice(slice("a", &[end("10.0.0.2"), end("10.0.0.3")]));
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| holders(&index, ip)), [1, 1, 1]);
        index.remove_slice("n", "b");
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| holders(&index, ip)), [0, 1, 1]);
        index.replace_slices(Vec::new());
        assert!(index.reverse.is_empty());
    }

    #[test]
    fn a_change_costs_as_much_as_it_changes() {
        let mut index = Index::default();
        let begun = Instant::now();
        for at in 0..40_u32 {
            let ips = (0..5000_u32).map(|number| IpAddr::from((0x0a00_0000 + at * 5000 + number).to_be_bytes()).to_string());
            let endpoints: Vec<Value> = ips.collect::<Vec<_>>().chunks(100).map(|ips| json!({"addresses": ips})).collect();
            index.add_slice(slice(&format!("s{at}"), &endpoints));
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(30), "many addresses took {took:?}");
        assert_eq!(holders(&index, "10.0.0.1"), 1);
    }
}
