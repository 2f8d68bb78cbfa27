//! Watch streams.

use std::time::Duration;

use serde_json::json;

use super::{
    client::Door,
    fake::{FakeService, config_map},
};
use crate::service::EventType;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn put(door: &Door, name: &str, event: EventType) {
    door.service.put(&door.service.target("configmaps", "default", ""), &config_map(name, 10), event);
}

#[actix_web::test]
async fn a_watch_tells_what_is_there_and_what_changes() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    let mut admin = door.connect(true).await;
    let mut frames =
        admin.watch(&format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"), &[]).await;
    let first = frames.next().await.expect("an event");
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    let bookmark = frames.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], "2");
    put(&door, "a", EventType::Modified);
    put(&door, "a", EventType::Deleted);
    let modified = frames.next().await.expect("an event");
    assert_eq!((&modified["type"], modified.get("cause")), (&json!("MODIFIED"), None), "who does not ask hears of no causes");
    let deleted = frames.next().await.expect("an event");
    assert_eq!((&deleted["type"], &deleted["object"]["metadata"]["resourceVersion"]), (&json!("DELETED"), &json!("4")));
}

#[actix_web::test]
async fn the_first_table_of_a_watch_describes_its_columns() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    put(&door, "b", EventType::Added);
    let mut admin = door.connect(true).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut frames = admin.watch("/api/v1/watch/namespaces/default/configmaps", &accept).await;
    let first = frames.next().await.expect("an event");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    let second = frames.next().await.expect("an event");
    assert_eq!(second["object"]["columnDefinitions"], json!(null));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[actix_web::test]
async fn a_watch_from_a_lost_revision_is_one_error() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let mut frames = admin.watch(&format!("{MAPS}?watch=1&resourceVersion=1"), &[]).await;
    let error = frames.next().await.expect("an event");
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(frames.next().await, None);
}

#[actix_web::test]
async fn a_watch_ends_when_its_time_is_over_or_the_server_stops() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut timed = door.connect(true).await;
    let mut frames = timed.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1"), &[]).await;
    let end = tokio::time::timeout(Duration::from_secs(5), frames.next()).await;
    assert_eq!(end.expect("ends in time"), None);
    let mut other = door.connect(true).await;
    let mut frames = other.watch(&format!("{MAPS}?watch=1"), &[]).await;
    let handle = door.handle.clone();
    let stopped = actix_web::rt::spawn(async move { handle.stop().await });
    let end = tokio::time::timeout(Duration::from_secs(5), frames.next()).await;
    assert_eq!(end.expect("ends with the server"), None);
    drop((timed, other));
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("stops in time").expect("stops");
}

#[actix_web::test]
async fn the_end_of_initial_events_is_told_in_tables_without_objects_too() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&includeObject=None");
    let mut frames = admin.watch(&path, &accept).await;
    let bookmark = frames.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["rows"][0]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    put(&door, "a", EventType::Added);
    assert_eq!(frames.next().await.expect("an event")["object"]["rows"][0]["object"], json!(null));
}

#[actix_web::test]
async fn a_watch_of_any_state_begins_with_it_and_its_end() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "a", EventType::Added);
    let mut admin = door.connect(true).await;
    for version in ["", "&resourceVersion=0"] {
        let mut frames = admin.watch(&format!("{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1{version}"), &[]).await;
        assert_eq!(frames.next().await.expect("an event")["type"], "ADDED", "{version}");
        assert_eq!(frames.next().await.expect("a bookmark")["type"], "BOOKMARK", "as upstream defaults it");
        assert_eq!(frames.next().await, None);
    }
    let cases = [
        ("sendInitialEvents=true", "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        (
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
    ];
    for (query, why) in cases {
        let refused = admin.get(&format!("{MAPS}?watch=true&{query}")).await;
        assert_eq!(
            (refused.status.as_u16(), refused.json()["message"].as_str()),
            (422, Some(&*format!("ListOptions.meta.k8s.io \"\" is invalid: {why}")))
        );
    }
}
