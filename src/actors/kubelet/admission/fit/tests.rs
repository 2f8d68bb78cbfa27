use super::*;

fn pod(name: &str, spec: &Value) -> Guest {
    let pod = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": spec})).expect("a pod");
    Guest { pod: Arc::new(pod), is_static: false }
}

fn asking(name: &str, requests: &Value) -> Guest {
    pod(name, &json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
}

fn with_port(name: &str, port: &Value) -> Guest {
    pod(name, &json!({"containers": [{"name": "c", "ports": [port]}]}))
}

fn fixed(guest: Guest) -> Guest {
    Guest { is_static: true, ..guest }
}

fn place(most_pods: i64, taints: &Value) -> Place {
    let node = json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}, "spec": {"taints": taints}, "status": {"allocatable":
        {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi", "pods": "110", "hugepages-2Mi": "0", "example.com/disk": "1"}}});
    let listeners = [6443, 10250].map(|port| HostPort { ip: "0.0.0.0".into(), protocol: "TCP".into(), port });
    let node = Arc::new(serde_json::from_value(node).expect("a node"));
    Place { node, most_pods, listeners: listeners.into(), compares_tolerations: false }
}

fn verdict(guest: &Guest, others: &[Guest]) -> Option<(String, String)> {
    fits(guest, others, &place(110, &json!([]))).err().map(|rejection| (rejection.reason.into_owned(), rejection.message))
}

fn rejected(guest: &Guest, others: &[Guest]) -> (String, String) {
    verdict(guest, others).expect("a rejection")
}

const PORTS: &str = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

#[test]
fn a_pod_that_asks_for_more_than_is_left_is_refused() {
    let other = asking("other", &json!({"cpu": "1500m", "memory": "3Gi"}));
    let (reason, message) = rejected(&asking("p", &json!({"memory": "2Gi"})), std::slice::from_ref(&other));
    assert_eq!(reason, "OutOfmemory");
    assert_eq!(message, "Node didn't have enough resource: memory, requested: 2147483648, used: 3221225472, capacity: 4294967296");
    let (reason, message) = rejected(&asking("p", &json!({"cpu": "1000"})), std::slice::from_ref(&other));
    assert_eq!((reason.as_str(), message.ends_with("cpu, requested: 1000000, used: 1500, capacity: 2000")), ("OutOfcpu", true));
    assert_eq!(rejected(&asking("p", &json!({"ephemeral-storage": "100Ti"})), &[]).0, "OutOfephemeral-storage");
    assert_eq!(rejected(&asking("p", &json!({"example.com/disk": "2"})), &[]).0, "OutOfexample.com/disk");
    assert_eq!(rejected(&asking("p", &json!({"hugepages-2Mi": "2Mi"})), &[]).0, "OutOfhugepages-2Mi");
    assert_eq!(verdict(&asking("p", &json!({"cpu": "500m", "memory": "1Gi"})), &[other]), None);
    assert_eq!(verdict(&asking("p", &json!({"example.com/gpu": "4"})), &[]), None, "what no node lists may be the cluster's");
}

#[test]
fn the_largest_numbers_are_too_much_and_no_more() {
    for (name, amount) in [("memory", "9223372036854775807"), ("memory", "7Ei"), ("cpu", "9223372036854775807"), ("cpu", "1e18")] {
        let huge = asking("huge", &json!({ name: amount }));
        assert_eq!(rejected(&huge, &[]).0, format!("OutOf{name}"));
        let crowd = [huge.clone(), asking("more", &json!({ name: amount })), asking("most", &json!({ name: amount }))];
        assert_eq!(rejected(&asking("p", &json!({ name: "1" })), &crowd).0, format!("OutOf{name}"));
    }
}

#[test]
fn no_more_pods_than_the_node_takes_are_let_in() {
    let one = asking("one", &json!({}));
    let full = place(1, &json!([]));
    let rejection = fits(&asking("p", &json!({})), std::slice::from_ref(&one), &full).expect_err("it is full");
    assert_eq!(
        (&*rejection.reason, rejection.message.as_str()),
        ("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1")
    );
    assert_eq!(fits(&fixed(asking("p", &json!({}))), &[one], &full), Ok(()), "a static pod is more important");
}

#[test]
fn less_important_pods_do_not_keep_critical_ones_out() {
    let greedy = asking("greedy", &json!({"memory": "4Gi"}));
    let critical = pod("critical", &json!({"priority": 2_000_000_000, "containers": [{"name": "c", "resources": {"requests": {"memory": "3Gi"}}}]}));
    assert_eq!(verdict(&critical, std::slice::from_ref(&greedy)), None);
    assert_eq!(rejected(&fixed(asking("s", &json!({"memory": "2Gi"}))), &[greedy, critical]).0, "OutOfmemory");
    assert_eq!(rejected(&fixed(asking("s", &json!({"memory": "100Gi"}))), &[]).0, "OutOfmemory", "none is larger than the node");
}

#[test]
fn a_pod_of_another_kind_of_node_is_refused() {
    let selecting = |labels: Value| pod("p", &json!({"nodeSelector": labels, "containers": [{"name": "c"}]}));
    let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(rejected(&selecting(json!({"disk": "tape"})), &[]), ("NodeAffinity".into(), message.into()));
    assert_eq!(verdict(&selecting(json!({"disk": "ssd"})), &[]), None);
    let terms = json!([{"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}]);
    let required = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    assert_eq!(rejected(&pod("p", &json!({"affinity": required, "containers": [{"name": "c"}]})), &[]).0, "NodeAffinity");
}

#[test]
fn ports_of_other_pods_and_of_the_daemons_are_taken() {
    let other = with_port("other", &json!({"containerPort": 80, "hostPort": 8080}));
    let wants = |port: Value| with_port("p", &port);
    assert_eq!(rejected(&wants(json!({"containerPort": 1, "hostPort": 8080})), std::slice::from_ref(&other)), ("NodePorts".into(), PORTS.into()));
    assert_eq!(verdict(&wants(json!({"containerPort": 1, "hostPort": 8080, "protocol": "UDP"})), &[other]), None);
    for port in [6443, 10250] {
        assert_eq!(rejected(&wants(json!({"containerPort": 1, "hostPort": port})), &[]), ("NodePorts".into(), PORTS.into()));
        let narrow = wants(json!({"containerPort": 1, "hostPort": port, "hostIP": "192.0.2.1"}));
        assert_eq!(rejected(&narrow, &[]).0, "NodePorts");
        assert_eq!(verdict(&wants(json!({"containerPort": port})), &[]), None, "a port of its own address");
    }
    let beside_tunnel = Place { listeners: vec![super::super::listening::tunnel()], ..place(110, &json!([])) };
    for (protocol, reason) in [("UDP", Some("NodePorts")), ("TCP", None)] {
        let guest = wants(json!({"containerPort": 1, "hostPort": 8472, "protocol": protocol, "hostIP": "192.0.2.1"}));
        let refused = fits(&guest, &[], &beside_tunnel).err().map(|rejection| rejection.reason);
        assert_eq!(refused.as_deref(), reason);
    }
    let on_host = pod("p", &json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 6443, "hostPort": 6443}]}]}));
    assert_eq!(rejected(&fixed(on_host), &[]).0, "NodePorts");
}

