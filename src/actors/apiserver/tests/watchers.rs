//! Watchers of one resource behind the API server's door.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use troupe_api::{
    meta::{Cause, FieldSelector, LabelSelector, Revision},
    service::{EventType, WatchItem, WatchOptions, WatchStream},
};

use crate::apiserver::testing::{TestApi, boot};

const UNIT: &str = "apiserver/configmaps/watchers";
const PATIENCE: Duration = Duration::from_secs(60);

async fn config_map(api: &TestApi, name: &str, labels: serde_json::Value) {
    let metadata = json!({"name": name, "namespace": "default", "labels": labels});
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
}

async fn next(watch: &mut WatchStream) -> Option<(EventType, String, Revision)> {
    match tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch goes on or ends") {
        Some(WatchItem::Event { event, object, .. }) => Some((event, object.key.name.to_string(), object.revision)),
        Some(other) => panic!("expected an event, got {other:?}"),
        None => None,
    }
}

fn after(revision: Revision, labels: &str, fields: &str) -> WatchOptions {
    let labels = LabelSelector::parse(labels).expect("labels");
    let fields = FieldSelector::parse(fields).expect("fields");
    WatchOptions { labels, fields, resource_version: Some(revision), ..WatchOptions::default() }
}

async fn newest(api: &TestApi) -> Revision {
    api.list("configmaps", "default", Default::default()).await.expect("lists").revision
}

#[actix::test]
async fn a_write_waits_for_nobodys_watch() {
    let api = boot().await;
    let begun = newest(&api).await;
    let mut watch = api.watch("configmaps", "default", after(begun, "", "")).await;
    // Whatever watchers wait for, the reply does not.
    let directory = api.server.system().directory();
    assert!(directory.delay(UNIT, Duration::from_secs(8)), "it began with the watch");
    let written = tokio::time::Instant::now();
    for name in ["a", "b", "c"] {
        config_map(&api, name, json!({})).await;
    }
    assert!(written.elapsed() < Duration::from_secs(7), "{:?}", written.elapsed());
    directory.delay(UNIT, Duration::ZERO);
    for name in ["a", "b", "c"] {
        assert_eq!(next(&mut watch).await.map(|(_, seen, _)| seen).as_deref(), Some(name));
    }
}

#[actix::test]
async fn watches_of_ours_that_begin_late_hear_of_the_cause_of_what_there_is() {
    let api = boot().await;
    let begun = newest(&api).await;
    let mut early = api.watch("configmaps", "default", after(begun, "", "")).await;
    config_map(&api, "a", json!({})).await;
    let cause = async |watch: &mut WatchStream| match tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time") {
        Some(WatchItem::Event { object, cause, .. }) if &*object.key.name == "a" => cause,
        other => panic!("expected the object, got {other:?}"),
    };
    let wrote = cause(&mut early).await;
    assert!(wrote.trace != 0 && wrote.object.is_some(), "{wrote:?}");
    let name = FieldSelector::parse("metadata.name=a").expect("fields");
    let late =
        |progress| WatchOptions { fields: name.clone(), send_initial_events: Some(true), allow_bookmarks: true, progress, ..WatchOptions::default() };
    assert_eq!(cause(&mut api.watch("configmaps", "default", late(true)).await).await, wrote);
    assert_eq!(cause(&mut api.watch("configmaps", "default", late(false)).await).await, Cause::default(), "nobody else is told");
}

#[actix::test]
async fn each_watcher_is_told_what_it_selects_in_order() {
    let api = boot().await;
    let begun = newest(&api).await;
    let mut by_name = Vec::new();
    let mut by_label = Vec::new();
    for at in 0..50 {
        by_name.push(api.watch("configmaps", "default", after(begun, "", &format!("metadata.name=m{at}"))).await);
        by_label.push(api.watch("configmaps", "", after(begun, &format!("shard={}", at % 5), "")).await);
    }
    for at in 0..50 {
        config_map(&api, &format!("m{at}"), json!({"shard": (at % 5).to_string()})).await;
    }
    // Who begins in the middle misses nothing either.
    let mut late = api.watch("configmaps", "", after(begun, "shard=3", "")).await;
    config_map(&api, "last", json!({"shard": "3"})).await;
    for (at, watch) in by_name.iter_mut().enumerate() {
        assert_eq!(next(watch).await.map(|(_, name, _)| name), Some(format!("m{at}")));
    }
    for (at, watch) in by_label.iter_mut().enumerate() {
        for number in 0..10 {
            assert_eq!(next(watch).await.map(|(_, name, _)| name), Some(format!("m{}", number * 5 + at % 5)));
        }
    }
    for number in 0..10 {
        assert_eq!(next(&mut late).await.map(|(_, name, _)| name), Some(format!("m{}", number * 5 + 3)));
    }
    assert_eq!(next(&mut late).await.map(|(_, name, _)| name).as_deref(), Some("last"));
}

#[actix::test]
async fn watches_end_with_the_unit_that_tells_them_and_resume() {
    let api = boot().await;
    let begun = newest(&api).await;
    let mut watch = api.watch("configmaps", "default", after(begun, "", "")).await;
    config_map(&api, "a", json!({})).await;
    let (_, _, seen) = next(&mut watch).await.expect("an event");
    assert!(api.server.system().directory().kill(UNIT));
    config_map(&api, "b", json!({})).await;
    while next(&mut watch).await.is_some() {}
    let mut watch = api.watch("configmaps", "default", after(seen, "", "")).await;
    assert_eq!(next(&mut watch).await.map(|(_, name, _)| name).as_deref(), Some("b"));
    config_map(&api, "c", json!({})).await;
    assert_eq!(next(&mut watch).await.map(|(_, name, _)| name).as_deref(), Some("c"));
}

#[actix::test]
async fn watches_begin_after_the_unit_that_tells_them_was_stopped() {
    let api = boot().await;
    let begun = newest(&api).await;
    let mut watch = api.watch("configmaps", "default", after(begun, "", "")).await;
    api.server.system().stop(UNIT);
    while next(&mut watch).await.is_some() {}
    let mut watch = api.watch("configmaps", "default", after(begun, "", "")).await;
    config_map(&api, "a", json!({})).await;
    assert_eq!(next(&mut watch).await.map(|(_, name, _)| name).as_deref(), Some("a"));
}

/// Messages that the unit at `path` has handled.
fn handled(api: &TestApi, path: &str) -> u64 {
    let actors = api.server.system().directory().snapshot();
    actors.iter().find(|actor| &*actor.path == path).expect("it lives").handled
}

#[actix::test]
async fn time_is_told_to_a_resource_only_while_somebody_watches_it() {
    const RESOURCE: &str = "apiserver/limitranges";
    let api = boot().await;
    let before = handled(&api, RESOURCE);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(handled(&api, RESOURCE), before);
    let options = WatchOptions { lasts: Some(2 * PATIENCE), ..after(newest(&api).await, "", "") };
    let _watch = api.watch("limitranges", "default", options).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // The watch begins, then come ticks.
    while handled(&api, RESOURCE) < before + 3 {
        assert!(tokio::time::Instant::now() < deadline, "no time is told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
