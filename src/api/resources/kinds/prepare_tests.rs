//! What clients write and the server does not store, or stores differently.

use serde_json::{Value, json};

use super::tests::{created, object, row, updated};
use crate::status::FieldError;

#[test]
fn nodes_drop_what_nothing_reads_any_more_unless_it_is_stored() {
    let source = json!({"configMap": {"name": "c"}});
    let manifest = json!({"metadata": {"name": "n"}, "spec": {"configSource": source}, "status": {"config": {"error": "e"}}});
    let node = created("", "nodes", manifest.clone());
    assert_eq!((node.get(&["spec", "configSource"]), node.get(&["status", "config"])), (None, None));
    assert_eq!(updated("", "nodes", manifest.clone(), &node, "").get(&["spec", "configSource"]), None);
    assert_eq!(updated("", "nodes", manifest.clone(), &node, "status").get(&["status", "config"]), None);
    let stored = object(manifest.clone());
    assert_eq!(updated("", "nodes", manifest, &stored, "").get(&["spec", "configSource"]), Some(&source));
}

#[test]
fn a_slice_has_nodes_in_place_of_topology() {
    let slice = |endpoint: Value| json!({"addressType": "IPv4", "endpoints": [endpoint], "ports": []});
    let bare = created("discovery.k8s.io", "endpointslices", json!({"addressType": "IPv4", "endpoints": []}));
    assert_eq!(bare.into_value(), json!({"addressType": "IPv4", "endpoints": null, "ports": null}), "no list is empty");
    let topology = json!({"kubernetes.io/hostname": "n"});
    let new = created("discovery.k8s.io", "endpointslices", slice(json!({"addresses": ["10.0.0.1"], "deprecatedTopology": topology})));
    assert_eq!(new.list(&["endpoints"]), [json!({"addresses": ["10.0.0.1"]})]);
    let stored = object(slice(json!({"addresses": ["10.0.0.1"], "deprecatedTopology": topology})));
    let changed = slice(json!({"addresses": ["10.0.0.2"], "deprecatedTopology": topology}));
    let changed = updated("discovery.k8s.io", "endpointslices", changed, &stored, "");
    assert_eq!(changed.list(&["endpoints"]), [json!({"addresses": ["10.0.0.2"], "nodeName": "n"})]);
}

#[test]
fn an_account_keeps_the_names_of_its_secrets_only() {
    let account = created("", "serviceaccounts", json!({"secrets": [{"name": "s", "namespace": "elsewhere", "kind": "Secret"}]}));
    assert_eq!(account.list(&["secrets"]), [json!({"name": "s"})]);
}

#[test]
fn a_claim_is_filled_only_from_what_somebody_can_read() {
    let claim = |spec: Value| created("", "persistentvolumeclaims", json!({"spec": spec})).get(&["spec"]).cloned().expect("a spec");
    let pod = claim(json!({"dataSource": {"kind": "Pod", "name": "p"}}));
    assert_eq!((pod.get("dataSource"), pod.get("dataSourceRef")), (None, None));
    let other = claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "c"}}));
    assert_eq!(other["dataSourceRef"], json!({"kind": "PersistentVolumeClaim", "name": "c"}));
    let foreign = json!({"kind": "PersistentVolumeClaim", "name": "c", "namespace": "m"});
    let of_feature = claim(json!({ "dataSourceRef": foreign }));
    assert_eq!((of_feature.get("dataSource"), &of_feature["dataSourceRef"]), (None, &foreign));
}

#[test]
fn fields_of_features_that_are_off_are_dropped_unless_the_object_has_them() {
    let foreign = json!({"kind": "PersistentVolumeClaim", "name": "c", "namespace": "m"});
    for (group, plural, feature, spec, left) in [
        (
            "apps",
            "statefulsets",
            "MaxUnavailableStatefulSet",
            json!({"updateStrategy": {"rollingUpdate": {"partition": 1, "maxUnavailable": 2}}}),
            json!({"updateStrategy": {"rollingUpdate": {"partition": 1}}}),
        ),
        (
            "",
            "persistentvolumeclaims",
            "CrossNamespaceVolumeDataSource",
            json!({"volumeName": "v", "dataSourceRef": foreign}),
            json!({"volumeName": "v"}),
        ),
        (
            "coordination.k8s.io",
            "leases",
            "CoordinatedLeaderElection",
            json!({"strategy": "OldestEmulationVersion", "preferredHolder": "a", "holderIdentity": "b"}),
            json!({"holderIdentity": "b"}),
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            "HPAConfigurableTolerance",
            json!({"behavior": {"scaleUp": {"tolerance": "0.1"}, "scaleDown": {"tolerance": "0.2", "selectPolicy": "Max"}}}),
            json!({"behavior": {"scaleUp": {}, "scaleDown": {"selectPolicy": "Max"}}}),
        ),
    ] {
        let (row, asked, left) = (row(group, plural), object(json!({ "spec": spec })), object(json!({ "spec": left })));
        let settled = |old: Option<&crate::meta::Object>, is_off: bool| {
            let mut new = asked.clone();
            row.drop_disabled(&mut new, old, &|known| known != feature || !is_off);
            new
        };
        assert_eq!((settled(None, true), settled(Some(&left), true)), (left.clone(), left.clone()), "{plural}");
        assert_eq!((settled(None, false), settled(Some(&asked), true)), (asked.clone(), asked.clone()), "{plural}");
    }
}

