//! Where the server of an API service is: an address behind its Service that is ready. Pure over cached objects.

use std::{net::SocketAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use parking_lot::Mutex;
use troupe_api::{
    meta::{GroupResource, ObjectKey, Revision},
    service::Listers,
    stored::{KubeObject, StoredObject},
};

use super::ServiceReference;
use crate::backends::may_reach;

/// The label by which a slice belongs to a Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Addresses that one Service is remembered by.
const MOST: usize = 1000;

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Any of these.
    Addresses(Arc<[SocketAddr]>),
    /// A host name, which is judged by what it resolves to.
    Host { name: String, port: u16 },
}

/// The addresses of one Service, found again when a Service or slice has changed.
#[derive(Default)]
pub struct Endpoints {
    found: Mutex<Option<(Versions, Result<Place, String>)>>,
}

type Versions = (Revision, Revision);

impl Endpoints {
    /// # Errors
    /// In upstream's words, why there is nowhere to go.
    pub fn find(&self, listers: &dyn Listers, reference: &ServiceReference, loopback: bool) -> Result<Place, String> {
        let version = |group: &str, plural: &str| listers.version(&GroupResource::new(group, plural));
        // Asked before what is read, which may be newer: then it is read once more.
        let versions = version("", "services").zip(version("discovery.k8s.io", "endpointslices"));
        let mut found = self.found.lock();
        if let Some((of, place)) = &*found
            && Some(*of) == versions
        {
            return place.clone();
        }
        let place = locate(listers, reference, loopback);
        *found = versions.map(|versions| (versions, place.clone()));
        place
    }
}

fn read<K: KubeObject>(listers: &dyn Listers, plural: &str, namespace: &str, name: &str) -> Option<Arc<K>> {
    listers.get(&GroupResource::new("", plural), &ObjectKey::new(namespace, name))?.typed::<K>().ok()
}

/// The slices of a Service.
pub fn slices(listers: &dyn Listers, reference: &ServiceReference) -> Vec<Arc<EndpointSlice>> {
    own(listers, reference).iter().filter_map(|slice| slice.typed::<EndpointSlice>().ok()).collect()
}

/// The versions of the slices of a Service.
pub fn revisions(listers: &dyn Listers, reference: &ServiceReference) -> Vec<Revision> {
    own(listers, reference).iter().map(|slice| slice.revision).collect()
}

fn own(listers: &dyn Listers, reference: &ServiceReference) -> Vec<Arc<StoredObject>> {
    let mut all = listers.list(&GroupResource::new("discovery.k8s.io", "endpointslices"), &reference.namespace);
    all.retain(|slice| slice.meta().labels.get(SERVICE_NAME).is_some_and(|name| *name == *reference.name));
    all
}

fn locate(listers: &dyn Listers, reference: &ServiceReference, loopback: bool) -> Result<Place, String> {
    let ServiceReference { namespace, name, port } = reference;
    let service = read::<Service>(listers, "services", namespace, name).ok_or_else(|| format!("service {:?} not found", &**name))?;
    let spec = service.spec.clone().unwrap_or_default();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => return Ok(Place::Host { name: spec.external_name.unwrap_or_default(), port: *port }),
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let of_service = spec.ports.iter().flatten().find(|of_service| of_service.port == i32::from(*port));
    let of_service = of_service.ok_or_else(|| format!("no service port {port} found for service {:?}", &**name))?;
    let port_name = of_service.name.as_deref().unwrap_or_default();
    let mut slices = slices(listers, reference);
    // Those of the Service's first family are used while there are any.
    let preferred = spec.ip_families.iter().flatten().next().cloned().unwrap_or_default();
    slices.sort_by_key(|slice| slice.address_type != preferred);
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for slice in &slices {
        if addresses.first().is_some_and(|first| first.is_ipv4() != (slice.address_type == "IPv4")) {
            break;
        }
        addresses.extend(ready(slice, port_name).filter(|address| may_reach(address.ip(), loopback)));
    }
    addresses.truncate(MOST);
    if addresses.is_empty() { Err(format!("no endpoints available for service {:?}", &**name)) } else { Ok(Place::Addresses(addresses.into())) }
}

/// The addresses of a slice that are ready, at the port of that name.
pub fn ready<'a>(slice: &'a EndpointSlice, port_name: &'a str) -> impl Iterator<Item = SocketAddr> + 'a {
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref().unwrap_or_default() == port_name && port.port.is_some());
    let port = port.and_then(|port| u16::try_from(port.port?).ok());
    let endpoints =
        slice.endpoints.iter().flatten().filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    endpoints.filter_map(move |endpoint| Some(SocketAddr::new(endpoint.addresses.first()?.parse().ok()?, port?)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use troupe_api::meta::Object;

    /// A few objects.
    struct Few(Vec<Arc<StoredObject>>);

    impl Few {
        fn of(objects: &[Value]) -> Self {
            let stored = |object: &Value| StoredObject::from_object(&Object::from_value(object.clone()).expect("an object")).expect("stored");
            Few(objects.iter().map(|object| Arc::new(stored(object))).collect())
        }
    }

    impl Listers for Few {
        fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
            (&*resource.resource == "services").then(|| self.0.iter().find(|object| object.key == *key).cloned())?
        }

        fn list(&self, _: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
            self.0.iter().filter(|object| &*object.key.namespace == namespace && object.to_object().kind() == "EndpointSlice").cloned().collect()
        }
    }

    fn service(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    }

    fn slice(name: &str, family: &str, port: Value, endpoints: Value) -> Value {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family, "endpoints": endpoints, "ports": [port],
            "metadata": {"name": name, "namespace": "n", "labels": {SERVICE_NAME: "s"}}})
    }

    fn found(objects: &[Value]) -> Result<Vec<String>, String> {
        let reference = ServiceReference { namespace: "n".into(), name: "s".into(), port: 443 };
        match Endpoints::default().find(&Few::of(objects), &reference, false)? {
            Place::Addresses(addresses) => Ok(addresses.iter().map(ToString::to_string).collect()),
            Place::Host { name, port } => Ok(vec![format!("{name}:{port}")]),
        }
    }

    #[test]
    fn what_is_ready_in_the_first_family_is_where_requests_go() {
        let own = service(json!({"type": "ClusterIP", "ipFamilies": ["IPv4", "IPv6"], "ports": [{"name": "web", "port": 443}]}));
        let port = json!({"name": "web", "port": 8443});
        let four = slice(
            "b",
            "IPv4",
            port.clone(),
            json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}, {"addresses": ["127.0.0.1"]}, {"addresses": ["169.254.169.254"]}]),
        );
        let six = slice("a", "IPv6", port, json!([{"addresses": ["fd00::1"]}]));
        assert_eq!(found(&[own.clone(), six.clone(), four]), Ok(vec!["10.0.0.1:8443".into()]));
        assert_eq!(found(&[own.clone(), six]), Ok(vec!["[fd00::1]:8443".into()]));
        let other = slice("c", "IPv4", json!({"name": "other", "port": 1}), json!([{"addresses": ["10.0.0.1"]}]));
        assert_eq!(found(&[own, other]), Err("no endpoints available for service \"s\"".into()));
    }

    #[test]
    fn services_that_lead_nowhere_are_told_as_upstream_tells_them() {
        assert_eq!(found(&[]), Err("service \"s\" not found".into()));
        let other = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
        assert_eq!(found(&[other]), Err("no service port 443 found for service \"s\"".into()));
        let external = service(json!({"type": "ExternalName", "externalName": "api.example.com"}));
        assert_eq!(found(&[external]), Ok(vec!["api.example.com:443".into()]));
    }
}
