use serde_json::json;
use troupe_api::service::{DeleteOptions, Propagation};

use super::{World, eventually_async};

async fn world() -> World {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world
}

#[actix::test]
async fn a_deployment_gets_its_pods_scales_and_then_rests() {
    let world = world().await;
    world.deployment("web", 3, "a:1").await;
    world.rolled_out("web", 3).await;
    world.patch_deployment("web", json!({"spec": {"replicas": 5}})).await;
    world.rolled_out("web", 5).await;
    world.patch_deployment("web", json!({"spec": {"replicas": 1}})).await;
    world.rolled_out("web", 1).await;
    eventually_async("one pod is left", async || world.api.names("pods", "default").await.len() == 1).await;
    world.settles().await;
    let reasons = world.events("default", "web").await;
    assert!(reasons.iter().any(|(_, text)| text.starts_with("Scaled up replica set web-") && text.ends_with("from 0 to 3")), "{reasons:?}");
    assert!(reasons.iter().any(|(_, text)| text.ends_with("from 5 to 1")), "{reasons:?}");
}

#[actix::test]
async fn a_set_without_pods_is_made_without_a_word() {
    let world = world().await;
    world.deployment("web", 0, "a:1").await;
    world.rolled_out("web", 0).await;
    assert_eq!(world.sets().await, [("a:1".to_owned(), 0)]);
    world.settles().await;
    let events = world.events("default", "web").await;
    assert!(events.is_empty(), "{events:?}");
}

#[actix::test]
async fn another_image_rolls_and_the_old_one_comes_back() {
    let world = world().await;
    world.deployment("web", 4, "a:1").await;
    world.rolled_out("web", 4).await;
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    world.patch_deployment("web", image("a:2")).await;
    world.rolled_out("web", 4).await;
    assert_eq!(world.sets().await, [("a:1".to_owned(), 0), ("a:2".to_owned(), 4)]);
    world.patch_deployment("web", image("a:1")).await;
    world.rolled_out("web", 4).await;
    assert_eq!(world.sets().await, [("a:1".to_owned(), 4), ("a:2".to_owned(), 0)]);
    let deployment = world.api.get("deployments.apps", "default", "web").await.expect("there");
    assert_eq!(deployment.str(&["metadata", "annotations", "deployment.kubernetes.io/revision"]), "3");
    world.settles().await;
}

#[actix::test]
async fn recreate_waits_until_the_old_pods_are_gone() {
    let world = world().await;
    let mut deployment = super::deployment("web", 2, "a:1");
    deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    world.api.create(deployment).await;
    world.rolled_out("web", 2).await;
    world.patch_deployment("web", json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "a:2"}]}}}})).await;
    world.rolled_out("web", 2).await;
    assert_eq!(world.sets().await, [("a:1".to_owned(), 0), ("a:2".to_owned(), 2)]);
    world.settles().await;
}

#[actix::test]
async fn orphaned_pods_are_adopted_by_a_set_that_selects_them() {
    let world = world().await;
    world.deployment("web", 2, "a:1").await;
    world.rolled_out("web", 2).await;
    let set = world.api.names("replicasets.apps", "default").await.remove(0);
    let pods = world.api.names("pods", "default").await;
    let pod = world.api.target("pods", "default", &pods[0]);
    let orphan = json!({"metadata": {"ownerReferences": null}});
    world.api.patch(pod, troupe_api::service::PatchType::Merge, orphan).await.expect("patched");
    eventually_async("the pod has its owner again", async || {
        let pod = world.api.get("pods", "default", &pods[0]).await;
        pod.is_ok_and(|pod| pod.get(&["metadata", "ownerReferences"]).is_some_and(|owners| owners[0]["name"] == json!(set)))
    })
    .await;
    world.settles().await;
    assert_eq!(world.api.names("pods", "default").await, pods);
}

#[actix::test]
async fn a_deleted_pod_is_replaced() {
    let world = world().await;
    world.deployment("web", 2, "a:1").await;
    world.rolled_out("web", 2).await;
    let pods = world.api.names("pods", "default").await;
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    world.api.delete("pods", "default", &pods[0], options).await.expect("deleted");
    eventually_async("another pod stands in", async || {
        let now = world.api.names("pods", "default").await;
        now.len() == 2 && !now.contains(&pods[0])
    })
    .await;
    world.rolled_out("web", 2).await;
}
