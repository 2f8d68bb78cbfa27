use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use troupe_api::{
    meta::{Cause, Object, ObjectKey, Revision},
    stored::StoredObject,
};

use super::*;
use crate::runtime::cache::Cache;

fn pod(container: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "labels": {"app": "web"}}, "spec": {"containers": [container]}}))
        .expect("a pod")
}

fn build(pod: &Pod, references: &References, services: &[(String, String)]) -> Result<Vec<(String, String)>, EnvError> {
    let machine = MachineSize { cpus: 2, memory_bytes: 1 << 30, storage_bytes: 5 << 30, daemons_oom_score_adj: -999, ..MachineSize::default() };
    let inputs =
        EnvInputs { pod, references, files: &Files::new(), services, pod_ips: &["10.0.0.2".into()], node_ips: &["192.0.2.1".into()], machine };
    environment(&inputs, &pod.spec.as_ref().expect("a spec").containers[0])
}

fn references() -> References {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"A": "1", "B": "2"}})).expect("a config map");
    let mut references = References::default();
    references.config_maps.insert("m".into(), Some(Arc::new(map)));
    references
}

#[test]
fn later_sources_win_and_see_earlier_ones() {
    let pod = pod(json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
        "env": [{"name": "P_B", "value": "x$(P_A)"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "SVC", "value": "$(WEB_SERVICE_HOST)"}]}));
    let services = [("WEB_SERVICE_HOST".to_owned(), "10.96.0.9".to_owned())];
    let env: HashMap<_, _> = build(&pod, &references(), &services).expect("complete").into_iter().collect();
    let get = |name: &str| env[name].as_str();
    assert_eq!((get("P_A"), get("P_B"), get("IP"), get("APP"), get("MEM")), ("1", "x1", "10.0.0.2", "web", "1024"));
    assert_eq!(get("SVC"), "10.96.0.9");
}

#[test]
fn variables_that_double_each_other_end_at_what_a_program_can_be_given() {
    let doubling = |count: usize| {
        let double = |index: usize| json!({"name": format!("A{index}"), "value": format!("$(A{0})$(A{0})", index - 1)});
        let first = json!({"name": "A0", "value": "x".repeat(1000)});
        let env: Vec<_> = std::iter::once(first).chain((1..=count).map(double)).collect();
        build(&pod(json!({"name": "c", "env": env})), &References::default(), &[])
    };
    let bytes: usize = doubling(9).expect("is small").iter().map(|(_, value)| value.len()).sum();
    assert_eq!(bytes, 1_023_000);
    let too_large = Err(EnvError(expand::TooLarge.to_string()));
    assert_eq!((doubling(11), doubling(60)), (too_large.clone(), too_large.clone()));
    let large: ConfigMap = serde_json::from_value(json!({"data": {"k": "y".repeat(1_000_000)}})).expect("a config map");
    let mut references = References::default();
    references.config_maps.insert("m".into(), Some(Arc::new(large)));
    let variable = |index: usize| json!({"name": format!("E{index}"), "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}});
    let env: Vec<_> = (0..5000).map(variable).collect();
    assert_eq!(build(&pod(json!({"name": "c", "env": env})), &references, &[]), too_large);
    let again: Vec<_> = (0..50).map(|_| variable(0)).collect();
    assert_eq!(build(&pod(json!({"name": "c", "env": again})), &references, &[]).map(|env| env.len()), Ok(1), "what is replaced counts no more");
}

#[test]
fn a_limit_that_nobody_sets_is_what_the_node_has() {
    let of = |name: &str, resource: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}});
    let env = json!([
        of("LIMIT", "limits.ephemeral-storage"),
        of("REQUEST", "requests.ephemeral-storage"),
        of("CPU", "limits.cpu"),
        of("PAGES", "limits.hugepages-2Mi"),
    ]);
    let want = |limit: &str| {
        [("LIMIT", limit), ("REQUEST", "0"), ("CPU", "2"), ("PAGES", "0")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let unlimited = pod(json!({"name": "c", "env": env, "resources": {"limits": {"cpu": "0"}}}));
    assert_eq!(build(&unlimited, &references(), &[]), Ok(want("5368709120")));
    let limited =
        pod(json!({"name": "c", "env": env, "resources": {"limits": {"ephemeral-storage": "1Mi"}, "requests": {"ephemeral-storage": "0"}}}));
    assert_eq!(build(&limited, &references(), &[]), Ok(want("1048576")));
}

#[test]
fn a_limit_that_a_container_lacks_is_its_pods() {
    let env = json!([
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
    ]);
    let mut pod = pod(json!({"name": "c", "env": env, "resources": {"limits": {"cpu": "500m"}}}));
    let limits = json!({"limits": {"cpu": "1250m", "memory": "64Mi"}});
    pod.spec.as_mut().expect("a spec").resources = Some(serde_json::from_value(limits).expect("resources"));
    let want = [("CPU", "1"), ("MEMORY", "67108864")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(build(&pod, &references(), &[]), Ok(want.to_vec()));
}

#[test]
fn what_is_missing_is_named_unless_optional() {
    let missing = |optional: bool| {
        let pod =
            pod(json!({"name": "c", "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "no", "optional": optional}}}]}));
        build(&pod, &references(), &[])
    };
    assert_eq!(missing(false), Err(EnvError("couldn't find key no in ConfigMap n/m".into())));
    assert_eq!(missing(true), Ok(Vec::new()));
    let gone = pod(json!({"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}));
    assert_eq!(build(&gone, &references(), &[]), Err(EnvError("secret \"s\" not found".into())));
}

#[test]
fn pods_see_the_services_of_their_namespace_and_the_api_server() {
    let cache = Cache::<Service>::default();
    for (at, (namespace, name)) in [("default", "kubernetes"), ("default", "a"), ("n", "b"), ("other", "c")].into_iter().enumerate() {
        let tree = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name, "uid": name}});
        let stored = StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed");
        cache.apply(ObjectKey::new(namespace, name), Some(Arc::new(stored)), Revision(at as u64 + 1), &Cause::default());
    }
    let seen = |namespace: &str| -> Vec<String> {
        services::seen_from(&cache, namespace).iter().filter_map(|service| service.metadata.name.clone()).collect()
    };
    assert_eq!(seen("n"), ["b", "kubernetes"]);
    assert_eq!(seen("default"), ["a", "kubernetes"]);
    assert_eq!(seen("empty"), ["kubernetes"]);
}

#[test]
fn services_are_told_in_docker_style() {
    let service = serde_json::from_value(json!({"metadata": {"name": "my-db", "namespace": "n"},
        "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}}));
    let all = services::service_variables([&service.expect("a service")], "n", true);
    let want = [
        ("MY_DB_SERVICE_HOST", "10.96.0.5"),
        ("MY_DB_SERVICE_PORT", "5432"),
        ("MY_DB_SERVICE_PORT_SQL", "5432"),
        ("MY_DB_PORT", "tcp://10.96.0.5:5432"),
        ("MY_DB_PORT_5432_TCP", "tcp://10.96.0.5:5432"),
        ("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
        ("MY_DB_PORT_5432_TCP_PORT", "5432"),
        ("MY_DB_PORT_5432_TCP_ADDR", "10.96.0.5"),
    ];
    assert_eq!(all, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
}
