//! The node object and its status: pure.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
        NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use serde_json::{Value, json};
use troupe_api::{local_path, meta};
use troupe_cri::{RuntimeFeatures, proto};

use super::{
    Registration,
    facts::{MachineFacts, Usage},
    reserved::{Reserved, left},
};
use crate::kubelet::{eviction::signals::Threshold, patch::replace_list, status::whole_seconds};

/// What this node can do that API servers and schedulers do not take for granted, sorted.
const DECLARED: [&str; 3] =
    ["InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits"];

/// All that a node's status is made of.
#[derive(Clone, Debug)]
pub struct NodeInputs<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub ips: &'a [String],
    pub port: u16,
    pub max_pods: u32,
    /// What pods do not get of the machine.
    pub reserved: Reserved,
    /// What eviction keeps free.
    pub thresholds: &'a [Threshold],
    pub registration: &'a Registration,
    /// How many images are listed; `None` for all.
    pub most_images: Option<usize>,
    pub kubelet_version: &'a str,
    /// Where volumes lie that are made on this node.
    pub volumes: &'a Path,
    pub facts: &'a MachineFacts,
    pub usage: Usage,
    /// A disk is short of room, or was a moment ago.
    pub disk_pressure: bool,
    /// The same of memory.
    pub memory_pressure: bool,
    /// The same of process ids.
    pub pid_pressure: bool,
    /// The machine shuts down.
    pub shutting_down: bool,
    /// `None` when the runtime does not answer, with why.
    pub runtime: Result<&'a proto::StatusResponse, &'a str>,
    /// `containerd 1.6.20`.
    pub runtime_version: Arc<String>,
    pub images: &'a [proto::Image],
    /// How many devices of each resource there are, and how many can be used.
    pub devices: &'a BTreeMap<String, (usize, usize)>,
    pub now: Timestamp,
}

/// The node as it registers.
pub fn node(inputs: &NodeInputs<'_>) -> Node {
    let metadata = ObjectMeta {
        name: Some(inputs.name.to_owned()),
        labels: Some(labels(inputs)),
        annotations: Some(annotations(inputs)),
        ..ObjectMeta::default()
    };
    let Registration { taints, provider_id, .. } = inputs.registration;
    let spec = NodeSpec {
        taints: Some(taints.clone()).filter(|taints| !taints.is_empty()),
        provider_id: Some(provider_id.clone()).filter(|id| !id.is_empty()),
        ..NodeSpec::default()
    };
    Node { metadata, spec: Some(spec), status: Some(status(inputs, &[])) }
}

/// What every node says of itself beside its labels.
pub fn annotations(inputs: &NodeInputs<'_>) -> BTreeMap<String, String> {
    let directory = inputs.volumes.display().to_string();
    let all = [("volumes.kubernetes.io/controller-managed-attach-detach", "true"), (local_path::DIRECTORY, &directory)];
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The labels that every node has, and its own.
pub fn labels(inputs: &NodeInputs<'_>) -> BTreeMap<String, String> {
    let mut all = machine_labels(&inputs.facts.architecture);
    all.insert("kubernetes.io/hostname".to_owned(), inputs.name.to_owned());
    all.extend(inputs.labels.clone());
    all
}

/// Those that say what kind of machine it is.
pub fn machine_labels(architecture: &str) -> BTreeMap<String, String> {
    let kinds = [("os", "linux"), ("arch", architecture)];
    let keys = |(kind, value): (&str, &str)| ["kubernetes.io", "beta.kubernetes.io"].map(|group| (format!("{group}/{kind}"), value.to_owned()));
    kinds.into_iter().flat_map(keys).collect()
}

/// The status; conditions keep the time of their last change from `before`.
pub fn status(inputs: &NodeInputs<'_>, before: &[NodeCondition]) -> NodeStatus {
    let capacity = capacity(inputs);
    let features = inputs.runtime.map(RuntimeFeatures::of).unwrap_or_default();
    NodeStatus {
        addresses: Some(addresses(inputs)),
        allocatable: Some(allocatable(&capacity, inputs)),
        capacity: Some(capacity),
        conditions: Some(conditions(inputs, before)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: inputs.port.into() }) }),
        images: Some(images(inputs.images, inputs.most_images)),
        node_info: Some(system_info(inputs)),
        runtime_handlers: Some(runtime_handlers(&features)),
        declared_features: Some(DECLARED.map(str::to_owned).to_vec()),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(features.supplemental_groups_policy) }),
        ..NodeStatus::default()
    }
}

