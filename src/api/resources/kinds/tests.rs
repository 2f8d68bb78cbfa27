use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    meta::{Clock, GroupVersion, Object, Revision, request::UserInfo},
    resources::{ColumnType, Registry, Resource, WriteContext, builtin},
    stored::encode_for_store,
};

#[derive(Debug)]
pub(super) struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        "2026-01-01T01:00:00Z".parse().expect("a time")
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

pub(super) fn object(value: Value) -> Object {
    Object::from_value(value).expect("a JSON object")
}

pub(super) fn row(group: &str, plural: &str) -> std::sync::Arc<Resource> {
    Registry::new(builtin()).by_resource(group, plural).expect("a row")
}

fn user() -> UserInfo {
    UserInfo { name: "jane".into(), uid: String::new(), groups: vec!["system:authenticated".into()], extra: Default::default() }
}

fn defaulted(group: &str, plural: &str, manifest: Value) -> Value {
    let mut object = object(manifest);
    row(group, plural).strategy.default_object(&mut object);
    let once = object.clone();
    row(group, plural).strategy.default_object(&mut object);
    assert_eq!(once, object, "defaulting twice changes nothing");
    object.into_value()
}

pub(super) fn created(group: &str, plural: &str, manifest: Value) -> Object {
    let mut object = object(defaulted(group, plural, manifest));
    let user = user();
    let context = WriteContext { user: &user, clock: &FixedClock, subresource: "" };
    row(group, plural).strategy.prepare_create(&mut object, &context);
    object
}

pub(super) fn updated(group: &str, plural: &str, new: Value, old: &Object, subresource: &str) -> Object {
    let mut new = object(defaulted(group, plural, new));
    let user = user();
    let context = WriteContext { user: &user, clock: &FixedClock, subresource };
    row(group, plural).strategy.prepare_update(&mut new, old, &context);
    new
}

fn container() -> Value {
    json!({"name": "c", "image": "nginx:1", "ports": [{"containerPort": 80}]})
}

fn full_container() -> Value {
    json!({
        "name": "c", "image": "nginx:1", "imagePullPolicy": "IfNotPresent", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    })
}

fn full_template(labels: Value) -> Value {
    json!({
        "metadata": {"labels": labels},
        "spec": {
            "containers": [full_container()], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
        },
    })
}

