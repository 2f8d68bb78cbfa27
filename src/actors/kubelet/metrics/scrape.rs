//! The kubelet's `/metrics`: what it counted, and what runs at the moment of the scrape.

use std::collections::BTreeMap;

use bytes::Bytes;
use troupe_api::{
    metrics::{BuildInfo, Collect, Process, Text, render},
    spans,
    version::VersionInfo,
};
use troupe_cri::{
    Runtime,
    proto::{ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState},
};

use crate::{
    kubelet::{csi::stats::VolumeUsage, device_metrics, pod_certificates, pod_resources, stats::PodVolumes},
    runtime::{metrics::CacheMetrics, system::System},
    storage::operations,
};

/// A whole scrape. `desired` pods are bound to the node; of a `system` its caches are told.
pub async fn scrape(
    node: &str,
    desired: usize,
    volumes: &PodVolumes,
    runtime: &dyn Runtime,
    version: &VersionInfo,
    system: Option<&System>,
) -> Bytes {
    let running = running(runtime).await;
    let claims = |text: &mut Text| write_claims(volumes, text);
    let now = |text: &mut Text| running.write(node, desired, text);
    let (build, caches) = (BuildInfo(version.clone()), system.cloned().map(CacheMetrics));
    let mut collectors: Vec<&dyn Collect> = vec![&now, &claims, &build];
    collectors.extend(super::COLLECTORS);
    collectors.extend(device_metrics::COLLECTORS);
    collectors.extend(pod_certificates::metrics::COLLECTORS);
    collectors.extend(pod_resources::metrics::COLLECTORS);
    collectors.extend(spans::COLLECTORS);
    collectors.extend(operations::COLLECTORS);
    collectors.extend(troupe_api_client::COLLECTORS);
    collectors.extend(caches.iter().map(|caches| caches as &dyn Collect));
    collectors.push(&Process);
    render(&collectors)
}

/// How full claims' volumes are.
fn write_claims(volumes: &PodVolumes, text: &mut Text) {
    type Figure = fn(&VolumeUsage) -> Option<i64>;
    let figures: [(&str, &str, Figure); 6] = [
        ("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", |usage| usage.available_bytes),
        ("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", |usage| usage.capacity_bytes),
        ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", |usage| usage.inodes),
        ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", |usage| usage.inodes_free),
        ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", |usage| usage.inodes_used),
        ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", |usage| usage.used_bytes),
    ];
    // Several pods may have one.
    let claims: BTreeMap<_, _> = volumes.values().flatten().filter_map(|volume| Some((volume.claim.as_ref()?, &volume.usage))).collect();
    for (name, help, figure) in figures {
        let known = claims.iter().filter_map(|(claim, usage)| Some((*claim, u64::try_from(figure(usage)?).ok()?)));
        let known: Vec<_> = known.collect();
        if !known.is_empty() {
            text.family(name, help, "gauge");
        }
        for ((namespace, claim), value) in known {
            text.count(name, &[("namespace", namespace), ("persistentvolumeclaim", claim)], value);
        }
    }
}

struct Running {
    pods: usize,
    containers: BTreeMap<&'static str, usize>,
}

/// What runs; nothing where the runtime does not answer.
async fn running(runtime: &dyn Runtime) -> Running {
    let sandboxes = runtime.list_pod_sandboxes(PodSandboxFilter::default()).await.unwrap_or_default();
    let ready = sandboxes.iter().filter(|sandbox| sandbox.state == i32::from(PodSandboxState::SandboxReady));
    let mut containers = BTreeMap::from([("created", 0), ("exited", 0), ("running", 0), ("unknown", 0)]);
    for container in runtime.list_containers(ContainerFilter::default()).await.unwrap_or_default() {
        let state = match ContainerState::try_from(container.state) {
            Ok(ContainerState::ContainerCreated) => "created",
            Ok(ContainerState::ContainerRunning) => "running",
            Ok(ContainerState::ContainerExited) => "exited",
            _ => "unknown",
        };
        *containers.entry(state).or_default() += 1;
    }
    Running { pods: ready.count(), containers }
}

