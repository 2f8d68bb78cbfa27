//! From a sample to what is read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use troupe_api::{metrics::parse::Samples, node_pressure::NodePressure};
use troupe_cri::{FakeRuntime, names::PodIdentity};

use super::{
    cgroup::{CgroupUsage, DiskUsage, Swap},
    detail::Detail,
    interfaces::{Direction, Traffic},
    *,
};
use crate::kubelet::csi::stats::VolumeUsage;

pub(super) fn sample() -> Sample {
    let usage = |name: &str, cpu: u64, memory: Option<u64>| ContainerUsage {
        name: name.into(),
        id: format!("id-{name}"),
        image: "busybox".into(),
        created_at: 1_700_000_000_000_000_000,
        cpu_nanoseconds: Some(cpu),
        working_set: memory,
        ..ContainerUsage::default()
    };
    let id = PodIdentity { namespace: "ns".into(), name: "web".into(), uid: "u1".into() };
    let pods = BTreeMap::from([(id, vec![usage("a", 1_500_000_000, Some(4096)), usage("b", 500_000_000, None)])]);
    let node = NodeUsage { cpus: 2, memory_bytes: 1000, cpu_nanoseconds: 7_000_000_000, booted: 1_600_000_000, ..NodeUsage::default() };
    Sample { taken: Timestamp::from_second(1_700_000_100).expect("a time"), node, pods }
}

fn parse(text: &[u8]) -> Samples {
    Samples::parse(std::str::from_utf8(text).expect("text")).expect("parses")
}

#[test]
fn metrics_servers_read_containers_pods_and_the_node() {
    let swap = Swap { used: 7, limit: Some(0) };
    let swaps = Swaps { containers: BTreeMap::from([("id-a".to_owned(), swap)]), pods: BTreeMap::from([("u1".to_owned(), 8)]) };
    let samples = parse(&resource(Some(&sample()), &swaps, NodePressure::default()));
    let container = [("container", "a"), ("namespace", "ns"), ("pod", "web")];
    assert_eq!(samples.value("container_cpu_usage_seconds_total", &container), Some(1.5));
    assert_eq!(samples.value("container_memory_working_set_bytes", &container), Some(4096.0));
    assert_eq!(samples.value("container_start_time_seconds", &container), Some(1_700_000_000.0));
    assert_eq!(samples.value("container_swap_usage_bytes", &container), Some(7.0));
    assert_eq!(samples.value("container_swap_limit_bytes", &container), Some(0.0), "it must not swap");
    assert_eq!(samples.value("pod_swap_usage_bytes", &[("pod", "web")]), Some(8.0));
    assert_eq!(samples.value("pod_cpu_usage_seconds_total", &[("pod", "web")]), Some(2.0));
    assert_eq!(samples.value("pod_memory_working_set_bytes", &[("pod", "web")]), Some(4096.0), "what is not known counts as nothing");
    assert_eq!(samples.value("node_cpu_usage_seconds_total", &[]), Some(7.0));
    assert_eq!(samples.value("resource_scrape_error", &[]), Some(0.0));
    assert!(!samples.types.contains_key("troupe_node_pressure_percent"), "nobody else expects it there");
    let without = parse(&resource(None, &Swaps::default(), NodePressure::default()));
    assert_eq!(without.value("resource_scrape_error", &[]), Some(1.0));
}

#[test]
fn what_the_nodes_tasks_waited_for_is_told_as_far_as_it_is_known() {
    let pressure = NodePressure { cpu: Some(1250), memory: None, io: Some(5) };
    let samples = parse(&resource(Some(&sample()), &Swaps::default(), pressure));
    let percent = |resource: &str, tasks: &str| samples.value("troupe_node_pressure_percent", &[("resource", resource), ("tasks", tasks)]);
    assert_eq!((percent("cpu", "some"), percent("memory", "some"), percent("io", "full")), (Some(12.5), None, Some(0.05)));
    assert_eq!(samples.value("node_cpu_usage_seconds_total", &[]), Some(7.0));
}