#[test]
fn lists_and_times_that_go_writes_although_nothing_is_said_of_them_are_null() {
    let states = json!({"name": "c", "state": {"terminated": {"exitCode": 137}}, "lastState": {"running": {}}});
    let condition = || json!({"type": "Ready", "status": "True"});
    let status = json!({"conditions": [condition()], "containerStatuses": [states]});
    let pod = defaulted("", "pods", json!({"spec": {"containers": [container()]}, "status": status}));
    let told = json!({"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null});
    let terminated = json!({"exitCode": 137, "startedAt": null, "finishedAt": null});
    let states = json!({"name": "c", "state": {"terminated": terminated}, "lastState": {"running": {"startedAt": null}}});
    assert_eq!(pod["status"], json!({"conditions": [told], "containerStatuses": [states]}));
    let claim = defaulted("", "persistentvolumeclaims", json!({"status": {"conditions": [condition()]}}));
    assert_eq!(claim["status"], json!({"phase": "Pending", "conditions": [told]}));
    let slice = defaulted("discovery.k8s.io", "endpointslices", json!({"addressType": "IPv4"}));
    assert_eq!(slice, json!({"addressType": "IPv4", "endpoints": null, "ports": null}));
    let autoscaler = defaulted("autoscaling", "horizontalpodautoscalers", json!({"status": {"desiredReplicas": 1}}));
    assert_eq!(autoscaler["status"], json!({"desiredReplicas": 1, "currentMetrics": null}));
}

#[test]
fn defaulted_manifests_equal_what_upstream_returns() {
    let template = || json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()]}});
    let selector = || json!({"matchLabels": {"a": "b"}});
    let cases = [
        (
            ("apps", "deployments"),
            json!({"metadata": {"name": "d"}, "spec": {"selector": selector(), "template": template()}}),
            json!({"metadata": {"name": "d"}, "spec": {
                "replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10, "selector": selector(), "template": full_template(json!({"a": "b"})),
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            }}),
        ),
        (
            ("apps", "daemonsets"),
            json!({"metadata": {"name": "d"}, "spec": {"selector": selector(), "template": template()}}),
            json!({"metadata": {"name": "d", "annotations": {"deprecated.daemonset.template.generation": "0"}}, "spec": {
                "revisionHistoryLimit": 10, "selector": selector(), "template": full_template(json!({"a": "b"})),
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            }}),
        ),
        (
            ("", "services"),
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
            json!({"metadata": {"name": "s"}, "spec": {
                "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "selector": {"a": "b"}, "sessionAffinity": "None", "type": "ClusterIP",
            }}),
        ),
        (
            ("", "secrets"),
            json!({"metadata": {"name": "s"}, "stringData": {"k": "value"}}),
            json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"k": "dmFsdWU="}}),
        ),
        (
            ("", "namespaces"),
            json!({"metadata": {"name": "blue"}}),
            json!({"metadata": {"name": "blue", "labels": {"kubernetes.io/metadata.name": "blue"}}}),
        ),
        (
            ("rbac.authorization.k8s.io", "rolebindings"),
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        ),
        (
            ("networking.k8s.io", "networkpolicies"),
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}}),
        ),
        (
            ("autoscaling", "horizontalpodautoscalers"),
            json!({"spec": {"maxReplicas": 3, "metrics": []}}),
            json!({"spec": {"maxReplicas": 3, "minReplicas": 1, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
        ),
    ];
    for ((group, plural), manifest, want) in cases {
        assert_eq!(defaulted(group, plural, manifest), want, "{plural}");
    }
}

#[test]
fn a_new_object_starts_with_the_status_of_its_kind() {
    assert_eq!(created("", "namespaces", json!({"metadata": {"name": "n"}})).str(&["status", "phase"]), "Active");
    assert_eq!(created("", "persistentvolumeclaims", json!({"spec": {}, "status": {"phase": "Bound"}})).str(&["status", "phase"]), "Pending");
    let deployment = created("apps", "deployments", json!({"spec": {}, "status": {"replicas": 3}}));
    assert_eq!(deployment.get(&["status"]), Some(&json!({})));
    let node = created("", "nodes", json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}}));
    assert_eq!(node.str(&["status", "allocatable", "cpu"]), "2");
}

#[test]
fn what_was_stored_without_divisors_is_read_with_them() {
    let read = |reference: Value| {
        let containers = json!([{"name": "c", "env": [{"name": "A", "valueFrom": {"resourceFieldRef": reference}}]}]);
        let stored = object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"},
            "spec": {"template": {"spec": {"containers": containers}}},
        }));
        row("apps", "deployments").read(encode_for_store(&stored), Revision(7)).expect("well formed").to_object()
    };
    let reference = |object: &Object| object.list(&["spec", "template", "spec", "containers"])[0]["env"][0]["valueFrom"]["resourceFieldRef"].clone();
    let wanted = json!({"resource": "limits.cpu", "divisor": "0"});
    let old = read(json!({"resource": "limits.cpu"}));
    assert_eq!((reference(&old), old.resource_version()), (wanted.clone(), "7"));
    assert_eq!(read(wanted), old);
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let job = created("batch", "jobs", json!({"metadata": {"name": "j", "uid": "u1"}, "spec": {"template": {"spec": {}}}}));
    assert_eq!(job.get(&["spec", "selector"]), Some(&json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}})));
    assert_eq!(job.str(&["spec", "template", "metadata", "labels", "job-name"]), "j");
    assert_eq!(job.get(&["metadata", "labels"]), job.get(&["spec", "template", "metadata", "labels"]), "which are its own, too");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {}});
    let job = created("batch", "jobs", json!({"metadata": {"name": "j", "uid": "u1"}, "spec": {"template": template}}));
    assert_eq!(job.get(&["metadata", "labels"]), job.get(&["spec", "template", "metadata", "labels"]), "also where the template has some");
    assert_eq!((job.str(&["metadata", "labels", "a"]), job.str(&["metadata", "labels", "controller-uid"])), ("b", "u1"));
    let own = json!({"name": "j", "uid": "u1", "labels": {"a": "b"}});
    let job = created("batch", "jobs", json!({"metadata": own, "spec": {"template": template}}));
    assert_eq!(job.get(&["metadata", "labels"]), Some(&json!({"a": "b"})), "one that has labels keeps these alone");
}

