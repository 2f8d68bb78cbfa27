use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use troupe_api::{
    meta::{FieldSelector, Revision},
    service::{ListOptions, VersionMatch, WatchItem, WatchOptions},
    status::Reason,
    store::{Store, memory::MemoryStore},
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with},
};

async fn config_map(api: &TestApi, name: &str) -> Revision {
    let created = api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await;
    created.resource_version().parse().expect("a number")
}

#[actix::test]
async fn a_revision_from_the_future_times_out_as_too_large() {
    let api = boot().await;
    let options =
        ListOptions { resource_version: Some(Revision(1_000_000)), version_match: Some(VersionMatch::NotOlderThan), ..ListOptions::default() };
    let status = api.list("configmaps", "default", options).await.expect_err("is in the future");
    assert_eq!((status.code, status.reason), (504, Reason::Timeout));
    assert!(status.message.starts_with("Timeout: Too large resource version: 1000000, current: "), "{}", status.message);
}

#[actix::test]
async fn an_exact_revision_shows_the_past() {
    let api = boot().await;
    let first = config_map(&api, "a").await;
    config_map(&api, "b").await;
    let options = ListOptions { resource_version: Some(first), version_match: Some(VersionMatch::Exact), ..ListOptions::default() };
    let list = api.list("configmaps", "default", options).await.expect("lists");
    assert_eq!((list.items.len(), list.revision), (1, first));
}

#[actix::test]
async fn a_compacted_page_offers_an_inconsistent_continuation() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let api = boot_with(ApiServerOptions::new(store.clone())).await;
    let old = config_map(&api, "a").await;
    let token = crate::apiserver::continue_token::ContinueToken { revision: Some(old), last: troupe_api::meta::ObjectKey::new("default", "a") };
    config_map(&api, "b").await;
    let newest = config_map(&api, "c").await;
    store.compact(newest).await.expect("compacts");
    let options = ListOptions { continue_token: Some(token.encode()), ..ListOptions::default() };
    let status = api.list("configmaps", "default", options).await.expect_err("is compacted");
    assert_eq!((status.code, status.reason), (410, Reason::Expired));
    let options = ListOptions { continue_token: status.continue_token.map(Into::into), ..ListOptions::default() };
    let rest = api.list("configmaps", "default", options).await.expect("goes on");
    assert_eq!(rest.items.iter().map(|object| &*object.key.name).collect::<Vec<_>>(), ["b", "c"]);
}

#[actix::test]
async fn a_watch_from_before_the_history_ends_with_410() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let first = boot_with(ApiServerOptions::new(store.clone())).await;
    let old = config_map(&first, "a").await;
    let newest = config_map(&first, "b").await;
    store.compact(newest).await.expect("compacts");
    let second = boot_with(ApiServerOptions::new(store)).await;
    let mut watch =
        second.watch("configmaps", "default", WatchOptions { resource_version: Some(Revision(old.0 - 1)), ..WatchOptions::default() }).await;
    match watch.next().await {
        Some(WatchItem::End(status)) => {
            assert_eq!(status.code, 410);
            assert!(status.message.starts_with("too old resource version: "), "{}", status.message);
        }
        other => panic!("expected the end, got {other:?}"),
    }
}

#[actix::test]
async fn a_watch_from_before_a_restart_resumes_from_the_store() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let first = boot_with(ApiServerOptions::new(store.clone())).await;
    let old = config_map(&first, "a").await;
    config_map(&first, "b").await;
    let second = boot_with(ApiServerOptions::new(store)).await;
    let mut watch = second.watch("configmaps", "default", WatchOptions { resource_version: Some(old), ..WatchOptions::default() }).await;
    config_map(&second, "c").await;
    for want in ["b", "c"] {
        match tokio::time::timeout(Duration::from_secs(5), watch.next()).await.expect("in time") {
            Some(WatchItem::Event { object, .. }) => assert_eq!(&*object.key.name, want),
            other => panic!("expected {want}, got {other:?}"),
        }
    }
}

#[actix::test]
async fn initial_events_end_with_an_annotated_bookmark() {
    let api = boot().await;
    config_map(&api, "a").await;
    let newest = config_map(&api, "b").await;
    let options = WatchOptions { send_initial_events: true, allow_bookmarks: true, ..WatchOptions::default() };
    let mut watch = api.watch("configmaps", "default", options).await;
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some(WatchItem::Event { .. })));
    }
    match tokio::time::timeout(Duration::from_secs(5), watch.next()).await.expect("in time") {
        Some(WatchItem::Bookmark { revision, initial_end }) => assert!(initial_end && revision >= newest),
        other => panic!("expected a bookmark, got {other:?}"),
    }
}

#[actix::test]
async fn an_unknown_field_cannot_be_selected_by() {
    let api = boot().await;
    let options = ListOptions { fields: FieldSelector::parse("data.a=1").expect("parses"), ..ListOptions::default() };
    assert_eq!(api.list("configmaps", "default", options).await.expect_err("is refused").code, 400);
}

#[actix::test]
async fn two_servers_over_one_store_see_each_others_writes() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let first = boot_with(ApiServerOptions::new(store.clone())).await;
    let second = boot_with(ApiServerOptions::new(store)).await;
    config_map(&first, "a").await;
    assert_eq!(second.names("configmaps", "default").await, ["a"]);
}