/// The runtime's handlers; one that lists none has the default one.
fn runtime_handlers(features: &RuntimeFeatures) -> Vec<NodeRuntimeHandler> {
    if features.handlers.is_empty() {
        return vec![NodeRuntimeHandler { name: Some(String::new()), features: None }];
    }
    let told = features.handlers.iter().map(|handler| NodeRuntimeHandler {
        name: Some(handler.name.clone()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(handler.recursive_read_only_mounts),
            user_namespaces: Some(handler.user_namespaces),
        }),
    });
    told.collect()
}

fn addresses(inputs: &NodeInputs<'_>) -> Vec<NodeAddress> {
    let ips = inputs.ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.clone() });
    ips.chain([NodeAddress { type_: "Hostname".into(), address: inputs.name.to_owned() }]).collect()
}

fn capacity(inputs: &NodeInputs<'_>) -> BTreeMap<String, Quantity> {
    let kib = |bytes: u64| format!("{}Ki", bytes / 1024);
    let all = [
        ("cpu", inputs.facts.cpus.to_string()),
        ("memory", kib(inputs.facts.memory_bytes.unsigned_abs())),
        ("ephemeral-storage", kib(inputs.usage.disk_size)),
        ("pods", inputs.max_pods.to_string()),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
    ];
    let devices = inputs.devices.iter().map(|(name, (all, _))| (name.clone(), Quantity(all.to_string())));
    all.into_iter().map(|(name, quantity)| (name.to_owned(), Quantity(quantity))).chain(devices).collect()
}

/// What pods may use: all but what is reserved, and what the eviction marks keep free.
fn allocatable(capacity: &BTreeMap<String, Quantity>, inputs: &NodeInputs<'_>) -> BTreeMap<String, Quantity> {
    let mut all = capacity.clone();
    all.extend(inputs.devices.iter().map(|(name, (_, well))| (name.clone(), Quantity(well.to_string()))));
    let amount = |name: &str| capacity.get(name).map_or(0, |quantity| troupe_cri::quantity::value(&quantity.0));
    let (memory, storage) = (amount("memory"), amount("ephemeral-storage"));
    let kept = inputs.reserved.with_thresholds(inputs.thresholds, memory, storage);
    let cpus = meta::Quantity::from_milli(left(inputs.facts.cpus.saturating_mul(1000), kept.milli_cpus));
    all.insert("cpu".into(), Quantity(cpus.to_string()));
    all.insert("memory".into(), Quantity(format!("{}Ki", left(memory, kept.memory) / 1024)));
    all.insert("ephemeral-storage".into(), Quantity(left(storage, kept.storage).to_string()));
    all
}

fn system_info(inputs: &NodeInputs<'_>) -> NodeSystemInfo {
    let facts = inputs.facts;
    NodeSystemInfo {
        architecture: facts.architecture.clone(),
        boot_id: facts.boot_id.clone(),
        container_runtime_version: inputs.runtime_version.replacen(' ', "://", 1),
        kernel_version: facts.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: inputs.kubelet_version.to_owned(),
        machine_id: facts.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: facts.os_image.clone(),
        swap: facts.swap_bytes.map(|capacity| k8s_openapi::api::core::v1::NodeSwapStatus { capacity: Some(capacity) }),
        system_uuid: facts.system_uuid.clone(),
    }
}

fn images(all: &[proto::Image], most: Option<usize>) -> Vec<ContainerImage> {
    let mut all: Vec<_> = all.iter().filter(|image| !image.repo_tags.is_empty() || !image.repo_digests.is_empty()).collect();
    all.sort_by_key(|image| (std::cmp::Reverse(image.size), image.id.clone()));
    let shown = all.into_iter().take(most.unwrap_or(usize::MAX)).map(|image| ContainerImage {
        names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(5).cloned().collect()),
        size_bytes: Some(image.size.cast_signed()),
    });
    shown.collect()
}

