use k8s_openapi::api::core::v1::Container;
use serde_json::json;

use super::{
    cpu::testing::{set, topology},
    topology::merge::Hint,
    *,
};

/// No devices.
struct Nothing;

impl HintProvider for Nothing {
    fn hints(&self, _: NumaMask, _: &Pod, _: &Container) -> Vec<Vec<Hint>> {
        Vec::new()
    }

    fn pod_hints(&self, _: NumaMask, _: &Pod) -> Vec<Vec<Hint>> {
        Vec::new()
    }
}

/// Each container has a device on the second node.
struct Second;

impl HintProvider for Second {
    fn hints(&self, _: NumaMask, _: &Pod, _: &Container) -> Vec<Vec<Hint>> {
        vec![vec![Hint { nodes: Some([1].into_iter().collect()), preferred: true }]]
    }

    fn pod_hints(&self, machine: NumaMask, pod: &Pod) -> Vec<Vec<Hint>> {
        self.hints(machine, pod, &Container::default())
    }
}

fn options() -> ContainerManagerOptions {
    ContainerManagerOptions { static_cpus: Some(StaticCpus::default()), topology: Some(topology(1, 1, 4, 1)), ..ContainerManagerOptions::default() }
}

fn pod(uid: &str, cpus: &[&str]) -> Pod {
    let container = |(index, cpus): (usize, &&str)| json!({"name": format!("c{index}"), "resources": {"limits": {"cpu": cpus, "memory": "1Gi"}, "requests": {"cpu": cpus, "memory": "1Gi"}}});
    let containers: Vec<_> = cpus.iter().enumerate().map(container).collect();
    serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": containers}})).expect("a pod")
}

#[tokio::test]
async fn a_container_is_told_where_it_runs_and_that_stands_on_disk_before() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&options(), place.path(), (500, 0)).expect("starts");
    manager.admit(&pod("a", &["2", "500m"]), &Nothing).expect("there is enough");
    let mut own = LinuxContainerResources { cpu_quota: 200_000, ..Default::default() };
    manager.place("a", "c0", &mut own).await.expect("kept");
    assert_eq!((own.cpuset_cpus.as_str(), own.cpu_quota), ("1-2", NO_QUOTA));
    let mut shared = LinuxContainerResources { cpu_quota: 50_000, ..Default::default() };
    manager.place("a", "c1", &mut shared).await.expect("kept");
    assert_eq!((shared.cpuset_cpus.as_str(), shared.cpu_quota), ("0,3", 50_000));
    assert!(manager.has_own_cpus("a") && !manager.has_own_cpus("b"));
    let next = ContainerManager::start(&options(), place.path(), (500, 0)).expect("goes on");
    assert!(next.has_own_cpus("a"));
    next.release("a").await.expect("kept");
    assert_eq!(next.cpus().expect("static").assignments().shared, set("0-3"));
}

#[tokio::test]
async fn a_pod_gets_all_or_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&options(), place.path(), (500, 0)).expect("starts");
    let refusal = manager.admit(&pod("a", &["2", "2"]), &Nothing).expect_err("too many");
    assert_eq!(refusal.reason, "UnexpectedAdmissionError");
    assert!(!manager.has_own_cpus("a"));
    manager.admit(&pod("b", &["3"]), &Nothing).expect("all are there");
}

fn aligned_options(policy: &str, scope: &str) -> ContainerManagerOptions {
    let topology_manager = TopologyOptions::parse(policy, scope, &BTreeMap::new()).expect("a policy");
    ContainerManagerOptions { topology_manager, topology: Some(topology(2, 2, 8, 1)), ..options() }
}

/// A machine of two NUMA nodes of four CPUs, 0-3 and 4-7, of which the first is reserved.
fn aligned(policy: &str, scope: &str) -> (tempfile::TempDir, ContainerManager) {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&aligned_options(policy, scope), place.path(), (1000, 0)).expect("starts");
    (place, manager)
}

fn given(manager: &ContainerManager, pod: &str) -> Vec<String> {
    let assignments = manager.cpus().expect("static").assignments();
    assignments.containers.get(pod).into_iter().flatten().map(|(_, cpus)| cpus.to_string()).collect()
}

#[test]
fn cpus_lie_on_one_numa_node_or_the_pod_is_refused() {
    let refused = |manager: &ContainerManager, pod: &Pod| manager.admit(pod, &Nothing).expect_err("refused").reason;
    let (_place, best) = aligned("best-effort", "container");
    best.admit(&pod("a", &["4", "3"]), &Nothing).expect("there is enough");
    assert_eq!(given(&best, "a"), ["4-7", "1-3"]);
    let (_place, single) = aligned("single-numa-node", "container");
    assert_eq!(refused(&single, &pod("a", &["5"])), "TopologyAffinityError");
    single.admit(&pod("a", &["2", "4"]), &Nothing).expect("each on one");
    assert_eq!(given(&single, "a"), ["1-2", "4-7"]);
    let before = single.cpus().expect("static").assignments();
    single.admit(&pod("a", &["2", "4"]), &Nothing).expect("it has them");
    assert_eq!(single.cpus().expect("static").assignments(), before);
    single.admit(&pod("b", &["500m"]), &Nothing).expect("whoever shares lies anywhere");
}

