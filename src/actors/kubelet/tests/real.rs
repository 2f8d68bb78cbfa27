//! Pods on a real containerd.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;
use troupe_cri::{GrpcRuntime, resources::MachineSize};

use super::{
    containerd::{BUSYBOX, Containerd},
    driver::Driver,
};
use crate::kubelet::{
    admission::NodeAbilities,
    cluster::NoCluster,
    context::NodeContext,
    csi::Csi,
    events::EventRecorder,
    pull_records::PullRecords,
    resolv::{ClusterDns, Resolver},
    user_namespaces::{NodeIds, UserNamespaces},
    volumes::room::NodeRoom,
};

fn context(containerd: &Containerd) -> Arc<NodeContext> {
    let place = containerd.place.path();
    Arc::new(NodeContext {
        node_name: "node".into(),
        clock: Arc::new(troupe_api::meta::SystemClock),
        runtime: Arc::new(GrpcRuntime::new(containerd.socket())),
        cluster: Arc::new(NoCluster),
        container_manager: Default::default(),
        user_namespaces: UserNamespaces::start(&place.join("kubelet"), NodeIds::of_machine(65_536, 110).expect("ids")).expect("starts"),
        device_plugins: Arc::new(crate::kubelet::device_plugins::DevicePlugins::new(&place.join("kubelet"))),
        dra: Arc::new(crate::kubelet::dra::Dra::new(&place.join("kubelet"), "n".into(), None)),
        csi: Arc::new(Csi::new(&place.join("kubelet"), "node".into(), None)),
        gate: Arc::new(crate::network_policy::OpenGate),
        links: Arc::new(troupe_net::cni::links::NoPodLinks),
        pulls: crate::kubelet::pulls::PullGate::new(Default::default()),
        registry_clients: Default::default(),
        credential_providers: Default::default(),
        pull_records: PullRecords::new(&place.join("kubelet"), Default::default(), Arc::new(troupe_api::meta::SystemClock)),
        pod_certificates: Default::default(),
        backoff: Default::default(),
        events: EventRecorder::nowhere(),
        root: place.join("kubelet"),
        volumes: place.join("volumes"),
        log_root: place.join("logs"),
        container_log_links: Path::new("").to_owned(),
        allocations: Default::default(),
        slices: Default::default(),
        cgroup_parent: format!("troupe-test-{}", std::process::id()),
        features: ArcSwap::default(),
        abilities: NodeAbilities::default(),
        seccomp_root: place.join("seccomp").display().to_string(),
        seccomp_default: false,
        stop_signals: false,
        cpu_time: Default::default(),
        dns: ClusterDns { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() },
        resolver: Resolver::default(),
        node_ips: vec!["127.0.0.1".into()],
        machine: MachineSize { cpus: 2, memory_bytes: 1 << 33, daemons_oom_score_adj: 0, ..MachineSize::default() },
        unreserved: MachineSize { cpus: 2, memory_bytes: 1 << 33, daemons_oom_score_adj: 0, ..MachineSize::default() },
        hugepages: Vec::new(),
        masked_paths: Vec::new(),
        disk_pressure: std::sync::atomic::AtomicBool::new(false),
        memory_pressure: std::sync::atomic::AtomicBool::new(false),
        pid_pressure: std::sync::atomic::AtomicBool::new(false),
        shutting_down: std::sync::atomic::AtomicBool::new(false),
        written: NodeRoom::new(1 << 26),
        cgroups_per_qos: true,
        pod_max_pids: Some(100),
        runtime_name: "containerd".into(),
        runtime_version: ArcSwap::from_pointee("containerd 0".to_owned()),
    })
}

#[tokio::test]
async fn a_pod_on_containerd_runs_and_leaves_nothing_behind() {
    let containerd = Containerd::start().await;
    let context = context(&containerd);
    let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "11111111-2222"},
        "spec": {"terminationGracePeriodSeconds": 5,
            "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}],
            "initContainers": [{"name": "init", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", "echo made by $(ME) > /shared/file"],
                "env": [{"name": "ME", "value": "init"}], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
            "containers": [{"name": "main", "image": BUSYBOX, "imagePullPolicy": "Never",
                "command": ["sh", "-c", "trap 'echo stopping; exit 0' TERM; cat /shared/file /info/name; hostname; while true; do sleep 0.1; done"],
                "readinessProbe": {"exec": {"command": ["test", "-f", "/shared/file"]}, "periodSeconds": 1},
                "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo pre > /shared/stop"]}}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}, {"name": "info", "mountPath": "/info"}]}]}}))
    .expect("a pod");
    let mut driver = Driver::new(context.clone(), &pod);
    let ready = |driver: &Driver| {
        let conditions = driver.status.conditions.as_deref().unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    driver.until(Duration::from_secs(30), "ready", ready).await;
    assert!(driver.status.pod_ip.as_deref().is_some_and(|ip| ip.starts_with("10.251.")), "{:?}", driver.status.pod_ip);
    let log = context.log_root.join("default_web_11111111-2222/main/0.log");
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.contains("made by init") && text.contains("stdout F web"), "{text}");

    pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    pod.metadata.deletion_grace_period_seconds = Some(5);
    driver.machine.spec(Arc::new(pod));
    driver.until(Duration::from_secs(20), "gone", |driver| driver.finished).await;
    let ended = &driver.status.container_statuses.as_ref().expect("statuses")[0];
    let code = ended.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code);
    assert_eq!(code, Some(0), "it heard the signal: {ended:#?}");
    assert!(!context.paths("11111111-2222").root().exists() && !log.exists());
}
