use serde_json::{Value, json};

use super::{World, eventually_async};

async fn used(world: &World) -> Value {
    let quota = world.api.get("resourcequotas", "default", "q").await.expect("is there");
    quota.get(&["status", "used"]).cloned().unwrap_or_default()
}

#[actix::test]
async fn what_is_deleted_or_finished_can_be_spent_again() {
    let world = World::new().await;
    world.api.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "default"}})).await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": {"secrets": "1", "pods": "1", "count/pods": "5"}}});
    world.api.create(quota).await;
    eventually_async("the quota is counted", async || used(&world).await == json!({"secrets": "1", "pods": "0", "count/pods": "0"})).await;
    let secret = || world.api.try_create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b", "namespace": "default"}}));
    assert_eq!(secret().await.expect_err("is refused").code, 403);
    world.api.delete("secrets", "default", "a", Default::default()).await.expect("deletes");
    eventually_async("the secret's place is free", async || secret().await.is_ok()).await;

    let pod = |name: &str| {
        let spec = json!({"containers": [{"name": "c", "image": "i"}]});
        world.api.try_create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    };
    pod("a").await.expect("fits");
    assert_eq!(pod("b").await.expect_err("is refused").code, 403);
    let target = world.api.subresource("pods", "default", "a", "status");
    let ended = json!({"status": {"phase": "Succeeded"}});
    world.api.patch(target, troupe_api::service::PatchType::Merge, ended).await.expect("the pod ends");
    eventually_async("the pod's place is free", async || pod("b").await.is_ok()).await;
    assert_eq!(used(&world).await["count/pods"], "2");
}

#[actix::test]
async fn raised_limits_can_be_spent_at_once() {
    let world = World::new().await;
    let quota = |secrets: &str| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"secrets": secrets}}});
    world.api.create(quota("0")).await;
    let secret = || world.api.try_create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "s-", "namespace": "default"}}));
    eventually_async("the quota is counted", async || used(&world).await == json!({"secrets": "0"})).await;
    assert_eq!(secret().await.expect_err("is refused").code, 403);
    world.api.try_update(quota("2")).await.expect("is raised");
    eventually_async("a secret fits", async || secret().await.is_ok()).await;
}
