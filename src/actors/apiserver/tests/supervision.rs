use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::json;
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, ListOptions, WatchItem, WatchOptions},
};

use crate::apiserver::testing::{TestApi, boot};

async fn config_map(api: &TestApi, name: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await;
}

#[actix::test]
async fn a_resource_actor_that_panics_comes_back_with_everything() {
    let api = boot().await;
    config_map(&api, "a").await;
    let mut watch = api.watch("configmaps", "default", WatchOptions::default()).await;
    assert!(matches!(watch.next().await, Some(WatchItem::Event { .. })));
    assert!(api.server.system().directory().kill("apiserver/configmaps"));
    let ended = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time");
    assert!(ended.is_none(), "the watch ends cleanly and its client resumes");
    config_map(&api, "b").await;
    assert_eq!(api.names("configmaps", "default").await, ["a", "b"]);
    let mut watch = api.watch("configmaps", "default", WatchOptions::default()).await;
    assert!(matches!(watch.next().await, Some(WatchItem::Event { .. })));
}

#[actix::test]
async fn a_store_feed_that_panics_loses_no_change() {
    let api = boot().await;
    let mut watch = api.watch("configmaps", "default", WatchOptions::default()).await;
    assert!(api.server.system().directory().kill("apiserver/store-feed"));
    config_map(&api, "a").await;
    match tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time") {
        Some(WatchItem::Event { object, .. }) => assert_eq!(&*object.key.name, "a"),
        other => panic!("expected the new object, got {other:?}"),
    }
}

#[actix::test]
async fn a_write_can_be_traced_to_its_revision() {
    let api = boot().await;
    let mut watch = api.watch("configmaps", "default", WatchOptions::default()).await;
    config_map(&api, "a").await;
    let Some(WatchItem::Event { object, cause, .. }) = watch.next().await else { panic!("expected an event") };
    assert_ne!(cause.trace, 0, "the event carries its writer's trace");
    assert_eq!(cause.object.expect("an object version").revision, object.revision);
    let steps = api.server.system().recorder().trace_of("configmaps", &ObjectKey::new("default", "a"));
    let produced = format!("configmaps default/a@{}", object.revision);
    assert!(steps.iter().any(|step| step.produced.as_deref() == Some(produced.as_str())), "{steps:?}");
}

#[actix::test]
async fn a_client_notes_writes_that_were_taken_and_nothing_else() {
    let api = boot().await;
    let wrote: Arc<AtomicBool> = Arc::default();
    let maps = api.client.noting_writes(wrote.clone()).namespaced::<ConfigMap>("default");
    let map = ConfigMap { metadata: ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() }, ..ConfigMap::default() };
    maps.list(ListOptions::default()).await.expect("listed");
    assert!(maps.get("a").await.is_err() && maps.delete("a", DeleteOptions::default()).await.is_err(), "there is none");
    assert!(!wrote.load(Relaxed));
    maps.create(&map).await.expect("created");
    assert!(wrote.swap(false, Relaxed));
    maps.get("a").await.expect("there");
    maps.create(&map).await.expect_err("it is there already");
    assert!(!wrote.load(Relaxed));
}