impl Running {
    fn write(&self, node: &str, desired: usize, text: &mut Text) {
        text.family("kubelet_node_name", "The node's name. The count is always 1.", "gauge");
        text.count("kubelet_node_name", &[("node", node)], 1);
        let help = "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.";
        text.family("kubelet_desired_pods", help, "gauge");
        text.count("kubelet_desired_pods", &[("static", "")], desired as u64);
        text.family("kubelet_running_containers", "Number of containers currently running", "gauge");
        for (state, count) in &self.containers {
            text.count("kubelet_running_containers", &[("container_state", state)], *count as u64);
        }
        text.family("kubelet_running_pods", "Number of pods that have a running pod sandbox", "gauge");
        text.count("kubelet_running_pods", &[], self.pods as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use troupe_api::metrics::parse::Samples;
    use troupe_cri::{
        FakeRuntime,
        proto::{ContainerConfig, ContainerMetadata, PodSandboxConfig},
    };

    use super::*;
    use crate::kubelet::{metrics::MeteredRuntime, stats::PodVolume};

    #[tokio::test]
    async fn a_scrape_tells_what_runs_and_what_the_runtime_was_asked() {
        let runtime = MeteredRuntime::new(Arc::new(FakeRuntime::default()));
        let sandbox = runtime.run_pod_sandbox(PodSandboxConfig::default(), "").await.expect("a sandbox");
        for name in ["a", "b"] {
            let config = ContainerConfig { metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }), ..ContainerConfig::default() };
            let id = runtime.create_container(&sandbox, config, PodSandboxConfig::default()).await.expect("a container");
            if name == "a" {
                runtime.start_container(&id).await.expect("starts");
            }
        }
        runtime.start_container("no such").await.expect_err("there is none");
        let usage = VolumeUsage { volume: "v".into(), used_bytes: Some(7), ..VolumeUsage::default() };
        let volumes = PodVolumes::from([("u".into(), vec![PodVolume { claim: Some(("ns".into(), "c".into())), usage }])]);
        let text = scrape("n1", 3, &volumes, &runtime, &VersionInfo::of_build("1", "c", "d"), None).await;
        let samples = Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses");
        assert_eq!(samples.value("kubelet_node_name", &[("node", "n1")]), Some(1.0));
        assert_eq!(samples.value("kubelet_desired_pods", &[]), Some(3.0));
        let claim = [("namespace", "ns"), ("persistentvolumeclaim", "c")];
        assert_eq!(samples.value("kubelet_volume_stats_used_bytes", &claim), Some(7.0));
        assert_eq!(samples.value("kubelet_volume_stats_inodes", &claim), None, "nobody has told");
        assert_eq!(samples.value("kubelet_running_pods", &[]), Some(1.0));
        assert_eq!(samples.value("kubelet_running_containers", &[("container_state", "running")]), Some(1.0));
        assert_eq!(samples.value("kubelet_running_containers", &[("container_state", "created")]), Some(1.0));
        // Other tests of this process may use metered runtimes, too.
        let at_least = |name, operation, least| samples.value(name, &[("operation_type", operation)]).is_some_and(|value| value >= least);
        assert!(at_least("kubelet_runtime_operations_total", "create_container", 2.0));
        assert!(at_least("kubelet_runtime_operations_errors_total", "start_container", 1.0));
        assert!(at_least("kubelet_runtime_operations_duration_seconds_count", "run_podsandbox", 1.0));
        assert!(at_least("kubelet_runtime_operations_total", "run_podsandbox", 1.0));
        assert_eq!(samples.value("kubernetes_build_info", &[("git_commit", "c")]), Some(1.0));
        assert!(samples.value("process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 0.0));
    }
}
