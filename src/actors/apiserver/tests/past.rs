//! Reads and watches of what is no longer in memory.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::json;
use troupe_api::{
    meta::Revision,
    service::{ListOptions, VersionMatch, WatchItem, WatchOptions},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with},
};

async fn config_map(api: &TestApi, namespace: &str, name: &str, bytes: usize) -> Revision {
    let data = json!({"text": "x".repeat(bytes)});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data});
    api.create(map).await.resource_version().parse().expect("a number")
}

/// With a history of a few objects.
async fn forgetful() -> TestApi {
    boot_with(ApiServerOptions { history_bytes: 4 << 10, ..ApiServerOptions::new(Arc::new(MemoryStore::new())) }).await
}

async fn names(watch: &mut troupe_api::service::WatchStream, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        match tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time").expect("goes on") {
            WatchItem::Event { object, .. } => names.push(object.key.name.to_string()),
            WatchItem::Bookmark { .. } => {}
            other => panic!("expected an event, got {other:?}"),
        }
    }
    names
}

#[actix::test]
async fn a_page_of_the_past_reads_one_namespace_and_leaves_others_whole() {
    let api = boot().await;
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})).await;
    for name in ["a", "b"] {
        config_map(&api, "default", name, 1).await;
    }
    let old = config_map(&api, "other", "c", 1).await;
    config_map(&api, "other", "d", 1).await;
    let exact = ListOptions { resource_version: Some(old), version_match: Some(VersionMatch::Exact), limit: 1, ..ListOptions::default() };
    let first = api.list("configmaps", "default", exact.clone()).await.expect("lists");
    assert_eq!((first.items.len(), first.remaining, first.revision), (1, Some(1), old));
    let all = api.list("configmaps", "", ListOptions { limit: 0, ..exact }).await.expect("lists");
    let all: Vec<_> = all.items.iter().map(|item| item.key.name.to_string()).filter(|name| name.len() == 1).collect();
    assert_eq!(all, ["a", "b", "c"], "what one namespace was read for is not all there is");
    let rest = ListOptions { continue_token: first.continue_token, ..ListOptions::default() };
    let second = api.list("configmaps", "default", rest).await.expect("goes on");
    assert_eq!(second.items.iter().map(|item| &*item.key.name).collect::<Vec<_>>(), ["b"]);
}

#[actix::test]
async fn a_watch_behind_the_history_is_replayed_and_goes_on_with_the_news() {
    let api = forgetful().await;
    let old = config_map(&api, "default", "a", 1).await;
    for at in 0..20 {
        config_map(&api, "default", &format!("m{at:02}"), 1 << 10).await;
    }
    let options = || WatchOptions { resource_version: Some(old), ..WatchOptions::default() };
    let expected: Vec<String> = (0..20).map(|at| format!("m{at:02}")).collect();
    let mut watch = api.watch("configmaps", "default", options()).await;
    assert_eq!(names(&mut watch, 20).await, expected);
    config_map(&api, "default", "news", 1).await;
    assert_eq!(names(&mut watch, 1).await, ["news"]);

    // Whoever has caught up replays no longer: there is room for any number, one after the other, but not for all at once.
    for _ in 0..6 {
        let mut again = api.watch("configmaps", "default", options()).await;
        names(&mut again, 21).await;
        config_map(&api, "default", &format!("more-{}", uuid::Uuid::new_v4()), 1).await;
    }
    let mut under_way = Vec::new();
    let refused = loop {
        match api.try_watch("configmaps", "default", options()).await {
            Ok(watch) if under_way.len() < 4 => under_way.push(watch),
            Ok(_) => panic!("everybody replays"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code, 410);
    assert!(refused.message.starts_with("too old resource version: "), "{}", refused.message);
}

#[actix::test]
async fn a_watch_from_before_a_restart_hears_how_far_it_is_though_nothing_happened_since() {
    let store = Arc::new(MemoryStore::new());
    let first = boot_with(ApiServerOptions::new(store.clone())).await;
    let old = config_map(&first, "default", "a", 1).await;
    let other = first.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})).await;
    let other: Revision = other.resource_version().parse().expect("a number");
    let second = boot_with(ApiServerOptions::new(store)).await;
    let options = || WatchOptions { resource_version: Some(old), allow_bookmarks: true, progress: true, ..WatchOptions::default() };
    let mut watch = loop {
        if let Ok(watch) = second.try_watch("configmaps", "default", options()).await {
            break watch;
        }
        // As many as may replay in this process do so in other tests.
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time") {
        Some(WatchItem::Bookmark { revision, initial_end: false }) => assert!(revision >= other, "{revision} is what it knew"),
        told => panic!("expected a bookmark, got {told:?}"),
    }
    config_map(&second, "default", "b", 1).await;
    assert_eq!(names(&mut watch, 1).await, ["b"]);
}

#[actix::test]
async fn a_watch_begins_with_all_objects_of_its_namespace_whatever_their_number() {
    let api = boot().await;
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})).await;
    for at in 0..600 {
        config_map(&api, "default", &format!("m{at:03}"), 1).await;
    }
    config_map(&api, "other", "z", 1).await;
    let mut watch = api.watch("configmaps", "default", WatchOptions::default()).await;
    let begun = names(&mut watch, 600).await;
    assert!(begun.iter().enumerate().all(|(at, name)| *name == format!("m{at:03}")), "{begun:?}");
    config_map(&api, "default", "news", 1).await;
    assert_eq!(names(&mut watch, 1).await, ["news"]);
}
