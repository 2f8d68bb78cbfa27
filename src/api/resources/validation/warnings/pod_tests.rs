use serde_json::json;

use super::{pod::pod, *};
use crate::meta::names;

fn said(path: &[&str], value: Value) -> Vec<String> {
    pod(path, value.as_object().expect("an object"))
}

fn of_containers(containers: Value) -> Vec<String> {
    said(&[], json!({"spec": {"containers": containers}}))
}

#[test]
fn variables_that_hide_each_other_are_told_unless_the_later_is_made_of_the_earlier() {
    let env = |second: Value| of_containers(json!([{"name": "a", "env": [{"name": "T", "value": "1"}, second]}]));
    let told = ["spec.containers[0].env[1]: hides previous definition of \"T\", which may be dropped when using apply"];
    assert_eq!(env(json!({"name": "T", "value": "2"})), told);
    assert_eq!(env(json!({"name": "T", "value": "$(T)"})), told);
    assert_eq!(env(json!({"name": "T", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})), told);
    assert_eq!(env(json!({"name": "T", "value": "$(T):2"})), [""; 0]);
}

#[test]
fn ports_that_get_in_each_others_way_are_told() {
    let tcp = |number: i64, rest: Value| {
        let mut port = json!({"containerPort": number, "protocol": "TCP"});
        port.as_object_mut().expect("an object").extend(rest.as_object().cloned().expect("an object"));
        port
    };
    let two = |first: Value, second: Value| of_containers(json!([{"name": "a", "ports": [first]}, {"name": "b", "ports": [second]}]));
    let with = "port definition with spec.containers[0].ports[0]";
    assert_eq!(two(tcp(80, json!({})), tcp(80, json!({}))), [format!("spec.containers[1].ports[0]: duplicate {with}")]);
    assert_eq!(two(tcp(80, json!({"hostPort": 80})), tcp(80, json!({}))), [format!("spec.containers[1].ports[0]: overlapping {with}")]);
    assert_eq!(
        two(tcp(80, json!({"hostPort": 80})), tcp(80, json!({"hostPort": 80, "hostIP": "10.0.0.1"}))),
        [format!("spec.containers[1].ports[0]: dangerously ambiguous {with}")]
    );
    assert_eq!(two(tcp(80, json!({"hostPort": 80})), tcp(80, json!({"hostPort": 81}))), [""; 0]);
    assert_eq!(
        two(tcp(80, json!({"name": "w"})), tcp(81, json!({"name": "w"}))),
        [
            "spec.containers[1].ports[0]: duplicate port name \"w\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"
        ]
    );
    assert_eq!(
        of_containers(json!([{"name": "a", "ports": [tcp(80, json!({"hostIP": "10.0.0.1"}))]}])),
        ["spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}"]
    );
}

#[test]
fn names_that_stand_twice_and_fields_of_old_are_told_where_the_template_stands() {
    let spec = json!({
        "hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}, {"ip": "010.0.0.2"}], "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
        "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "volumes": [{"name": "v", "gitRepo": {}}, {"name": "w", "storageos": {}}],
        "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}], "terminationGracePeriodSeconds": -1,
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "t"}]},
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"preference": {"matchExpressions": [
                {"key": "node-role.kubernetes.io/master", "operator": "In", "values": ["-"]}]}}]}},
        "dnsConfig": {"nameservers": ["fd00:0::1"]},
    });
    let metadata = json!({"annotations": {"scheduler.alpha.kubernetes.io/critical-pod": "", "seccomp.security.alpha.kubernetes.io/pod": "x"}});
    let at = |path: &str| format!("spec.template.spec.{path}");
    let labels = names::label_value("-").remove(0);
    let preference = "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0]";
    let null = "a null labelSelector results in matching no pod";
    assert_eq!(
        said(&["spec", "template"], json!({"metadata": metadata, "spec": spec})),
        [
            at("nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"),
            at(&format!("{preference}.key: node-role.kubernetes.io/master is use \"node-role.kubernetes.io/control-plane\" instead")),
            at(&format!("{preference}.values[0]: - is invalid, {labels}")),
            at("topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
            at(&format!("topologySpreadConstraints[0].labelSelector: {null}")),
            "spec.template.metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead".to_owned(),
            at("volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"),
            at("volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+"),
            at("hostAliases[1].ip: duplicate ip \"10.0.0.1\""),
            at("imagePullSecrets[1].name: duplicate name \"a\""),
            at("imagePullSecrets[2].name: invalid empty name \"\""),
            "spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead".to_owned(),
            at("terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"),
            at(&format!("affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: {null}")),
            at("dnsConfig.nameservers[0]: IPv6 address \"fd00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")"),
            at("hostAliases[2].ip: non-standard IP address \"010.0.0.2\" is invalid: use \"10.0.0.2\""),
        ]
    );
}

#[test]
fn files_in_each_others_place_are_told() {
    let item = |path: &str| json!({"key": "k", "path": path});
    let of = |volume: Value| said(&[], json!({"spec": {"volumes": [volume]}}));
    let items = json!([item("a/b"), item("a"), item("a/bc/"), item("a/bc"), item("d")]);
    let told = |body: &str| format!("volume \"v\" (ConfigMap \"c\"): overlapping paths: {body}");
    assert_eq!(
        of(json!({"name": "v", "configMap": {"name": "c", "items": items}})),
        [told("\"a\" with \"a/b\""), told("\"a/bc\" with \"a\""), told("\"a/bc\" with \"a\""), told("\"a/bc\" with \"a/bc\""),]
    );
    let sources = json!([{"secret": {"name": "s", "items": [item("t")]}}, {}, {"serviceAccountToken": {"path": "t"}}]);
    assert_eq!(
        of(json!({"name": "v", "projected": {"sources": sources}})),
        [
            "volume \"v\" (Projected) has no sources provided",
            "volume \"v\" (Projected): overlapping paths: \"t\" (ServiceAccountToken) with \"t\" (Secret \"s\")",
        ]
    );
}

#[test]
fn what_collides_with_everything_is_told_of_in_part_and_soon() {
    let ports: Vec<Value> = (0..50_000).map(|_| json!({"containerPort": 80, "protocol": "TCP"})).collect();
    let items: Vec<Value> = (0..50_000).map(|_| json!({"key": "k", "path": "a"})).collect();
    let apart: Vec<Value> = (0..50_000).map(|at| json!({"key": "k", "path": format!("a/{at}")})).collect();
    let begun = std::time::Instant::now();
    assert_eq!(of_containers(json!([{"name": "a", "ports": ports}])).len(), MOST);
    let of = |items: Vec<Value>| said(&[], json!({"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s", "items": items}}]}}));
    assert_eq!(of(items).len(), MOST);
    assert_eq!(of(apart), [""; 0]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it takes as long as it is to read");
}
