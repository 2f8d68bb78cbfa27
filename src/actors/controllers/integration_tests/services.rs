use std::collections::BTreeSet;

use k8s_openapi::api::{core::v1::Endpoints, discovery::v1::EndpointSlice};
use serde_json::{Value, json};
use troupe_api::service::{DeleteOptions, ListOptions, PatchType};

use super::{World, eventually_async};

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