#[test]
fn cadvisors_names_and_labels_stand_for_what_cgroups_tell() {
    let usage = CgroupUsage {
        cpu: Some(1_500_000_000),
        quota: Some(50_000),
        throttled: Some(2_000_000_000),
        memory: Some(1000),
        inactive_file: Some(200),
        page_faults: Some(7),
        disks: BTreeMap::from([("999:0".to_owned(), DiskUsage { read_bytes: 4096, ..DiskUsage::default() })]),
        ..CgroupUsage::default()
    };
    let received = Direction { bytes: 77, ..Direction::default() };
    let details = [
        Detail { id: "/kubepods/podu1/id-a".into(), container: "a".into(), image: "busybox".into(), pod: "web".into(), usage, ..Detail::default() },
        Detail {
            id: "/kubepods/podu1/box".into(),
            pod: "web".into(),
            interfaces: BTreeMap::from([("eth0".to_owned(), Traffic { received, ..Traffic::default() })]),
            ..Detail::default()
        },
    ];
    let samples = parse(&cadvisor(&sample(), &details));
    let container = [("id", "/kubepods/podu1/id-a"), ("image", "busybox"), ("container", "a"), ("pod", "web")];
    let with = |more: (&'static str, &'static str)| [&container[..], &[more]].concat();
    assert_eq!(samples.value("container_cpu_usage_seconds_total", &with(("cpu", "total"))), Some(1.5));
    assert_eq!(samples.value("container_cpu_cfs_throttled_seconds_total", &container), Some(2.0));
    assert_eq!(samples.value("container_memory_working_set_bytes", &container), Some(800.0));
    assert_eq!(samples.value("container_memory_failures_total", &with(("failure_type", "pgfault"))), Some(7.0));
    assert_eq!(samples.value("container_fs_reads_bytes_total", &with(("device", "999:0"))), Some(4096.0));
    assert_eq!(samples.value("container_network_receive_bytes_total", &[("interface", "eth0"), ("pod", "web")]), Some(77.0));
    assert_eq!(samples.value("container_last_seen", &container), Some(1_700_000_100.0));
    assert_eq!(samples.value("container_cpu_cfs_periods_total", &container), None, "it was not told");
    assert_eq!(samples.value("machine_cpu_cores", &[]), Some(2.0));
}

#[test]
fn the_summary_sums_containers_up_and_leaves_out_what_is_not_known() {
    let usage = VolumeUsage { volume: "data".into(), used_bytes: Some(7), ..VolumeUsage::default() };
    let volumes = PodVolumes::from([("u1".into(), vec![PodVolume { claim: Some(("ns".into(), "c".into())), usage }])]);
    let logs = PodLogs::from([("u1".into(), BTreeMap::from([("a".into(), (100, 2))]))]);
    let rates = Rates::new();
    let known = Known { volumes: &volumes, logs: &logs, details: &[], pods: "kubepods", kubelet: None, rates: &rates, images: None };
    let summary = summary("n1", &sample(), known);
    assert_eq!(summary["node"]["nodeName"], "n1");
    assert_eq!((&summary["pods"][0]["containers"][0]["logs"]["usedBytes"], summary["node"].get("systemContainers")), (&serde_json::json!(100), None));
    assert_eq!(summary["pods"][0]["ephemeral-storage"]["usedBytes"], 100);
    let pod = &summary["pods"][0];
    let time = &pod["cpu"]["time"];
    let volume = serde_json::json!([{"name": "data", "time": time, "usedBytes": 7, "pvcRef": {"name": "c", "namespace": "ns"}}]);
    assert_eq!(pod["volume"], volume);
    assert_eq!(pod["podRef"]["uid"], "u1");
    assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 2_000_000_000_u64);
    assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 4096);
    assert!(pod["containers"][1]["memory"].get("workingSetBytes").is_none());
    assert_eq!(pod["startTime"], "2023-11-14T22:13:20Z");
}