/// Why the node is not ready.
fn unready(inputs: &NodeInputs<'_>) -> Option<String> {
    let mut all = failures_of_runtime(inputs.runtime);
    all.extend(inputs.shutting_down.then(|| "node is shutting down".to_owned()));
    match all.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

fn failures_of_runtime(runtime: Result<&proto::StatusResponse, &str>) -> Vec<String> {
    let status = match runtime {
        Ok(status) => status,
        Err(error) => return vec![format!("container runtime is down: {error}")],
    };
    let conditions = status.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let failing = |kind: &str| conditions.iter().find(|condition| condition.r#type == kind && !condition.status);
    let told = |what: &str, condition: &proto::RuntimeCondition| {
        format!("{what}: {}=false reason:{} message:{}", condition.r#type, condition.reason, condition.message)
    };
    let runtime = failing("RuntimeReady").map(|condition| told("container runtime not ready", condition));
    let network = failing("NetworkReady").map(|condition| told("container runtime network not ready", condition));
    runtime.into_iter().chain(network).collect()
}

fn conditions(inputs: &NodeInputs<'_>, before: &[NodeCondition]) -> Vec<NodeCondition> {
    let pressure = |kind: &str, holds: bool, under: (&str, &str), well: (&str, &str)| {
        let (reason, message) = if holds { under } else { well };
        (kind.to_owned(), holds, reason.to_owned(), message.to_owned())
    };
    let ready = match unready(inputs) {
        None => ("Ready".to_owned(), true, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned()),
        Some(message) => ("Ready".to_owned(), false, "KubeletNotReady".to_owned(), message),
    };
    let findings = [
        pressure(
            "MemoryPressure",
            inputs.memory_pressure,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            inputs.disk_pressure,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            inputs.pid_pressure,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    let condition = |(kind, holds, reason, message): (String, bool, String, String)| {
        let status = if holds { "True" } else { "False" };
        let old = before.iter().find(|old| old.type_ == kind && old.status == status);
        NodeCondition {
            last_heartbeat_time: Some(whole_seconds(inputs.now)),
            last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(whole_seconds(inputs.now))),
            message: Some(message),
            reason: Some(reason),
            status: status.to_owned(),
            type_: kind,
        }
    };
    findings.into_iter().map(condition).collect()
}

/// Whether two statuses say the same, whenever it was measured.
pub fn same(one: &NodeStatus, other: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().flatten().for_each(|condition| condition.last_heartbeat_time = None);
        status
    };
    timeless(one) == timeless(other)
}

/// Whether the node's status in the API has every condition as it was measured.
pub fn shows(known: Option<&NodeStatus>, measured: &NodeStatus) -> bool {
    let known = known.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let has = |wanted: &NodeCondition| known.iter().any(|condition| condition.type_ == wanted.type_ && condition.status == wanted.status);
    measured.conditions.iter().flatten().all(has)
}

/// The status as a strategic merge patch: others' conditions and extended resources stay. Addresses are merged by their type, of
/// which a node may have several, so that they are replaced as upstream's kubelet does.
pub fn patch(status: &NodeStatus) -> Value {
    let mut patch = json!({"status": status});
    if let Some(fields) = patch["status"].as_object_mut() {
        replace_list(fields, "addresses");
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::{eviction::settings::EvictionSettings, patch::merged};

    fn with(runtime: &proto::StatusResponse, before: &[NodeCondition], second: i64) -> NodeStatus {
        having(runtime, Reserved::default(), before, second)
    }

    fn having(runtime: &proto::StatusResponse, reserved: Reserved, before: &[NodeCondition], second: i64) -> NodeStatus {
        measured((runtime, false), reserved, before, second)
    }

    fn measured((runtime, shutting_down): (&proto::StatusResponse, bool), reserved: Reserved, before: &[NodeCondition], second: i64) -> NodeStatus {
        let thresholds = EvictionSettings::default().thresholds().expect("upstream's");
        let usage = Usage { memory_available: 1 << 30, disk_size: 1000, disk_available: 900, ..Usage::default() };
        let facts = MachineFacts { cpus: 2, memory_bytes: 1 << 30, ..MachineFacts::default() };
        let inputs = NodeInputs {
            name: "n",
            labels: &BTreeMap::new(),
            ips: &["192.0.2.1".to_owned()],
            port: 10250,
            max_pods: 110,
            reserved,
            thresholds: &thresholds,
            registration: &Registration::default(),
            most_images: Some(50),
            kubelet_version: "v1.36.0",
            volumes: Path::new("/v"),
            facts: &facts,
            usage,
            disk_pressure: false,
            memory_pressure: false,
            pid_pressure: false,
            shutting_down,
            runtime: Ok(runtime),
            runtime_version: Arc::new("containerd 1.6".to_owned()),
            images: &[],
            devices: &BTreeMap::from([("example.com/gpu".to_owned(), (2, 1))]),
            now: Timestamp::from_second(second).expect("a time"),
        };
        status(&inputs, before)
    }

    fn network(status: bool) -> proto::StatusResponse {
        let (reason, message) = ("NetworkPluginNotReady".to_owned(), "cni plugin not initialized".to_owned());
        let conditions = vec![proto::RuntimeCondition { r#type: "NetworkReady".into(), status, reason, message }];
        proto::StatusResponse { status: Some(proto::RuntimeStatus { conditions }), ..Default::default() }
    }

    fn ready(status: &NodeStatus) -> &NodeCondition {
        status.conditions.as_ref().expect("conditions").iter().find(|condition| condition.type_ == "Ready").expect("is there")
    }

    #[test]
    fn a_node_without_pod_network_is_not_ready_and_says_so() {
        let status = with(&network(false), &[], 5);
        let message = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized";
        assert_eq!((ready(&status).status.as_str(), ready(&status).message.as_deref()), ("False", Some(message)));
        assert_eq!(status.node_info.map(|info| info.container_runtime_version).as_deref(), Some("containerd://1.6"));
    }

    #[test]
    fn a_node_that_shuts_down_is_not_ready() {
        let told = |runtime: &proto::StatusResponse| {
            let status = measured((runtime, true), Reserved::default(), &[], 5);
            let ready = ready(&status);
            (ready.status.clone(), ready.reason.clone().unwrap_or_default(), ready.message.clone().unwrap_or_default())
        };
        assert_eq!(told(&network(true)), ("False".into(), "KubeletNotReady".into(), "node is shutting down".into()));
        let (_, _, both) = told(&network(false));
        assert!(both.starts_with("[container runtime network not ready: ") && both.ends_with(", node is shutting down]"), "{both}");
    }

    #[test]
    fn a_node_keeps_no_address_that_it_has_no_more() {
        let old = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.9"}, {"type": "InternalIP", "address": "2001:db8::9"}, {"type": "Hostname", "address": "n"},
        ]}});
        let new = merged(old, &patch(&with(&network(true), &[], 5)));
        let addresses = json!([{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n"}]);
        assert_eq!(new["status"]["addresses"], addresses);
    }

    #[test]
    fn pods_do_not_get_what_is_reserved() {
        let reserved = Reserved { milli_cpus: 500, memory: 100 << 20, storage: 100, processes: 0 };
        let allocatable = having(&network(true), reserved, &[], 5).allocatable.expect("allocatable");
        let amounts = ["cpu", "memory", "ephemeral-storage"].map(|name| allocatable[name].0.clone());
        assert_eq!(amounts, ["1500m", "843776Ki", "0"]);
        let usual = with(&network(true), &[], 5).allocatable.expect("allocatable");
        assert_eq!((usual["cpu"].0.as_str(), usual["pods"].0.as_str()), ("2", "110"));
    }

    #[test]
    fn heartbeats_move_but_transitions_stay() {
        let first = with(&network(true), &[], 5);
        let second = with(&network(true), first.conditions.as_deref().expect("conditions"), 9);
        assert_eq!(ready(&second).last_transition_time.as_ref().map(|time| time.0.as_second()), Some(5));
        assert!(same(&first, &second) && first != second);
        let (capacity, allocatable) = (second.capacity.expect("capacity"), second.allocatable.expect("allocatable"));
        assert_eq!(allocatable["memory"].0, "946176Ki");
        assert_eq!((capacity["example.com/gpu"].0.as_str(), allocatable["example.com/gpu"].0.as_str()), ("2", "1"), "one is not well");
    }
}
