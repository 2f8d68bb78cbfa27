use std::collections::BTreeSet;

use k8s_openapi::api::{core::v1::Endpoints, discovery::v1::EndpointSlice};
use serde_json::{Value, json};
use troupe_api::service::{DeleteOptions, ListOptions, PatchType};

use super::{super::endpointslice::trigger_times::LAST_CHANGE, World, eventually_async};

async fn ready_addresses(world: &World) -> Option<usize> {
    let slices = world.client().namespaced::<EndpointSlice>("default").list(ListOptions::default()).await.ok()?.items;
    let endpoints = slices.iter().filter(|slice| slice.metadata.name.as_deref().is_some_and(|name| name.starts_with("web-")));
    let endpoints = endpoints.flat_map(|slice| slice.endpoints.clone().unwrap_or_default());
    Some(endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true)).count())
}

#[actix::test]
async fn ready_pods_become_endpoints_of_their_service() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    let spec = json!({"selector": {"app": "web"}, "ports": ports});
    world.api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})).await;
    world.deployment("web", 3, "a:1").await;
    world.rolled_out("web", 3).await;
    eventually_async("the slice names three pods", async || ready_addresses(&world).await == Some(3)).await;
    eventually_async("the endpoints name three pods", async || {
        let endpoints = world.api.get("endpoints", "default", "web").await;
        endpoints.is_ok_and(|e| e.get(&["subsets"]).is_some_and(|subsets| subsets[0]["addresses"].as_array().is_some_and(|a| a.len() == 3)))
    })
    .await;
    world.patch_deployment("web", json!({"spec": {"replicas": 0}})).await;
    eventually_async("the slice is empty", async || ready_addresses(&world).await == Some(0)).await;
    world.settles().await;
}

/// What the slices of the Service and its Endpoints tell of when their change was made.
async fn triggers(world: &World) -> Vec<Option<String>> {
    let slices = world.client().namespaced::<EndpointSlice>("default").list(ListOptions::default()).await.expect("listed").items;
    let slices = slices.iter().filter(|slice| slice.metadata.name.as_deref().is_some_and(|name| name.starts_with("web-")));
    let endpoints = world.client().namespaced::<Endpoints>("default").get_opt("web").await.expect("answers");
    let all = slices.map(|slice| &slice.metadata).chain(endpoints.iter().map(|endpoints| &endpoints.metadata));
    all.map(|metadata| metadata.annotations.as_ref()?.get(LAST_CHANGE).cloned()).collect()
}

#[actix::test]
async fn endpoints_tell_when_the_change_was_made_that_they_show() {
    let world = World::new().await;
    world.node("n1", 64).await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    let made = world.api.create(service).await.str(&["metadata", "creationTimestamp"]).to_owned();
    let both = |time: Option<&str>| vec![time.map(str::to_owned); 2];
    eventually_async("they tell of the new Service", async || triggers(&world).await == both(Some(made.as_str()))).await;
    let spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "a:1"}]});
    let metadata = json!({"name": "p", "namespace": "default", "labels": {"app": "web"}});
    world.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2027-01-02T03:04:05Z"});
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}], "conditions": [ready]}});
    let target = world.api.subresource("pods", "default", "p", "status");
    world.api.patch(target, PatchType::StrategicMerge, status).await.expect("the pod is ready");
    eventually_async("they tell since when it is ready", async || triggers(&world).await == both(Some("2027-01-02T03:04:05Z"))).await;
    let labelled = json!({"metadata": {"labels": {"team": "a"}}});
    world.api.patch(world.api.target("services", "default", "web"), PatchType::Merge, labelled).await.expect("the Service is labelled");
    eventually_async("of this change they know no time", async || triggers(&world).await == both(None)).await;
    world.settles().await;
}

/// The zones and hints of the Service's endpoints, each once.
async fn zones_and_hints(world: &World) -> BTreeSet<String> {
    let slices = world.client().namespaced::<EndpointSlice>("default").list(ListOptions::default()).await.expect("listed").items;
    let slices = slices.iter().filter(|slice| slice.metadata.name.as_deref().is_some_and(|name| name.starts_with("web-")));
    slices.flat_map(|slice| slice.endpoints.iter().flatten()).map(|endpoint| json!([endpoint.zone, endpoint.hints]).to_string()).collect()
}

#[actix::test]
async fn zones_that_a_node_is_told_later_become_hints() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], "trafficDistribution": "PreferClose"});
    world.api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})).await;
    world.deployment("web", 2, "a:1").await;
    world.rolled_out("web", 2).await;
    eventually_async("the slice names two pods", async || ready_addresses(&world).await == Some(2)).await;
    world.settles().await;
    let none = BTreeSet::from([json!([null, null]).to_string()]);
    assert_eq!(zones_and_hints(&world).await, none);
    let hinted = |zone: &str| BTreeSet::from([json!([zone, {"forZones": [{"name": zone}]}]).to_string()]);
    for (zone, want) in [(json!("z1"), hinted("z1")), (json!("z2"), hinted("z2")), (Value::Null, none)] {
        let patch = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
        world.api.patch(world.api.target("nodes", "", "n1"), PatchType::Merge, patch).await.expect("the node is labelled");
        eventually_async(&format!("the endpoints are {want:?}"), async || zones_and_hints(&world).await == want).await;
    }
}

#[actix::test]
async fn endpoints_of_a_service_without_selector_are_mirrored() {
    let world = World::new().await;
    let service = json!({"metadata": {"name": "web", "namespace": "default"}, "apiVersion": "v1", "kind": "Service",
        "spec": {"ports": [{"port": 80}]}});
    world.api.create(service).await;
    let subsets = json!([{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 8080}]}]);
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "default"}, "subsets": subsets});
    world.api.create(endpoints).await;
    eventually_async("the slice has the address", async || ready_addresses(&world).await == Some(1)).await;
    let options = DeleteOptions::default();
    world.client().namespaced::<Endpoints>("default").delete("web", options).await.expect("deleted");
    eventually_async("the slice is gone", async || {
        let slices = world.client().namespaced::<EndpointSlice>("default").list(ListOptions::default()).await;
        slices.is_ok_and(|slices| !slices.items.iter().any(|slice| slice.metadata.name.as_deref().is_some_and(|name| name.starts_with("web-"))))
    })
    .await;
    world.settles().await;
}

#[actix::test]
async fn endpoints_that_cannot_be_written_are_told_of() {
    let world = World::new().await;
    let hard = json!({"count/endpoints": "0", "count/endpointslices.discovery.k8s.io": "0"});
    let metadata = json!({"name": "none", "namespace": "default"});
    world.api.create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})).await;
    eventually_async("the quota is counted", async || {
        let quota = world.api.get("resourcequotas", "default", "none").await.expect("there");
        quota.get(&["status", "used"]).and_then(Value::as_object).is_some_and(|used| used.len() == 2)
    })
    .await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    world.api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})).await;
    for (reason, begins) in [
        ("FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service default/web: "),
        ("FailedToCreateEndpoint", "Failed to create endpoint for service default/web: "),
    ] {
        eventually_async(reason, async || {
            let events = world.events("default", "web").await;
            events.iter().any(|(told, message)| told == reason && message.starts_with(begins) && message.contains("exceeded quota"))
        })
        .await;
    }
}
