//! Admission plugins that are off by default, and the choice of plugins.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api_server::{
    admission::{ConfiguredPlugins, DefaultTolerationSeconds, Pipeline, Selection},
    store::memory::MemoryStore,
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

async fn with(enable: &[&str], disable: &[&str]) -> TestApi {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let selection = Selection::new(&owned(enable), &owned(disable)).expect("known plugins");
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.admission = Pipeline::configured(selection, ConfiguredPlugins::default());
    boot_with(options).await
}

fn pod(name: &str, namespace: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

async fn namespace(api: &TestApi, name: &str, annotations: Value) {
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}})).await;
    api.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})).await;
}

async fn refusal(api: &TestApi, object: Value) -> String {
    api.try_create(object).await.expect_err("is refused").message
}

#[actix::test]
async fn images_are_pulled_for_each_start() {
    let api = with(&["AlwaysPullImages"], &[]).await;
    let init = json!([{"name": "i", "image": "j:1", "imagePullPolicy": "Never"}]);
    let created = api.create(pod("p", "default", json!({"initContainers": init}))).await;
    for list in ["containers", "initContainers"] {
        assert_eq!(created.list(&["spec", list])[0]["imagePullPolicy"], "Always");
    }
}

#[actix::test]
async fn pods_stay_on_lost_nodes_for_as_long_as_is_said() {
    let default_tolerations = DefaultTolerationSeconds { not_ready: 7, unreachable: 9 };
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.admission = Pipeline::configured(Selection::default(), ConfiguredPlugins { default_tolerations, ..ConfiguredPlugins::default() });
    let api = boot_with(options).await;
    let own = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]);
    let created = api.create(pod("p", "default", json!({"tolerations": own}))).await;
    let seconds: Vec<&Value> = created.list(&["spec", "tolerations"]).iter().map(|toleration| &toleration["tolerationSeconds"]).collect();
    assert_eq!(seconds, [&json!(1), &json!(7)]);
}

#[actix::test]
async fn services_get_no_external_addresses_and_keep_those_they_have() {
    let api = with(&["DenyServiceExternalIPs"], &[]).await;
    let service = |ips: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
            "spec": {"ports": [{"port": 80}], "externalIPs": ips}})
    };
    let told = refusal(&api, service(json!(["192.0.2.1"]))).await;
    assert_eq!(told, "services \"s\" is forbidden: Use of external IPs is denied by admission control");
    let mut created = api.create(service(json!([]))).await;
    created.set(&["spec", "externalIPs"], json!(["192.0.2.1"]));
    assert!(api.try_update(created.into_value()).await.is_err());
}

#[actix::test]
async fn anti_affinity_reaches_no_further_than_a_node() {
    let api = with(&["LimitPodHardAntiAffinityTopology"], &[]).await;
    let far = |key: &str| {
        let term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"a": "b"}}});
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    api.create(pod("near", "default", far("kubernetes.io/hostname"))).await;
    let told = refusal(&api, pod("far", "default", far("topology.kubernetes.io/zone"))).await;
    assert!(told.ends_with("has TopologyKey topology.kubernetes.io/zone but only key kubernetes.io/hostname is allowed"), "{told}");
}

#[actix::test]
async fn pods_run_where_their_namespace_says() {
    let api = with(&["PodNodeSelector"], &[]).await;
    namespace(&api, "n", json!({"scheduler.alpha.kubernetes.io/node-selector": "env=test,zone=a"})).await;
    let created = api.create(pod("p", "n", json!({"nodeSelector": {"disk": "ssd"}}))).await;
    assert_eq!(created.get(&["spec", "nodeSelector"]), Some(&json!({"disk": "ssd", "env": "test", "zone": "a"})));
    let told = refusal(&api, pod("q", "n", json!({"nodeSelector": {"env": "prod"}}))).await;
    assert_eq!(told, "pods \"q\" is forbidden: pod node label selector conflicts with its namespace node label selector");
}

#[actix::test]
async fn pods_tolerate_what_their_namespace_says_and_no_more() {
    let api = with(&["PodTolerationRestriction"], &["DefaultTolerationSeconds"]).await;
    let allowed = json!([{"key": "gpu", "operator": "Exists"}]).to_string();
    let defaults = json!([{"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]);
    let annotations = json!({"scheduler.alpha.kubernetes.io/defaultTolerations": defaults.to_string(),
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": allowed});
    namespace(&api, "n", annotations).await;
    let created = api.create(pod("p", "n", json!({}))).await;
    assert_eq!(created.list(&["spec", "tolerations"]), defaults.as_array().expect("a list").as_slice());
    let told = refusal(&api, pod("q", "n", json!({"tolerations": [{"key": "other", "operator": "Exists"}]}))).await;
    assert!(told.contains("conflict with its namespace whitelist"), "{told}");
}

#[actix::test]
async fn pods_that_ask_for_devices_tolerate_the_taint_of_their_nodes() {
    let api = with(&["ExtendedResourceToleration"], &["DefaultTolerationSeconds"]).await;
    let containers = json!([{"name": "c", "image": "i", "resources": {"limits": {"example.org/gpu": "1"}}}]);
    let created = api.create(pod("p", "default", json!({"containers": containers}))).await;
    let wanted = json!({"key": "example.org/gpu", "operator": "Exists", "effect": "NoSchedule"});
    assert_eq!(created.list(&["spec", "tolerations"]), [wanted]);
}

#[actix::test]
async fn nothing_is_written_where_all_is_denied_and_quotas_can_be_off() {
    let api = with(&[], &["ResourceQuota"]).await;
    api.create(
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "0"}}}),
    )
    .await;
    api.create(pod("p", "default", json!({}))).await;
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    let denying = Selection::new(&["AlwaysDeny".into()], &[]).expect("known");
    options.admission = Pipeline::configured(denying, ConfiguredPlugins::default());
    let server = crate::apiserver::ApiServer::start(options).await.expect("starts");
    let user = api.user.clone();
    let api = TestApi { client: troupe_api_client::Client::new(server.clone(), user.clone(), "test"), server, user };
    let told = refusal(&api, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).await;
    assert_eq!(told, "namespaces \"n\" is forbidden: admission control is denying all modifications");
}

#[actix::test]
async fn a_pod_carries_the_zone_of_the_node_it_is_bound_to() {
    for (disable, wanted) in [(&[][..], Some("z1")), (&["PodTopologyLabels"], None)] {
        let api = with(&[], disable).await;
        let labels = json!({"topology.kubernetes.io/zone": "z1", "other": "x"});
        api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}})).await;
        api.create(pod("p", "default", json!({}))).await;
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "namespace": "default"}, "target": {"kind": "Node", "name": "n"}});
        let body = troupe_api::service::Body::Json(binding.to_string().into());
        let create = troupe_api::service::Operation::Create { body, options: Default::default() };
        api.call(api.subresource("pods", "default", "p", "binding"), create).await.expect("binds");
        let bound = api.get("pods", "default", "p").await.expect("is there");
        assert_eq!((bound.str(&["spec", "nodeName"]), bound.label("topology.kubernetes.io/zone"), bound.label("other")), ("n", wanted, None));
    }
}
