use std::{collections::BTreeMap, os::unix::net::UnixStream, path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, from_value, json};
use tonic::{Code, Status};
use troupe_unix_grpc::Service;

use super::{Sources, proto::*, server::serve};
use crate::kubelet::{
    container_manager::{
        ContainerManager, ContainerManagerOptions, StaticCpus,
        cpu::testing::topology,
        memory::{machine::NodeMemory, policy::Reserved},
    },
    device_plugins::{
        proto::{CdiDevice, NumaNode, Topology},
        testing::{device, with_devices},
    },
    dra::testing::{claim, with_claims},
};

const GPU: &str = "example.com/gpu";
const GIB: u64 = 1 << 30;

fn container(name: &str, cpu: &str, more: &Value) -> Value {
    let amounts = json!({"cpu": cpu, "memory": "1Gi"});
    let mut container = json!({"name": name, "resources": {"limits": amounts, "requests": amounts}});
    for (field, value) in more.as_object().into_iter().flatten() {
        container[field] = value.clone();
    }
    container
}

fn pod(name: &str, phase: &str) -> Pod {
    let init = [container("setup", "1", &json!({})), container("proxy", "500m", &json!({"restartPolicy": "Always"}))];
    let mut main = container("main", "1", &json!({}));
    main["resources"]["claims"] = json!([{"name": "gpu"}]);
    let spec = json!({"initContainers": init, "containers": [main], "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]});
    from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec, "status": {"phase": phase}})).expect("a pod")
}

/// A node of two NUMA nodes with two CPUs and ten GiB each, of which one of each is reserved.
fn manager(root: &Path) -> ContainerManager {
    let node = NodeMemory { total: 10 * GIB, hugepages: BTreeMap::new() };
    let options = ContainerManagerOptions {
        static_cpus: Some(StaticCpus::default()),
        static_memory: Some(Reserved::from([(0, [("memory".to_owned(), GIB)].into())])),
        topology: Some(topology(1, 2, 4, 1)),
        memory: Some([(0, node.clone()), (1, node)].into()),
        ..ContainerManagerOptions::default()
    };
    ContainerManager::start(&options, root, (1000, 1 << 30)).expect("starts")
}

fn on(nodes: &[i64]) -> Option<Topology> {
    Some(Topology { nodes: nodes.iter().map(|id| NumaNode { id: *id }).collect() })
}

fn gpu(id: &str, topology: Option<Topology>) -> Devices {
    Devices { resource_name: GPU.into(), ids: vec![id.into()], topology }
}

