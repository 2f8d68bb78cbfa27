//! Whether requests may go to a server: what upstream's availability controller looks at, in its words.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use http::Request;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    service::Listers,
    stored::StoredObject,
};
use troupe_api_server::aggregation::{ApiServiceSpec, Backend, BackendError, ServiceReference, endpoints, whole};

use super::asker;

/// Attempts at a time; one that succeeds is enough.
const ATTEMPTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the condition `Available` should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn unavailable(reason: &'static str, message: String) -> Self {
        Verdict { status: "False", reason, message }
    }

    pub fn is_available(&self) -> bool {
        self.status == "True"
    }
}

/// What stands in the way without asking the server; nothing if it is to be asked. Pure.
pub fn obstacle(reference: &ServiceReference, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) -> Option<Verdict> {
    let ServiceReference { namespace, name, port } = reference;
    let of = format!("service/{name} in {:?}", &**namespace);
    let Some(service) = service else { return Some(Verdict::unavailable("ServiceNotFound", format!("{of} is not present"))) };
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP") != "ClusterIP" {
        return None;
    }
    let found = spec.and_then(|spec| spec.ports.iter().flatten().find(|of_service| of_service.port == i32::from(*port)));
    let Some(found) = found else { return Some(Verdict::unavailable("ServicePortError", format!("{of} is not listening on port {port}"))) };
    if slices.is_empty() {
        return Some(Verdict::unavailable("EndpointsNotFound", format!("cannot find endpointslices for {of}")));
    }
    let port_name = found.name.as_deref().unwrap_or_default();
    if slices.iter().all(|slice| endpoints::ready(slice, port_name).next().is_none()) {
        let message = format!("endpointslices for {of} have no addresses with port name {port_name:?}");
        return Some(Verdict::unavailable("MissingEndpoints", message));
    }
    None
}

/// The Service behind a reference, as it is cached.
pub fn service(listers: &dyn Listers, reference: &ServiceReference) -> Option<Arc<StoredObject>> {
    listers.get(&GroupResource::new("", "services"), &ObjectKey::new(reference.namespace.clone(), reference.name.clone()))
}

/// Looks, and asks the server for its own discovery document if nothing stands in the way.
pub async fn check(listers: &dyn Listers, spec: &ApiServiceSpec, backend: &Backend) -> Verdict {
    let reference = backend.reference();
    let found = service(listers, reference).and_then(|stored| stored.typed::<Service>().ok());
    if let Some(verdict) = obstacle(reference, found.as_deref(), &endpoints::slices(listers, reference)) {
        return verdict;
    }
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| attempt(spec, backend)).collect();
    let mut last = String::new();
    while let Some(outcome) = attempts.next().await {
        match outcome {
            Ok(()) => return Verdict { status: "True", reason: "Passed", message: "all checks passed".into() },
            Err(why) => last = why,
        }
    }
    Verdict::unavailable("FailedDiscoveryCheck", last)
}

async fn attempt(spec: &ApiServiceSpec, backend: &Backend) -> Result<(), String> {
    let authority = backend.authority().map_err(|error| error.to_string())?;
    let path = spec.discovery_path();
    let url = format!("https://{authority}{path}");
    let request = Request::get(&path).body(whole(Default::default())).map_err(|error| error.to_string())?;
    // What else it says is not waited for.
    let asked = tokio::time::timeout(TIMEOUT, backend.send(&authority, &asker(), request)).await.unwrap_or(Err(BackendError::TimedOut));
    match asked.map(|answer| answer.status()) {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(format!("failing or missing response from {url}: bad status from {url}: {}", status.as_u16())),
        Err(error) => Err(format!("failing or missing response from {url}: Get {url:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(service: Option<Value>, slices: &[Value]) -> Option<(&'static str, String)> {
        let reference = ServiceReference { namespace: "n".into(), name: "s".into(), port: 443 };
        let service: Option<Service> = service.map(|service| serde_json::from_value(service).expect("a Service"));
        let slices: Vec<Arc<EndpointSlice>> = slices.iter().map(|slice| Arc::new(serde_json::from_value(slice.clone()).expect("a slice"))).collect();
        obstacle(&reference, service.as_ref(), &slices).map(|verdict| (verdict.reason, verdict.message))
    }

    #[test]
    fn what_is_missing_is_told_in_upstreams_words() {
        let service = json!({"metadata": {}, "spec": {"type": "ClusterIP", "ports": [{"name": "web", "port": 443}]}});
        let slice = |ready: bool, port: &str| json!({"metadata": {}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [{"name": port, "port": 1}]});
        assert_eq!(told(None, &[]), Some(("ServiceNotFound", "service/s in \"n\" is not present".into())));
        let other = json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}});
        assert_eq!(told(Some(other), &[]), Some(("ServicePortError", "service/s in \"n\" is not listening on port 443".into())));
        assert_eq!(told(Some(service.clone()), &[]), Some(("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"".into())));
        let missing = Some(("MissingEndpoints", "endpointslices for service/s in \"n\" have no addresses with port name \"web\"".into()));
        assert_eq!(told(Some(service.clone()), &[slice(false, "web")]), missing);
        assert_eq!(told(Some(service.clone()), &[slice(true, "other")]), missing);
        assert_eq!(told(Some(service), &[slice(true, "other"), slice(true, "web")]), None);
        let external = json!({"metadata": {}, "spec": {"type": "ExternalName"}});
        assert_eq!(told(Some(external), &[]), None, "it has no endpoints to look for");
    }
}