#[test]
fn values_of_features_that_are_off_are_refused_unless_the_object_has_one() {
    let row = row("autoscaling", "horizontalpodautoscalers");
    let of = |least: i64| object(json!({"spec": {"minReplicas": least, "maxReplicas": 3}}));
    let said = |new: i64, old: Option<i64>, is_on: bool| {
        let mut errors = vec![FieldError::invalid("spec.minReplicas", new, "must be greater than or equal to 0")];
        errors.retain(|_| new < 0);
        row.judge_disabled(&mut errors, &of(new), old.map(of).as_ref(), &|feature| feature != "HPAScaleToZero" || is_on);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let too_few = |number: i64| vec![format!("spec.minReplicas: Invalid value: {number}: must be greater than or equal to 1")];
    assert_eq!((said(0, None, false), said(0, Some(1), false), said(1, None, false)), (too_few(0), too_few(0), vec![]));
    assert_eq!((said(0, None, true), said(0, Some(0), false)), (vec![], vec![]));
    assert_eq!(said(-1, None, false), too_few(-1), "one fault of a field");
    let mut errors = vec![FieldError::forbidden("metadata.name", "odd"), FieldError::forbidden("spec.metrics", "too few")];
    row.judge_disabled(&mut errors, &of(0), None, &|_| false);
    let fields: Vec<&str> = errors.iter().map(|error| &*error.field).collect();
    assert_eq!(fields, ["metadata.name", "spec.minReplicas", "spec.metrics"], "in upstream's order");
}

#[test]
fn a_volumes_nodes_change_with_their_feature_alone() {
    let row = row("", "persistentvolumes");
    let of = |zone: &str| {
        let requirement = json!({"key": "zone", "operator": "In", "values": [zone]});
        object(json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}}}))
    };
    let faults = |new: &str, old: Option<&str>, is_on: bool| {
        let mut errors = Vec::new();
        row.judge_disabled(&mut errors, &of(new), old.map(of).as_ref(), &|_| is_on);
        errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
    };
    assert_eq!((faults("b", Some("a"), false), faults("b", Some("a"), true)), (vec!["nodeAffinity".to_owned()], vec![]));
    assert_eq!((faults("a", None, false), faults("a", Some("a"), false)), (vec![], vec![]));
}

#[test]
fn drivers_that_must_be_there_need_their_feature() {
    let row = row("storage.k8s.io", "csidrivers");
    let settled = |asked: Value, old: Option<Value>, is_on: bool| {
        let mut new = object(json!({"spec": asked}));
        row.drop_disabled(&mut new, old.map(|spec| object(json!({"spec": spec}))).as_ref(), &|_| is_on);
        new.get(&["spec", "preventPodSchedulingIfMissing"]).cloned()
    };
    let set = json!({"preventPodSchedulingIfMissing": true});
    assert_eq!((settled(set.clone(), None, false), settled(set.clone(), Some(json!({})), false)), (None, None));
    assert_eq!((settled(set.clone(), Some(set.clone()), false), settled(set, None, true)), (Some(json!(true)), Some(json!(true))));
    assert_eq!((settled(json!({}), None, true), settled(json!({}), None, false)), (Some(json!(false)), None), "its default");
}

#[test]
fn a_volumes_phase_has_its_time() {
    let old = created("", "persistentvolumes", json!({"metadata": {"name": "v"}, "spec": {}}));
    let stamp = ["status", "lastPhaseTransitionTime"];
    let same = updated("", "persistentvolumes", json!({"metadata": {"name": "v"}, "spec": {}, "status": {"phase": "Pending"}}), &old, "status");
    assert_eq!(same.get(&stamp), old.get(&stamp));
    let mut earlier = old.clone();
    earlier.set(&stamp, "2020-01-01T00:00:00Z");
    let moved = updated("", "persistentvolumes", json!({"metadata": {"name": "v"}, "spec": {}, "status": {"phase": "Bound"}}), &earlier, "status");
    assert_eq!(moved.str(&stamp), "2026-01-01T01:00:00Z");
}

#[test]
fn a_services_port_on_the_nodes_goes_by_its_name() {
    let service = |kind: &str, ports: Value| json!({"spec": {"type": kind, "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ports": ports}});
    let old = created(
        "",
        "services",
        service("NodePort", json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}])),
    );
    let node_ports = |new: Value| {
        let new = updated("", "services", new, &old, "");
        new.list(&["spec", "ports"]).iter().map(|port| port.get("nodePort").cloned().unwrap_or_default()).collect::<Vec<_>>()
    };
    let renumbered = service("NodePort", json!([{"name": "a", "port": 90}, {"name": "c", "port": 81}]));
    assert_eq!(node_ports(renumbered), [json!(30080), Value::Null]);
    let swapped = service("NodePort", json!([{"name": "a", "port": 80, "nodePort": 30081}, {"name": "b", "port": 81}]));
    assert_eq!(node_ports(swapped), [json!(30081), Value::Null]);
    let inner = service("ClusterIP", json!([{"name": "a", "port": 80, "nodePort": 30080}]));
    assert_eq!(node_ports(inner), [Value::Null]);
    let chosen = service("ClusterIP", json!([{"name": "a", "port": 80, "nodePort": 30099}]));
    assert_eq!(node_ports(chosen), [json!(30099)], "a port that the client names is refused later, not dropped");
}

#[test]
fn a_service_that_becomes_a_name_lets_go_of_its_addresses() {
    let spec =
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
    let old = created("", "services", json!({"spec": spec}));
    let mut named = spec;
    named["type"] = json!("ExternalName");
    named["externalName"] = json!("a.b");
    named["internalTrafficPolicy"] = json!("Cluster");
    let named = updated("", "services", json!({"spec": named}), &old, "");
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
        assert_eq!(named.get(&["spec", field]), None, "{field}");
    }
}
