//! What containers have of their pod's claims.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Dra, claim_info::ClaimInfo};
use crate::devices::{claim_name, claims_of, extended_claim};

impl Dra {
    /// What the runtime is told for a container.
    ///
    /// # Errors
    /// Its claims are not ready.
    pub fn cdi_devices(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let requests = requests_of(pod, container)?;
        let known = self.claims.lock();
        let mut devices: Vec<String> = Vec::new();
        for (name, request) in requests {
            let unknown = || format!("internal error: unable to get claim info for ResourceClaim {name} in namespace {namespace}");
            let claim = known.get(namespace, name).ok_or_else(unknown)?;
            for device in claim.cdi_devices(request) {
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
        }
        Ok(devices)
    }

    /// The claims that a container uses, once each; none where one of them is not known here.
    pub fn claims_of_container(&self, pod: &Pod, container: &Container) -> Vec<ClaimInfo> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Ok(requests) = requests_of(pod, container) else { return Vec::new() };
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in requests {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let known = self.claims.lock();
        names.into_iter().map(|name| known.get(namespace, name).cloned()).collect::<Option<Vec<_>>>().unwrap_or_default()
    }
}

/// The names of claims that a container uses, with the request that it means of each; "" for all of them.
fn requests_of<'a>(pod: &'a Pod, container: &'a Container) -> Result<Vec<(&'a str, &'a str)>, String> {
    let wanted = container.resources.as_ref().and_then(|resources| resources.claims.as_deref()).unwrap_or_default();
    let mut requests: Vec<(&str, &str)> = Vec::new();
    for wanted in wanted {
        let Some(asked) = claims_of(pod).iter().find(|claim| claim.name == wanted.name) else { continue };
        let Some((name, _)) = claim_name(pod, asked).map_err(|why| why.to_string())? else { continue };
        requests.push((name, wanted.request.as_deref().unwrap_or_default()));
    }
    if let Some(extended) = extended_claim(pod) {
        let own = extended.request_mappings.iter().filter(|mapping| mapping.container_name == container.name);
        requests.extend(own.map(|mapping| (extended.resource_claim_name.as_str(), mapping.request_name.as_str())));
    }
    Ok(requests)
}
