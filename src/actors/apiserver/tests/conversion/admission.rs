use serde_json::json;

use super::{
    super::webhooks::endpoint::{Endpoint, allowed, configuration, patched},
    sites::{good_world, site},
};

#[actix::test]
async fn webhooks_see_the_version_that_they_ask_for() {
    let world = good_world().await;
    let judge = Endpoint::serve(|_| allowed()).await;
    let rule = json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["sites"]}]);
    let hook = judge.webhook("judge.example.com", json!({"rules": rule}));
    world.api.create(configuration("Validating", "judge", vec![hook])).await;
    world.api.create(site("v2", "a", json!({"host": "h", "port": "80"}))).await;
    let asked = judge.take_asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0]["kind"]["version"], &asked[0]["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!((&asked[0]["object"]["apiVersion"], &asked[0]["object"]["spec"]["hostPort"]), (&json!("example.com/v1"), &json!("h:80")));
    let patch = json!({"spec": {"port": "81"}});
    world.api.patch(world.at("v2", "a", ""), troupe_api::service::PatchType::Merge, patch).await.expect("patches");
    let asked = judge.take_asked();
    assert_eq!((&asked[0]["object"]["spec"]["hostPort"], &asked[0]["oldObject"]["spec"]["hostPort"]), (&json!("h:81"), &json!("h:80")));
}

#[actix::test]
async fn what_webhooks_change_in_one_version_is_changed_in_the_other() {
    let world = good_world().await;
    let change = Endpoint::serve(|_| patched(json!([{"op": "replace", "path": "/spec/hostPort", "value": "other:1"}]))).await;
    let rule = json!([{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["sites"]}]);
    world.api.create(configuration("Mutating", "change", vec![change.webhook("change.example.com", json!({"rules": rule}))])).await;
    let made = world.api.create(site("v2", "a", json!({"host": "h", "port": "80"}))).await;
    assert_eq!((made.api_version(), made.str(&["spec", "host"]), made.str(&["spec", "port"])), ("example.com/v2", "other", "1"));
    assert_eq!(world.get("v1", "a").await.expect("is there").str(&["spec", "hostPort"]), "other:1");
}
