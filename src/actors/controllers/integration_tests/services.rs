use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use troupe_api::service::ListOptions;

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