#[test]
fn a_status_update_writes_status_and_metadata_but_not_spec() {
    let old = object(json!({"metadata": {"name": "r"}, "spec": {"replicas": 1}, "status": {"replicas": 0}}));
    let new = json!({"metadata": {"name": "r", "annotations": {"a": "b"}}, "spec": {"replicas": 9}, "status": {"replicas": 1}});
    let merged = updated("apps", "replicasets", new.clone(), &old, "status");
    assert_eq!(merged.int(&["spec", "replicas"]), Some(1));
    assert_eq!(merged.int(&["status", "replicas"]), Some(1));
    assert_eq!(merged.annotation("a"), Some("b"));
    let main = updated("apps", "replicasets", new, &old, "");
    assert_eq!((main.int(&["spec", "replicas"]), main.int(&["status", "replicas"])), (Some(9), Some(0)));
}

#[test]
fn an_applied_service_keeps_its_addresses_and_node_ports() {
    let old = created(
        "",
        "services",
        json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "ports": [{"port": 80, "nodePort": 30080}], "selector": {"a": "b"}}}),
    );
    let new = updated("", "services", json!({"spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "c"}}}), &old, "");
    assert_eq!(new.str(&["spec", "clusterIP"]), "10.0.0.9");
    assert_eq!(new.get(&["spec", "clusterIPs"]), Some(&json!(["10.0.0.9"])));
    assert_eq!(new.get(&["spec", "ports"]).map(|ports| ports[0]["nodePort"].clone()), Some(json!(30080)));
    let inner = updated("", "services", json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30080}]}}), &old, "");
    assert_eq!(inner.get(&["spec", "ports"]).and_then(|ports| ports[0].get("nodePort").cloned()), None);
}

#[test]
fn a_daemon_set_counts_the_generations_of_its_template() {
    const KEY: &str = "deprecated.daemonset.template.generation";
    let old = created("apps", "daemonsets", json!({"spec": {"template": {"spec": {"containers": [container()]}}}}));
    assert_eq!(old.annotation(KEY), Some("1"));
    let changed = updated("apps", "daemonsets", json!({"spec": {"template": {"spec": {"containers": []}}}}), &old, "");
    assert_eq!(changed.annotation(KEY), Some("2"));
    let status = updated("apps", "daemonsets", json!({"status": {"numberReady": 1}}), &changed, "status");
    assert_eq!(status.annotation(KEY), Some("2"));
    let defaulted = defaulted("apps", "daemonsets", json!({"spec": {"template": {"spec": {}}}}));
    assert_eq!(defaulted["metadata"]["annotations"][KEY], "0", "its creator owns it");
}

#[test]
fn invalid_objects_are_rejected_in_upstreams_words() {
    let cases = [
        (
            ("apps", "deployments"),
            json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [container()]}}}}),
            "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
        ),
        (
            ("", "services"),
            json!({"metadata": {"name": "a.b", "namespace": "n"}, "spec": {"ports": [{"port": 80}]}}),
            "metadata.name: Invalid value: \"a.b\": must not contain dots",
        ),
        (
            ("", "services"),
            json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": [{"port": 70000, "targetPort": 80}]}}),
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            ("batch", "jobs"),
            json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": {"template": {"spec": {"containers": [container()]}}}}),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            ("", "configmaps"),
            json!({"metadata": {"name": "c", "namespace": "n"}, "data": {"a": "1"}, "binaryData": {"a": ""}}),
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        ),
        (
            ("scheduling.k8s.io", "priorityclasses"),
            json!({"metadata": {"name": "p"}, "value": 2_000_000_000}),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
    ];
    for ((group, plural), manifest, want) in cases {
        let new = created(group, plural, manifest);
        let errors: Vec<String> = row(group, plural).validate_create(&row(group, plural).storage, &new).iter().map(ToString::to_string).collect();
        assert_eq!(errors, [want], "{plural}");
    }
}