async fn until_answered(socket: &Path) {
    for _ in 0..1000 {
        if UnixStream::connect(socket).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody answers at {}", socket.display());
}

async fn get(service: &Service, name: &str) -> Result<GetResponse, Status> {
    service.ask("/v1.PodResourcesLister/Get", GetRequest { pod_name: name.into(), pod_namespace: "n".into() }).await
}

#[tokio::test]
async fn whoever_asks_on_the_node_hears_what_containers_have() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = manager(place.path());
    let held = [("runs", "main", "g1"), ("runs", "main", "g2"), ("done", "main", "g0")];
    let devices = Arc::new(with_devices(place.path(), GPU, &[device("g0", &[0]), device("g1", &[0, 1]), device("g2", &[])], &held));
    let dra = with_claims(place.path(), vec![claim("n", "c", "d.example.com", &[("p", "a", &["d=0", "d=1"]), ("p", "b", &["d=2"])])]);
    manager.admit(&pod("runs", "Running"), &*devices).expect("there is enough");
    let (cpus, memory) = (manager.cpus().cloned().expect("static"), manager.memory().cloned().expect("static"));
    let pods: Vec<Arc<Pod>> = vec![pod("runs", "Running").into(), pod("done", "Succeeded").into(), pod("waits", "Pending").into()];
    let sources =
        Sources { pods: Arc::new(move || pods.clone()), devices, cpus: Some(cpus.clone()), memory: Some(memory.clone()), dra: Arc::new(dra) };
    let directory = place.path().join(super::DIRECTORY);
    let socket = directory.join("kubelet.sock");
    std::fs::create_dir(&directory).expect("makes");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a process before this one was killed"));
    let served = tokio::spawn(async move { serve(&directory, sources).await });
    until_answered(&socket).await;
    let service = Service::new(&socket, Duration::from_secs(10));

    let listed: ListResponse = service.ask("/v1.PodResourcesLister/List", ListRequest {}).await.expect("answers");
    let names: Vec<&str> = listed.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["runs", "waits"], "those that have not ended");
    let runs = &listed.pods[0];
    let containers: Vec<&str> = runs.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!((runs.namespace.as_str(), containers), ("n", vec!["proxy", "main"]), "those that run as long as the pod");
    let [proxy, main] = &runs.containers[..] else { panic!("{runs:?}") };
    assert!(proxy.cpu_ids.is_empty() && proxy.devices.is_empty() && proxy.dynamic_resources.is_empty(), "{proxy:?}");
    let own: Vec<i64> = cpus.assignments().of("runs", "main").expect("it has one").iter().map(i64::from).collect();
    assert_eq!((main.cpu_ids.len(), &main.cpu_ids), (1, &own));
    let block = &memory.state().entries["runs"]["main"][0];
    let nodes: Vec<i64> = block.nodes.iter().map(|node| i64::from(*node)).collect();
    assert_eq!(main.memory, [Memory { kind: "memory".into(), size: GIB, topology: on(&nodes) }]);
    assert_eq!(main.devices, [gpu("g1", on(&[0])), gpu("g1", on(&[1])), gpu("g2", None)]);
    let part = |device: &str, cdi: &[&str]| ClaimResource {
        cdi_devices: cdi.iter().map(|name| CdiDevice { name: (*name).into() }).collect(),
        driver_name: "d.example.com".into(),
        pool_name: "p".into(),
        device_name: device.into(),
        share_id: None,
    };
    let claim_resources = vec![part("a", &["d=0", "d=1"]), part("b", &["d=2"])];
    assert_eq!(main.dynamic_resources, [DynamicResource { claim_name: "c".into(), claim_namespace: "n".into(), claim_resources }]);
    assert_eq!(get(&service, "runs").await.expect("is there").pod.as_ref(), Some(runs));
    let gone = get(&service, "done").await.expect_err("it has ended");
    assert_eq!((gone.code(), gone.message()), (Code::Unknown, "pod done in namespace n not found"));

    let first: ListResponse = service.ask("/v1alpha1.PodResourcesLister/List", ListRequest {}).await.expect("answers");
    let names: Vec<&str> = first.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["runs", "done", "waits"], "it tells of all pods");
    let main = ContainerResources { name: "main".into(), devices: vec![gpu("g1", None), gpu("g2", None)], ..ContainerResources::default() };
    assert_eq!(first.pods[0].containers, [main]);

    let all: AllocatableResponse = service.ask("/v1.PodResourcesLister/GetAllocatableResources", AllocatableRequest {}).await.expect("answers");
    assert_eq!(all.devices, [gpu("g0", on(&[0])), gpu("g1", on(&[0])), gpu("g1", on(&[1])), gpu("g2", None)], "whoever has them");
    assert_eq!(all.cpu_ids, [1, 2, 3]);
    let memory = |size: u64, node: i64| Memory { kind: "memory".into(), size, topology: on(&[node]) };
    assert_eq!(all.memory, [memory(9 * GIB, 0), memory(10 * GIB, 1)]);

    let other: Result<ListResponse, Status> = service.ask("/v1.PodResourcesLister/Other", ListRequest {}).await;
    assert_eq!(other.expect_err("is no method").code(), Code::Unimplemented);
    let many = join_all((0..500).map(|_| get(&service, "runs"))).await;
    let refused = many.into_iter().find_map(Result::err).expect("they come too often");
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "rejected by rate limit"));
    served.abort();
}

#[tokio::test]
async fn without_managers_containers_have_nothing_of_their_own() {
    let place = tempfile::tempdir().expect("a directory");
    let devices = Arc::new(with_devices(place.path(), GPU, &[], &[]));
    let dra = Arc::new(with_claims(place.path(), Vec::new()));
    let sources = Sources { pods: Arc::new(|| vec![Arc::new(pod("p", "Running"))]), devices, cpus: None, memory: None, dra };
    let main = &sources.list().pods[0].containers[1];
    assert_eq!(*main, ContainerResources { name: "main".into(), ..ContainerResources::default() }, "its claim is not known yet");
    assert_eq!(sources.allocatable(), AllocatableResponse::default());
}