#[test]
fn the_summary_tells_what_cgroups_and_networks_do() {
    let pressure = "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
    let io = super::pressure::Pressure::parse(pressure);
    let usage = CgroupUsage {
        memory: Some(1000),
        inactive_file: Some(200),
        memory_limit: Some(2000),
        swap: Some(11),
        swap_limit: Some(u64::MAX),
        processes: 2,
        pressures: super::pressure::Pressures { io, ..Default::default() },
        ..CgroupUsage::default()
    };
    let detail = |id: &str, name: &str, container: &str, interfaces| Detail {
        id: id.into(),
        name: name.into(),
        container: container.into(),
        namespace: if id == "/kubepods" { String::new() } else { "ns".into() },
        pod: if id == "/kubepods" { String::new() } else { "web".into() },
        usage: usage.clone(),
        interfaces,
        ..Detail::default()
    };
    let traffic = Traffic { received: Direction { bytes: 77, ..Direction::default() }, ..Traffic::default() };
    let details = [
        Detail {
            id: "/system.slice/troupe.service".into(),
            usage: CgroupUsage { cpu: Some(1_500_000_000), ..CgroupUsage::default() },
            ..Detail::default()
        },
        detail("/kubepods", "", "", BTreeMap::new()),
        detail("/kubepods/podu1", "", "", BTreeMap::new()),
        detail("/kubepods/podu1/a", "id-a", "a", BTreeMap::new()),
        detail("/kubepods/podu1/box", "box", "", BTreeMap::from([("eth0".to_owned(), traffic)])),
    ];
    let (volumes, logs, rates) = (PodVolumes::new(), PodLogs::new(), Rates::new());
    let kubelet = Some("/system.slice/troupe.service");
    let known = Known { volumes: &volumes, logs: &logs, details: &details, pods: "kubepods", kubelet, rates: &rates, images: None };
    let earlier = Timestamp::from_second(1_700_000_090).expect("a time");
    rates.look("/", earlier, 5_000_000_000);
    rates.look("/system.slice/troupe.service", earlier, 1_000_000_000);
    let summary = summary("n1", &sample(), known);
    assert_eq!(summary["node"]["cpu"]["usageNanoCores"], 200_000_000);
    let own = &summary["node"]["systemContainers"][0];
    assert_eq!((&own["name"], &own["cpu"]["usageNanoCores"]), (&serde_json::json!("kubelet"), &serde_json::json!(50_000_000)));
    let (pod, system) = (&summary["pods"][0], &summary["node"]["systemContainers"][1]);
    assert_eq!((&system["name"], &system["memory"]["availableBytes"]), (&serde_json::json!("pods"), &serde_json::json!(1200)));
    assert_eq!((&pod["network"]["name"], &pod["network"]["rxBytes"]), (&serde_json::json!("eth0"), &serde_json::json!(77)));
    assert_eq!(pod["network"]["interfaces"][0]["rxBytes"], 77);
    assert_eq!((&pod["process_stats"]["process_count"], &pod["swap"]["swapUsageBytes"]), (&serde_json::json!(6), &serde_json::json!(11)));
    assert!(pod["swap"].get("swapAvailableBytes").is_none(), "it has no limit");
    assert_eq!(pod["io"]["psi"]["some"], serde_json::json!({"total": 5, "avg10": 1.0, "avg60": 0.0, "avg300": 0.0}));
    let container = &pod["containers"][0];
    assert_eq!(
        (&container["memory"]["workingSetBytes"], &container["memory"]["availableBytes"]),
        (&serde_json::json!(4096), &serde_json::json!(1200))
    );
    assert!(container.get("logs").is_none() && container["rootfs"].get("capacityBytes").is_some());
}

#[tokio::test]
async fn a_runtime_without_containers_still_tells_of_the_node() {
    let sample = Sample::take(&FakeRuntime::default()).await.expect("it answers");
    assert!(sample.pods.is_empty());
    assert!(sample.node.cpus > 0 && sample.node.cpu_nanoseconds > 0 && sample.node.working_set() > 0);
}
