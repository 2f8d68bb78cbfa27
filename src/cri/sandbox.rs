//! A pod as the config of its sandbox.

use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec};

use crate::{
    names::{self, PodIdentity},
    proto, resources, security,
};

/// What is longer is no quantity.
const LONGEST_LIMIT: usize = 64;

/// What of the node the translation needs.
#[derive(Clone, Debug)]
pub struct SandboxInputs<'a> {
    pub attempt: u32,
    /// Empty for pods on the host's network.
    pub hostname: String,
    pub dns: proto::DnsConfig,
    pub log_root: &'a Path,
    /// The cgroup that holds the pods of this node.
    pub cgroup_parent: &'a str,
    /// How limits of CPU time bind.
    pub cpu_time: resources::CpuTime,
    /// Ids of its own, where it has some.
    pub users: Option<security::IdRange>,
}

/// The config of a pod's sandbox.
///
/// # Errors
/// For what the pod asks for and this node cannot give.
pub fn pod_sandbox_config(pod: &Pod, inputs: &SandboxInputs<'_>) -> Result<proto::PodSandboxConfig, String> {
    let id = PodIdentity::of(pod);
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let own = [(names::POD_NAME, &id.name), (names::POD_NAMESPACE, &id.namespace), (names::POD_UID, &id.uid)];
    let mut labels: std::collections::HashMap<_, _> = pod.metadata.labels.iter().flat_map(names::told).collect();
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.clone())));
    let mut annotations: std::collections::HashMap<_, _> = pod.metadata.annotations.iter().flat_map(names::told).collect();
    annotations.extend(limits_of_traffic(pod).map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(proto::PodSandboxConfig {
        metadata: Some(proto::PodSandboxMetadata {
            name: id.name.clone(),
            uid: id.uid.clone(),
            namespace: id.namespace.clone(),
            attempt: inputs.attempt,
        }),
        hostname: inputs.hostname.clone(),
        log_directory: id.log_directory(inputs.log_root).display().to_string(),
        dns_config: Some(inputs.dns.clone()),
        port_mappings: if spec.host_network == Some(true) { Vec::new() } else { port_mappings(spec) },
        labels,
        annotations,
        linux: Some(proto::LinuxPodSandboxConfig {
            cgroup_parent: names::pod_cgroup(inputs.cgroup_parent, resources::qos_class(pod), &id.uid),
            security_context: Some(security::sandbox_security(pod, inputs.users)?),
            sysctls: sysctls(spec),
            overhead: None,
            resources: Some(resources::pod_resources(spec, inputs.cpu_time)),
        }),
        windows: None,
    })
}

/// The annotations that limit a pod's traffic, which the runtime passes on to the network plugins: told however many others there are.
pub fn limits_of_traffic(pod: &Pod) -> impl Iterator<Item = (&'static str, &str)> {
    let noted = move |name: &'static str| pod.metadata.annotations.as_ref()?.get(name).map(|value| (name, value.as_str()));
    names::LIMITS_OF_TRAFFIC.into_iter().filter_map(noted).filter(|(_, value)| value.len() <= LONGEST_LIMIT)
}

fn sysctls(spec: &PodSpec) -> std::collections::HashMap<String, String> {
    let wanted = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    wanted.into_iter().flatten().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect()
}

fn port_mappings(spec: &PodSpec) -> Vec<proto::PortMapping> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    ports.map(port_mapping).collect()
}

fn port_mapping(port: &ContainerPort) -> proto::PortMapping {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => proto::Protocol::Udp,
        Some("SCTP") => proto::Protocol::Sctp,
        _ => proto::Protocol::Tcp,
    };
    proto::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs() -> SandboxInputs<'static> {
        SandboxInputs {
            attempt: 1,
            hostname: "web".into(),
            dns: proto::DnsConfig::default(),
            log_root: Path::new("/var/log/pods"),
            cgroup_parent: "kubepods",
            cpu_time: resources::CpuTime::default(),
            users: None,
        }
    }

    #[test]
    fn a_sandbox_carries_the_labels_by_which_it_is_found_again() {
        let pod = json!({"metadata": {"name": "web", "namespace": "n", "uid": "u", "labels": {"app": "x"}, "annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}]}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let config = pod_sandbox_config(&pod, &inputs()).expect("is translated");
        assert_eq!(config.labels["io.kubernetes.pod.uid"], "u");
        assert_eq!(config.labels["app"], "x");
        assert_eq!(config.log_directory, "/var/log/pods/n_web_u");
        assert_eq!(config.linux.as_ref().expect("linux").cgroup_parent, "/kubepods/besteffort/podu");
        assert_eq!((config.port_mappings[0].host_port, config.port_mappings[0].protocol()), (8080, proto::Protocol::Udp));
        assert_eq!(config.metadata.expect("metadata").attempt, 1);
    }

    #[test]
    fn limits_of_traffic_are_told_beside_whatever_other_annotations() {
        let many = (0..9).map(|at| (format!("a{at}"), serde_json::Value::from("x".repeat(2000))));
        let limits = [("kubernetes.io/ingress-bandwidth", "1M"), ("kubernetes.io/egress-bandwidth", "2M")];
        let all: serde_json::Map<String, serde_json::Value> = many.chain(limits.map(|(name, value)| (name.to_owned(), value.into()))).collect();
        let pod = json!({"metadata": {"name": "web", "annotations": all}, "spec": {"containers": [{"name": "c"}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let config = pod_sandbox_config(&pod, &inputs()).expect("is translated");
        assert!(!config.annotations.contains_key("a8"), "there is no room for all");
        assert!(
            limits.iter().all(|(name, value)| config.annotations.get(*name).is_some_and(|told| told == value)),
            "{:?}",
            config.annotations.keys()
        );
    }
}