#[test]
fn only_taints_that_end_pods_refuse_them() {
    let on =
        |guest: &Guest, effect: &str| fits(guest, &[], &place(9, &json!([{"key": "k", "effect": effect}]))).map_err(|rejection| rejection.message);
    let plain = asking("p", &json!({}));
    let message = "Predicate TaintToleration failed: node(s) had taints that the pod doesn't tolerate";
    assert_eq!(on(&plain, "NoExecute"), Err(message.into()));
    assert_eq!(on(&plain, "NoSchedule"), Ok(()));
    assert_eq!(on(&fixed(plain), "NoExecute"), Ok(()));
    let tolerant = pod("p", &json!({"tolerations": [{"operator": "Exists"}], "containers": [{"name": "c"}]}));
    assert_eq!(on(&tolerant, "NoExecute"), Ok(()));
}

#[test]
fn tolerations_that_compare_count_where_they_may() {
    let tolerations = json!([{"key": "sla", "operator": "Gt", "value": "950"}]);
    let guest = pod("p", &json!({"tolerations": tolerations, "containers": [{"name": "c"}]}));
    let is_let_in = |value: &str, compares_tolerations: bool| {
        let taints = json!([{"key": "sla", "value": value, "effect": "NoExecute"}]);
        fits(&guest, &[], &Place { compares_tolerations, ..place(9, &taints) }).is_ok()
    };
    assert_eq!((is_let_in("990", true), is_let_in("950", true), is_let_in("990", false)), (true, false, false));
}

#[test]
fn reasons_that_pods_make_up_are_counted_as_one() {
    let counts = ["OutOfmemory", "NodePorts", "OutOfexample.com/x", "OutOfhugepages-7Ki"].map(counted);
    assert_eq!(counts, ["OutOfmemory", "NodePorts", "OutOfExtendedResources", "OutOfExtendedResources"]);
}

#[test]
fn only_what_is_new_has_to_find_a_place() {
    let with = |status: Value, meta: Value| -> Pod { serde_json::from_value(json!({"metadata": meta, "status": status})).expect("a pod") };
    let new = with(json!({"phase": "Pending"}), json!({"uid": "u", "generation": 2}));
    assert!(needs_place(&new) && !was_refused(&new));
    let started = json!({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"});
    assert!(!needs_place(&with(started, json!({}))), "it was let in before the kubelet was started again");
    let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert!(!needs_place(&with(json!({"phase": "Pending"}), deleted.clone())));
    for reason in ["OutOfpods", "OutOfmemory", "NodeAffinity", "NodePorts"] {
        let refused = refusal(&new, &Rejection::new(reason, "no"))["status"].clone();
        assert_eq!((&refused["message"], &refused["observedGeneration"]), (&json!("Pod was rejected: no"), &json!(2)));
        let after = with(refused.clone(), json!({}));
        assert!(was_refused(&after) && !needs_place(&after));
        assert!(!was_refused(&with(refused, deleted.clone())), "its deletion is to be finished");
    }
    assert!(!was_refused(&with(json!({"phase": "Failed", "reason": "Evicted"}), json!({}))), "there may be remains");
}
