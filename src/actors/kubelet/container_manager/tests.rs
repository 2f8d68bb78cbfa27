use serde_json::json;

use super::{
    cpu::testing::{set, topology},
    *,
};

fn options() -> ContainerManagerOptions {
    ContainerManagerOptions { static_cpus: Some(StaticCpus::default()), topology: Some(topology(1, 1, 4, 1)) }
}

fn pod(uid: &str, cpus: &[&str]) -> Pod {
    let containers: Vec<_> = cpus.iter().enumerate().map(|(index, cpus)| {
        json!({"name": format!("c{index}"), "resources": {"limits": {"cpu": cpus, "memory": "1Gi"}, "requests": {"cpu": cpus, "memory": "1Gi"}}})
    });
    serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": containers}})).expect("a pod")
}

#[tokio::test]
async fn a_container_is_told_where_it_runs_and_that_stands_on_disk_before() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&options(), place.path(), 500).expect("starts");
    manager.admit(&pod("a", &["2", "500m"])).expect("there is enough");
    let mut own = LinuxContainerResources { cpu_quota: 200_000, ..Default::default() };
    manager.place("a", "c0", &mut own).await.expect("kept");
    assert_eq!((own.cpuset_cpus.as_str(), own.cpu_quota), ("1-2", NO_QUOTA));
    let mut shared = LinuxContainerResources { cpu_quota: 50_000, ..Default::default() };
    manager.place("a", "c1", &mut shared).await.expect("kept");
    assert_eq!((shared.cpuset_cpus.as_str(), shared.cpu_quota), ("0,3", 50_000));
    assert!(manager.has_own_cpus("a") && !manager.has_own_cpus("b"));
    let next = ContainerManager::start(&options(), place.path(), 500).expect("goes on");
    assert!(next.has_own_cpus("a"));
    next.release("a").await.expect("kept");
    assert_eq!(next.cpus().expect("static").assignments().shared, set("0-3"));
}

#[tokio::test]
async fn a_pod_gets_all_or_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&options(), place.path(), 500).expect("starts");
    let refusal = manager.admit(&pod("a", &["2", "2"])).expect_err("too many");
    assert_eq!(refusal.reason, "UnexpectedAdmissionError");
    assert!(!manager.has_own_cpus("a"));
    manager.admit(&pod("b", &["3"])).expect("all are there");
}

#[tokio::test]
async fn without_a_policy_nothing_is_touched() {
    let place = tempfile::tempdir().expect("a directory");
    let manager = ContainerManager::start(&ContainerManagerOptions::default(), place.path(), 0).expect("starts");
    manager.admit(&pod("a", &["2000"])).expect("nobody counts");
    let mut resources = LinuxContainerResources { cpu_quota: 1000, ..Default::default() };
    manager.place("a", "c0", &mut resources).await.expect("nothing to do");
    assert_eq!(resources, LinuxContainerResources { cpu_quota: 1000, ..Default::default() });
    assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 0);
}

#[test]
fn a_policy_that_keeps_nothing_for_others_does_not_start() {
    let place = tempfile::tempdir().expect("a directory");
    let why = ContainerManager::start(&options(), place.path(), 0).expect_err("refused");
    let end = "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero";
    assert_eq!(why, format!("new static policy error: {end}"));
}