#[test]
fn templates_are_held_to_selectors_as_upstream_does() {
    let of = |plural: &str, selector: Value| {
        let pods = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()]}});
        let new = created("apps", plural, json!({"metadata": {"name": "x", "namespace": "n"}, "spec": {"selector": selector, "template": pods}}));
        let errors = row("apps", plural).validate_create(&row("apps", plural).storage, &new);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mismatch = "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`";
    let required = "spec.selector: Required value";
    for plural in ["deployments", "replicasets", "statefulsets"] {
        assert_eq!(of(plural, Value::Null), [required, mismatch], "{plural}");
    }
    assert_eq!(of("daemonsets", Value::Null), [mismatch]);
    let odd = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
    let operator = "spec.selector.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator".to_owned();
    let unreadable = format!("spec.selector: Invalid value: {odd}: invalid label selector");
    assert_eq!(of("deployments", odd.clone()), [operator.clone(), unreadable]);
    assert_eq!(of("statefulsets", odd.clone()), [operator.clone(), format!("spec.selector: Invalid value: {odd}")]);
    assert_eq!(of("daemonsets", odd), [operator]);
}

#[test]
fn valid_objects_of_the_main_kinds_pass() {
    let meta = json!({"name": "x", "namespace": "n", "uid": "u"});
    let workload =
        json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()]}}});
    let cases = [
        (("apps", "deployments"), json!({"metadata": meta, "spec": workload})),
        (("apps", "replicasets"), json!({"metadata": meta, "spec": workload})),
        (("apps", "daemonsets"), json!({"metadata": meta, "spec": workload})),
        (("apps", "statefulsets"), json!({"metadata": meta, "spec": workload})),
        (("batch", "jobs"), json!({"metadata": meta, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}}})),
        (
            ("", "replicationcontrollers"),
            json!({"metadata": meta, "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()]}}}}),
        ),
        (("", "services"), json!({"metadata": meta, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})),
        (("", "pods"), json!({"metadata": meta, "spec": {"containers": [container()], "volumes": [{"name": "v"}]}})),
        (
            ("", "persistentvolumeclaims"),
            json!({"metadata": meta, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        (
            ("networking.k8s.io", "ingresses"),
            json!({"metadata": meta, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        ),
        (
            ("discovery.k8s.io", "endpointslices"),
            json!({"metadata": meta, "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.1.2.3"]}]}),
        ),
    ];
    for ((group, plural), manifest) in cases {
        let new = created(group, plural, manifest);
        let errors: Vec<String> = row(group, plural).validate_create(&row(group, plural).storage, &new).iter().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{plural}: {errors:?}");
    }
}

#[test]
fn selectors_and_immutable_data_do_not_change() {
    let old = object(json!({"metadata": {"name": "c"}, "immutable": true, "data": {"a": "1"}}));
    let new = object(json!({"metadata": {"name": "c"}, "data": {"a": "2"}}));
    let errors: Vec<String> =
        row("", "configmaps").validate_update(&row("", "configmaps").storage, &new, &old, "").iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        ["immutable: Forbidden: field is immutable when `immutable` is set", "data: Forbidden: field is immutable when `immutable` is set"]
    );
}

#[test]
fn every_kind_prints_as_many_cells_as_columns() {
    for row in builtin() {
        let empty = object(json!({"kind": &*row.kind, "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}}));
        let (columns, cells) = (row.strategy.columns(), row.strategy.cells(&empty, &FixedClock));
        assert_eq!(columns.len(), cells.len(), "{row:?}");
        assert!(columns.iter().any(|column| &*column.format == "name"), "{row:?} has a name column");
    }
}

#[test]
fn columns_are_upstreams_where_those_surprise() {
    for (group, plural, wanted) in [
        ("networking.k8s.io", "ipaddresses", &[("Name", ColumnType::String), ("ParentRef", ColumnType::String)][..]),
        ("storage.k8s.io", "csistoragecapacities", &[("Name", ColumnType::String), ("Created At", ColumnType::Date)]),
        (
            "apps",
            "controllerrevisions",
            &[("Name", ColumnType::String), ("Controller", ColumnType::String), ("Revision", ColumnType::String), ("Age", ColumnType::String)],
        ),
    ] {
        let columns = row(group, plural).strategy.columns();
        let found: Vec<_> = columns.iter().map(|column| (&*column.name, column.kind)).collect();
        assert_eq!(found, wanted, "{plural}");
    }
}

#[test]
fn admission_policies_count_their_own_expressions() {
    for (plural, field, column) in
        [("validatingadmissionpolicies", "validations", "Validations"), ("mutatingadmissionpolicies", "mutations", "Mutations")]
    {
        let row = row("admissionregistration.k8s.io", plural);
        let policy = object(json!({"kind": &*row.kind, "metadata": {"name": "x"}, "spec": {field: [{}, {}]}}));
        assert_eq!(&*row.strategy.columns()[1].name, column);
        assert_eq!(row.strategy.cells(&policy, &FixedClock)[1], 2, "{plural}");
    }
}

#[test]
fn rows_read_as_kubectl_prints_them() {
    let service = json!({"metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {
        "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}});
    let node = json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64"}, "addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}});
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " done ", "involvedObject": {"kind": "Pod", "name": "p"},
        "firstTimestamp": "2026-01-01T00:30:00Z", "lastTimestamp": "2026-01-01T00:59:00Z", "count": 3, "source": {"component": "kubelet", "host": "n"}});
    let component = |conditions: Value| json!({"metadata": {"name": "c"}, "conditions": conditions});
    let components = [
        (json!([{"type": "Healthy", "status": "True", "message": "ok"}]), json!(["c", "Healthy", "ok", ""])),
        (json!([{"type": "Healthy", "status": "False", "error": "away"}]), json!(["c", "Unhealthy", "", "away"])),
        (json!([]), json!(["c", "Unknown", "", ""])),
    ];
    let components = components.map(|(conditions, want)| (("", "componentstatuses"), component(conditions), want));
    let cases = [
        (("", "services"), service, json!(["s", "NodePort", "10.0.0.1", "<none>", "80:30000/TCP", "60m", "<none>"])),
        (
            ("", "nodes"),
            node,
            json!([
                "n",
                "Ready,SchedulingDisabled",
                "control-plane",
                "60m",
                "v1.36.0",
                "10.9.0.1",
                "<none>",
                "<unknown>",
                "6.1 (amd64)",
                "<unknown>"
            ]),
        ),
        (("", "events"), event, json!(["60s", "Normal", "Pulled", "pod/p", "", "kubelet, n", "done", "30m", 3, "e"])),
    ];
    for ((group, plural), value, want) in cases.into_iter().chain(components) {
        assert_eq!(Value::from(row(group, plural).strategy.cells(&object(value), &FixedClock)), want, "{plural}");
    }
}

#[test]
fn events_and_autoscalers_survive_the_trip_to_another_form() {
    let core = GroupVersion::new("", "v1");
    let events = GroupVersion::new("events.k8s.io", "v1");
    let stored = object(json!({"message": "m", "involvedObject": {"kind": "Pod"}, "count": 2}));
    let mut served = stored.clone();
    row("", "events").strategy.convert(&mut served, &core, &events);
    assert_eq!(served.clone().into_value(), json!({"note": "m", "regarding": {"kind": "Pod"}, "deprecatedCount": 2}));
    row("", "events").strategy.convert(&mut served, &events, &core);
    assert_eq!(served, stored);
    let mut nobody = object(json!({"message": "m", "reportingComponent": "", "reportingInstance": ""}));
    row("", "events").strategy.convert(&mut nobody, &core, &events);
    assert_eq!(nobody.into_value(), json!({"note": "m"}));

    let (v1, v2) = (GroupVersion::new("autoscaling", "v1"), GroupVersion::new("autoscaling", "v2"));
    let strategy = &row("autoscaling", "horizontalpodautoscalers").strategy;
    let old = object(json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 50}}));
    let mut new = old.clone();
    strategy.convert(&mut new, &v1, &v2);
    assert_eq!(new.get(&["spec", "metrics"]).map(|metrics| metrics[0]["resource"]["target"]["averageUtilization"].clone()), Some(json!(50)));
    strategy.convert(&mut new, &v2, &v1);
    assert_eq!(new, old);
}

#[test]
fn selectable_fields_are_those_of_upstream() {
    let node = object(json!({"spec": {}}));
    assert_eq!(row("", "nodes").strategy.selectable_field(&node, "spec.unschedulable").as_deref(), Some("false"));
    let event = object(json!({"reportingComponent": "kubelet", "involvedObject": {"name": "p"}}));
    let events = row("", "events");
    assert_eq!(events.strategy.selectable_field(&event, "source").as_deref(), Some("kubelet"));
    assert_eq!(events.strategy.selectable_field(&event, "involvedObject.name").as_deref(), Some("p"));
    assert_eq!(events.strategy.selectable_field(&event, "involvedObject.uid").as_deref(), Some(""));
    assert_eq!(events.strategy.selectable_field(&event, "metadata.uid"), None);
}
