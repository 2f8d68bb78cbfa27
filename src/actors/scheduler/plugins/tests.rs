use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::default_profile;
use crate::scheduler::{
    decide::{Decision, SchedulingContext, decide},
    object_lookup::NoObjects,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

fn node(name: &str, spec: Value) -> Arc<Node> {
    let allocatable = json!({"cpu": "2", "memory": "4Gi", "pods": "10"});
    let labels = json!({"disk": "ssd", "size": "3"});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}))
            .expect("a node"),
    )
}

fn pod(name: &str, spec: Value) -> PodInfo {
    let mut object = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}});
    for (key, value) in spec.as_object().expect("an object") {
        object["spec"][key] = value.clone();
    }
    PodInfo::new(Arc::new(serde_json::from_value::<Pod>(object).expect("a pod")), &NoObjects)
}

fn requesting(name: &str, cpu: &str, memory: &str) -> PodInfo {
    pod(name, json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
}

fn place(snapshot: &Snapshot, pod: &PodInfo) -> Result<String, String> {
    let (profile, budgets) = (default_profile(), &|| Vec::new());
    let context = SchedulingContext { profile: &profile, cluster: snapshot, start: 0, chance: 0, budgets, ranked: &|_| () };
    match decide(pod, &context).0 {
        Decision::Bind { node } => Ok(node.to_string()),
        Decision::Unschedulable(unschedulable) => Err(unschedulable.message),
        Decision::Failed(why) => Err(why),
    }
}

/// The message where one node rejects a pod, whatever pods go.
fn unresolvable(reason: &str) -> String {
    format!("0/1 nodes are available: 1 {reason}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
}

/// The message where no pod of the one node is less important.
fn without_victims(reason: &str) -> String {
    format!("0/1 nodes are available: 1 {reason}. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
}

fn cluster(nodes: Vec<Arc<Node>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.into_iter().for_each(|node| snapshot.set_node(node));
    snapshot
}

#[test]
fn a_pod_goes_to_the_emptier_node() {
    let mut snapshot = cluster(vec![node("a", json!({})), node("b", json!({}))]);
    snapshot.set_pod("a", &requesting("x", "1", "1Gi").pod);
    assert_eq!(place(&snapshot, &requesting("y", "500m", "512Mi")), Ok("b".into()));
}

#[test]
fn filters_are_counted_until_one_rejects_the_node() {
    let snapshot = cluster(vec![node("a", json!({})), node("b", json!({"unschedulable": true}))]);
    let (profile, pod) = (default_profile(), requesting("x", "1", "1Gi"));
    let Ok((filters, _)) = profile.pre_filter(&pod, &snapshot) else { panic!("nobody refuses all nodes") };
    assert_eq!(snapshot.nodes().iter().filter(|node| filters.ask(node).is_ok()).count(), 1);
    let asked: BTreeMap<&str, u64> = filters.take_asked().collect();
    assert_eq!((asked["NodeUnschedulable"], asked["NodeResourcesFit"]), (2, 1));
    assert!(filters.take_asked().all(|(_, times)| times == 0), "they were told");
}

#[test]
fn the_event_counts_nodes_by_reason() {
    let taint = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    let mut snapshot = cluster(vec![node("a", json!({})), node("b", taint), node("c", json!({"unschedulable": true}))]);
    snapshot.set_pod("a", &requesting("x", "1500m", "1Gi").pod);
    let message = place(&snapshot, &requesting("y", "1", "8Gi")).expect_err("fits nowhere");
    assert_eq!(
        message,
        "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    assert_eq!(place(&cluster(vec![]), &pod("z", json!({}))), Err("no nodes available to schedule pods".into()));
}

#[test]
fn tolerations_open_tainted_and_cordoned_nodes() {
    let snapshot = cluster(vec![node("a", json!({"unschedulable": true, "taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}))]);
    assert!(place(&snapshot, &pod("p", json!({}))).is_err());
    let half = json!({"tolerations": [{"key": "k", "value": "v"}]});
    assert_eq!(place(&snapshot, &pod("p", half)), Err(unresolvable("node(s) were unschedulable")));
    assert_eq!(place(&snapshot, &pod("p", json!({"tolerations": [{"operator": "Exists"}]}))), Ok("a".into()));
}

#[test]
fn node_selectors_and_affinity_choose_nodes() {
    let snapshot = cluster(vec![node("a", json!({}))]);
    let affinity =
        |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
    for (spec, fits) in [
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (json!({"nodeSelector": {"disk": "hdd"}}), false),
        (affinity(json!({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["2"]}]})), true),
        (affinity(json!({"matchExpressions": [{"key": "size", "operator": "Lt", "values": ["3"]}]})), false),
        (affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]})), true),
        (affinity(json!({"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["x"]}]})), true),
        (affinity(json!({})), false),
    ] {
        assert_eq!(place(&snapshot, &pod("p", spec.clone())).is_ok(), fits, "{spec}");
    }
}

#[test]
fn preferred_affinity_wins_among_equal_nodes() {
    let snapshot = cluster(vec![node("a", json!({})), node("b", json!({}))]);
    let preference = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]});
    let spec = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "preference": preference}]}}});
    assert_eq!(place(&snapshot, &pod("p", spec)), Ok("b".into()));
}