#[test]
fn a_whole_pod_lies_on_one_numa_node_in_the_scope_of_pods() {
    let (_place, manager) = aligned("single-numa-node", "pod");
    let refusal = manager.admit(&pod("a", &["2", "3"]), &Nothing).expect_err("refused");
    assert_eq!(refusal.message, "Resources cannot be allocated with Topology locality");
    assert!(given(&manager, "a").is_empty());
    manager.admit(&pod("a", &["2", "2"]), &Nothing).expect("there is enough on the second");
    assert_eq!(given(&manager, "a"), ["4-5", "6-7"]);
}

#[test]
fn restricted_pods_may_need_two_nodes_but_no_more_than_they_would_on_an_empty_machine() {
    let (_place, manager) = aligned("restricted", "container");
    manager.admit(&pod("a", &["5"]), &Nothing).expect("no node has as many");
    assert_eq!(given(&manager, "a"), ["1,4-7"]);
    assert_eq!(manager.admit(&pod("b", &["3"]), &Nothing).expect_err("refused").reason, "TopologyAffinityError");
    manager.admit(&pod("b", &["2"]), &Nothing).expect("there are two");
}

#[tokio::test]
async fn cpus_lie_where_the_devices_do() {
    for scope in ["container", "pod"] {
        let (_place, manager) = aligned("single-numa-node", scope);
        manager.admit(&pod("a", &["2", "500m"]), &Second).expect("there is enough");
        assert_eq!(given(&manager, "a"), ["4-5"], "{scope}");
        let second: NumaMask = [1].into_iter().collect();
        let wanted = Affinity { nodes: ["c0", "c1"].map(|name| (name.to_owned(), second)).into(), strict: true };
        assert_eq!(manager.affinity("a"), wanted);
        assert_eq!(manager.admit(&pod("b", &["3"]), &Second).expect_err("refused").reason, "TopologyAffinityError");
        manager.release("a").await.expect("kept");
        assert_eq!(manager.affinity("a").nodes, BTreeMap::new());
    }
    let alone = ContainerManagerOptions { static_cpus: None, ..aligned_options("best-effort", "container") };
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&alone, place.path(), (0, 0)).expect("starts");
    manager.admit(&pod("a", &["2"]), &Second).expect("there is enough");
    assert_eq!((manager.affinity("a").nodes.len(), manager.affinity("a").strict), (1, false));
}

#[tokio::test]
async fn memory_lies_where_the_cpus_do() {
    const GIB: u64 = 1 << 30;
    let place = tempfile::tempdir().expect("a directory");
    let node = memory::machine::NodeMemory { total: 10 * GIB, hugepages: BTreeMap::new() };
    let options = ContainerManagerOptions {
        static_memory: Some(Reserved::from([(0, [("memory".to_owned(), GIB)].into())])),
        memory: Some([(0, node.clone()), (1, node)].into()),
        ..aligned_options("single-numa-node", "container")
    };
    let manager = ContainerManager::start(&options, place.path(), (1000, 1 << 30)).expect("starts");
    assert!(manager.has_static_memory());
    // The first node has three CPUs for pods.
    manager.admit(&pod("a", &["4"]), &Nothing).expect("there is enough");
    let mut resources = LinuxContainerResources::default();
    manager.place("a", "c0", &mut resources).await.expect("kept");
    assert_eq!((resources.cpuset_cpus.as_str(), resources.cpuset_mems.as_str()), ("4-7", "1"));
    let mut shared = LinuxContainerResources::default();
    manager.place("b", "c0", &mut shared).await.expect("kept");
    assert_eq!((shared.cpuset_cpus.as_str(), shared.cpuset_mems.as_str()), ("0-3", ""));
    drop(manager);
    let next = ContainerManager::start(&options, place.path(), (1000, 1 << 30)).expect("goes on");
    next.admit(&pod("a", &["4"]), &Nothing).expect("it has them");
    next.retain(|uid| uid == "a");
    assert_eq!(next.admit(&pod("b", &["4"]), &Nothing).expect_err("refused").reason, "TopologyAffinityError");
    next.retain(|_| false);
    let mut gone = LinuxContainerResources::default();
    next.place("a", "c0", &mut gone).await.expect("kept");
    assert_eq!(gone.cpuset_mems, "");
    next.release("a").await.expect("kept");
    let none = ContainerManagerOptions { static_memory: None, ..options.clone() };
    let why = ContainerManager::start(&none, place.path(), (1000, 1 << 30)).expect_err("refused");
    assert!(why.contains("[memorymanager] configured policy \"None\" differs from state checkpoint policy \"Static\""), "{why}");
}

#[tokio::test]
async fn without_a_policy_nothing_is_touched() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&ContainerManagerOptions::default(), place.path(), (0, 0)).expect("starts");
    manager.admit(&pod("a", &["2000"]), &Nothing).expect("nobody counts");
    let mut resources = LinuxContainerResources { cpu_quota: 1000, ..Default::default() };
    manager.place("a", "c0", &mut resources).await.expect("nothing to do");
    assert_eq!(resources, LinuxContainerResources { cpu_quota: 1000, ..Default::default() });
    assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 0);
}

#[test]
fn a_policy_that_keeps_nothing_for_others_does_not_start() {
    let place = tempfile::tempdir().expect("a directory");
    let why = ContainerManager::start(&options(), place.path(), (0, 0)).expect_err("refused");
    let end = "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero";
    assert_eq!(why, format!("new static policy error: {end}"));
}
