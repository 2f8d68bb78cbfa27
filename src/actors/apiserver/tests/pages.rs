use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use troupe_api::{
    meta::{Clock, FieldSelector, Revision, SystemClock},
    service::{ListOptions, VersionMatch, WatchItem, WatchOptions},
    status::Reason,
};
use troupe_api_server::store::{Store, memory::MemoryStore};

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

/// The system's clock, set ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn instant(&self) -> Instant {
        SystemClock.instant() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[actix::test]
async fn pages_that_are_asked_for_again_and_again_expire_all_the_same() {
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(Ahead::default()));
    let api = boot_with(ApiServerOptions { clock: clock.clone(), ..ApiServerOptions::new(store.clone()) }).await;
    for name in ["a", "b", "c", "d"] {
        config_map(&api, name).await;
    }
    let page = |token: Option<Arc<str>>| ListOptions { limit: 1, continue_token: token.map(|token| token.to_string()), ..ListOptions::default() };
    let token: Arc<str> = api.list("configmaps", "default", page(None)).await.expect("lists").continue_token.expect("there is more").into();
    let newest = config_map(&api, "e").await;
    // Of another resource, so that this one does not change any more while time goes on.
    api.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}})).await;
    for minute in 0..12 {
        clock.0.store(minute * 60, Ordering::Relaxed);
        // Upstream's store forgets within ten minutes.
        if minute == 8 {
            store.compact(newest).await.expect("compacts");
        }
        let outcome = api.list("configmaps", "default", page(Some(token.clone()))).await;
        match outcome {
            Ok(reply) => assert!(minute < 8 && &*reply.items[0].key.name == "b", "minute {minute}"),
            Err(status) => assert!(minute >= 8 && status.code == 410, "minute {minute}: {status:?}"),
        }
    }
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
        match tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time") {
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
    let options = WatchOptions { send_initial_events: Some(true), allow_bookmarks: true, ..WatchOptions::default() };
    let mut watch = api.watch("configmaps", "default", options).await;
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some(WatchItem::Event { .. })));
    }
    match tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time") {
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

#[actix::test]
async fn a_first_page_of_a_revision_is_of_that_revision() {
    let api = boot().await;
    let first = config_map(&api, "a").await;
    config_map(&api, "b").await;
    let paged = ListOptions { resource_version: Some(first), limit: 10, ..ListOptions::default() };
    let list = api.list("configmaps", "default", paged.clone()).await.expect("lists");
    assert_eq!((list.items.len(), list.revision), (1, first));
    let any = ListOptions { resource_version: Some(Revision::ZERO), limit: 1, ..ListOptions::default() };
    let list = api.list("configmaps", "default", any).await.expect("lists");
    assert_eq!((list.items.len(), list.continue_token), (2, None), "any state comes whole");
    let newest = ListOptions { limit: 1, ..ListOptions::default() };
    let token = api.list("configmaps", "default", newest).await.expect("lists").continue_token;
    let both = ListOptions { continue_token: token, ..paged };
    let status = api.list("configmaps", "default", both).await.expect_err("two revisions");
    assert_eq!((status.code, status.message.as_str()), (400, "specifying resource version is not allowed when using continue"));
}

#[actix::test]
async fn a_watch_may_begin_without_what_is_there() {
    let api = boot().await;
    config_map(&api, "a").await;
    for resource_version in [None, Some(Revision::ZERO)] {
        let options = WatchOptions { send_initial_events: Some(false), resource_version, ..WatchOptions::default() };
        let mut watch = api.watch("configmaps", "default", options).await;
        let name = format!("new-{}", resource_version.is_some());
        config_map(&api, &name).await;
        match tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time") {
            Some(WatchItem::Event { object, .. }) => assert_eq!(*object.key.name, name),
            other => panic!("expected an event, got {other:?}"),
        }
    }
}

#[actix::test]
async fn a_short_watch_gets_a_bookmark_before_it_ends() {
    let api = boot().await;
    let newest = config_map(&api, "a").await;
    let lasts = Some(Duration::from_secs(3));
    let options = WatchOptions { resource_version: Some(newest), allow_bookmarks: true, lasts, ..WatchOptions::default() };
    let mut watch = api.watch("configmaps", "default", options).await;
    match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time") {
        Some(WatchItem::Bookmark { revision, initial_end: false }) => assert!(revision >= newest),
        other => panic!("expected a bookmark, got {other:?}"),
    }
}