#[test]
fn pods_go_where_the_features_that_they_need_are_declared() {
    let able = |name: &str, features: Value| {
        let mut able = Node::clone(&node(name, json!({})));
        able.status.as_mut().expect("a status").declared_features = serde_json::from_value(features).expect("names");
        Arc::new(able)
    };
    let container = json!({"name": "c", "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]});
    let restarts = pod("p", json!({"containers": [container]}));
    let initial = pod("p", json!({"initContainers": [container]}));
    let plain_rule = pod("p", json!({"containers": [{"name": "c", "restartPolicyRules": [{"action": "Restart"}]}]}));
    let mapped = pod("p", json!({"hostNetwork": true, "hostUsers": false}));
    let none = cluster(vec![able("a", json!(["InPlacePodVerticalScalingInitContainers"]))]);
    for needy in [&restarts, &initial, &mapped] {
        assert_eq!(place(&none, needy), Err(unresolvable("node(s) didn't match Pod's required features")));
    }
    assert_eq!(place(&none, &plain_rule), Ok("a".into()));
    let both = cluster(vec![able("a", json!(null)), able("b", json!(["Other", "RestartAllContainersOnContainerExits"]))]);
    for needy in [&restarts, &initial] {
        assert_eq!(place(&both, needy), Ok("b".into()));
    }
    assert!(place(&both, &mapped).is_err());
}

#[test]
fn a_host_port_is_given_once_per_address() {
    let port = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": ip}]}]});
    let mut snapshot = cluster(vec![node("a", json!({}))]);
    snapshot.set_pod("a", &pod("x", port("127.0.0.1")).pod);
    assert!(place(&snapshot, &pod("y", port("127.0.0.2"))).is_ok());
    for ip in ["127.0.0.1", ""] {
        assert_eq!(place(&snapshot, &pod("y", port(ip))), Err(without_victims("node(s) didn't have free ports for the requested pod ports")));
    }
}

#[test]
fn a_node_takes_no_more_pods_than_it_says() {
    let mut snapshot = cluster(vec![node("a", json!({}))]);
    for number in 0..10 {
        snapshot.set_pod("a", &pod(&format!("p{number}"), json!({})).pod);
    }
    assert_eq!(place(&snapshot, &pod("y", json!({}))), Err(without_victims("Too many pods")));
    snapshot.remove_pod(pod("p3", json!({})).key());
    assert!(place(&snapshot, &pod("y", json!({}))).is_ok());
}

#[test]
fn init_containers_count_by_their_peak_and_sidecars_always() {
    let requests = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let spec = json!({
        "containers": [{"name": "c", "resources": requests("200m")}],
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": requests("100m")},
            {"name": "i", "resources": requests("500m")},
        ],
    });
    assert_eq!(pod("p", spec).demand().requests.cpu, 600);
}

#[test]
fn removing_and_returning_a_node_keeps_its_pods_counted() {
    let mut snapshot = cluster(vec![node("a", json!({})), node("b", json!({}))]);
    snapshot.set_pod("a", &requesting("x", "1", "1Gi").pod);
    snapshot.remove_node("a");
    assert_eq!(snapshot.nodes().len(), 1);
    snapshot.set_node(node("a", json!({})));
    assert_eq!(snapshot.node("a").expect("is back").requested.cpu, 1000);
}
