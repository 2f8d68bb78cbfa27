//! Extended resources that a device class stands for (`extendedResourceName`, KEP-5004): a pod that asks for one gets a claim of its own,
//! which the scheduler makes, on nodes where no device plugin offers the resource. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Container, ContainerExtendedResourceRequest, Pod},
        resource::v1::{DeviceClaim, DeviceRequest, ExactDeviceRequest, ResourceClaim, ResourceClaimSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::devices::claim_owner;

/// On the claim that is made for a pod's extended resources.
pub const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Before the name of a class: the resource that every class stands for.
pub const OF_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Classes by the resources of a pod that they stand for.
pub type Classes = BTreeMap<String, String>;

/// What a pod gets on a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    pub requests: Vec<DeviceRequest>,
    /// Which container has which request.
    pub mappings: Vec<ContainerExtendedResourceRequest>,
}

fn containers(pod: &Pod) -> (Vec<&Container>, usize) {
    let Some(spec) = &pod.spec else { return (Vec::new(), 0) };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    (init.iter().chain(&spec.containers).collect(), init.len())
}

fn requested(container: &Container) -> impl Iterator<Item = (&String, i64)> {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.into_iter().flatten().map(|(name, amount)| (name, troupe_cri::quantity::value(&amount.0)))
}

/// The resources that a pod asks for.
pub fn resources_of(pod: &Pod) -> Vec<&str> {
    let (containers, _) = containers(pod);
    let mut all: Vec<&str> = containers.into_iter().flat_map(requested).filter(|(_, amount)| *amount > 0).map(|(name, _)| name.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The claim of a pod before anything is asked for in it.
pub fn claim(pod: &Pod) -> ResourceClaim {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let metadata = ObjectMeta {
        generate_name: Some(format!("{name}-extended-resources-")),
        namespace: pod.metadata.namespace.clone(),
        owner_references: Some(vec![claim_owner(pod)]),
        annotations: Some([(ANNOTATION.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    };
    ResourceClaim { metadata, spec: ResourceClaimSpec::default(), status: None }
}

/// The same with requests.
pub fn asking(pod: &Pod, requests: &Requests) -> ResourceClaim {
    let devices = DeviceClaim { requests: Some(requests.requests.clone()), ..DeviceClaim::default() };
    ResourceClaim { spec: ResourceClaimSpec { devices: Some(devices) }, ..claim(pod) }
}

/// What containers ask for of resources that classes stand for. Init containers that end use what later ones have.
pub fn requests(pod: &Pod, classes: &Classes) -> Requests {
    let (containers, init) = containers(pod);
    let ends = |at: usize| at < init && containers[at].restart_policy.as_deref() != Some("Always");
    let mut all = Requests::default();
    for (resource, class) in classes {
        let mut lasting: Vec<Option<DeviceRequest>> = vec![None; containers.len()];
        for at in (0..containers.len()).filter(|at| !ends(*at)) {
            let (request, mappings) = of_container(at, containers[at], (resource, class), &[]);
            lasting[at] = request;
            all.mappings.extend(mappings);
        }
        let (mut most, mut names, mut passing) = (None::<DeviceRequest>, Vec::new(), Vec::new());
        for at in (0..containers.len()).filter(|at| ends(*at)) {
            let reusable: Vec<&DeviceRequest> = lasting[at..].iter().flatten().collect();
            let (request, mappings) = of_container(at, containers[at], (resource, class), &reusable);
            if let Some(request) = request {
                names.push(request.name.clone());
                if most.as_ref().is_none_or(|most| count(most) < count(&request)) {
                    most = Some(request);
                }
            }
            passing.extend(mappings);
        }
        // They run one after the other: the largest is enough for all.
        if let Some(most) = &most {
            passing
                .iter_mut()
                .filter(|mapping| names.contains(&mapping.request_name))
                .for_each(|mapping| mapping.request_name.clone_from(&most.name));
        }
        all.requests.extend(most);
        all.requests.extend(lasting.into_iter().flatten());
        all.mappings.extend(passing);
    }
    all.requests.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn count(request: &DeviceRequest) -> i64 {
    request.exactly.as_ref().and_then(|exact| exact.count).unwrap_or(0)
}

fn of_container(
    at: usize,
    container: &Container,
    (resource, class): (&str, &str),
    reusable: &[&DeviceRequest],
) -> (Option<DeviceRequest>, Vec<ContainerExtendedResourceRequest>) {
    let mut names: Vec<&String> = requested(container).map(|(name, _)| name).collect();
    names.sort();
    let wanted = requested(container).find(|(name, _)| *name == resource).map_or(0, |(_, amount)| amount);
    let mapping = |request: &str| ContainerExtendedResourceRequest {
        container_name: container.name.clone(),
        resource_name: resource.to_owned(),
        request_name: request.to_owned(),
    };
    let (mut sum, mut mappings) = (0, Vec::new());
    if wanted <= 0 {
        return (None, mappings);
    }
    for request in reusable {
        sum += count(request);
        mappings.push(mapping(&request.name));
        if sum >= wanted {
            return (None, mappings);
        }
    }
    let index = names.iter().position(|name| *name == resource).unwrap_or(0);
    let name = format!("container-{at}-request-{index}");
    mappings.push(mapping(&name));
    let exactly = ExactDeviceRequest {
        device_class_name: class.to_owned(),
        allocation_mode: Some("ExactCount".to_owned()),
        count: Some(wanted - sum),
        ..ExactDeviceRequest::default()
    };
    (Some(DeviceRequest { name, exactly: Some(exactly), first_available: None }), mappings)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn pod(init: Value, containers: Value) -> Pod {
        from_value(json!({"metadata": {"name": "p"}, "spec": {"initContainers": init, "containers": containers}})).expect("a pod")
    }

    fn wanting(name: &str, gpus: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": "1", "example.com/gpu": gpus}}})
    }

    /// Requests with their counts, and containers with theirs.
    type Asked = (Vec<(String, i64)>, Vec<(String, String)>);

    fn asked(pod: &Pod) -> Asked {
        let found = requests(pod, &[("example.com/gpu".to_owned(), "gpu".to_owned())].into());
        let mappings = found.mappings.into_iter().map(|mapping| (mapping.container_name, mapping.request_name));
        (found.requests.iter().map(|request| (request.name.clone(), count(request))).collect(), mappings.collect())
    }

    #[test]
    fn each_container_has_its_request_and_init_containers_use_what_comes_later() {
        let own = |text: &str| text.to_owned();
        let plain = pod(json!([]), json!([wanting("a", "2"), {"name": "none"}, wanting("b", "1")]));
        assert_eq!(
            asked(&plain),
            (
                vec![(own("container-0-request-1"), 2), (own("container-2-request-1"), 1)],
                vec![(own("a"), own("container-0-request-1")), (own("b"), own("container-2-request-1"))],
            )
        );
        let reuse = pod(json!([wanting("init", "1")]), json!([wanting("a", "2")]));
        assert_eq!(asked(&reuse).0, [(own("container-1-request-1"), 2)]);
        let more = pod(json!([wanting("one", "3"), wanting("two", "4")]), json!([wanting("a", "1")]));
        let (requests, mappings) = asked(&more);
        assert_eq!(requests, [(own("container-1-request-1"), 3), (own("container-2-request-1"), 1)], "the larger of both, beside what is there");
        assert!(mappings.contains(&(own("one"), own("container-1-request-1"))));
        assert_eq!(resources_of(&more), ["cpu", "example.com/gpu"]);
    }
}
