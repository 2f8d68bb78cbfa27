use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use troupe_api::{
    meta::{LabelSelector, Revision},
    service::{EventType, ListOptions, WatchItem, WatchOptions, WatchStream},
};

use crate::apiserver::testing::{TestApi, boot};

async fn labelled(api: &TestApi, name: &str, app: &str) -> troupe_api::meta::Object {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}}})).await
}

async fn next(stream: &mut WatchStream) -> (EventType, String) {
    match tokio::time::timeout(Duration::from_secs(30), stream.next()).await.expect("in time").expect("goes on") {
        WatchItem::Event { event, object, .. } => (event, object.key.name.to_string()),
        other => panic!("expected an event, got {other:?}"),
    }
}

#[actix::test]
async fn a_watch_shows_objects_entering_and_leaving_its_selector() {
    let api = boot().await;
    labelled(&api, "a", "web").await;
    let options = WatchOptions { labels: LabelSelector::parse("app=web").expect("parses"), ..WatchOptions::default() };
    let mut watch = api.watch("configmaps", "default", options).await;
    assert_eq!(next(&mut watch).await, (EventType::Added, "a".into()));
    labelled(&api, "b", "db").await;
    for (app, want) in [("web", EventType::Added), ("db", EventType::Deleted)] {
        let patch = json!({"metadata": {"labels": {"app": app}}});
        api.patch(api.target("configmaps", "default", "b"), troupe_api::service::PatchType::Merge, patch).await.expect("patches");
        assert_eq!(next(&mut watch).await, (want, "b".into()));
    }
}

#[actix::test]
async fn a_watch_resumes_from_a_revision() {
    let api = boot().await;
    let first = labelled(&api, "a", "web").await;
    labelled(&api, "b", "web").await;
    let revision: Revision = first.resource_version().parse().expect("a number");
    let options = WatchOptions { resource_version: Some(revision), ..WatchOptions::default() };
    let mut watch = api.watch("configmaps", "default", options).await;
    assert_eq!(next(&mut watch).await, (EventType::Added, "b".into()));
}

#[actix::test]
async fn pages_of_a_list_stay_on_the_first_pages_revision() {
    let api = boot().await;
    for name in ["a", "b", "c"] {
        labelled(&api, name, "web").await;
    }
    let first = api.list("configmaps", "default", ListOptions { limit: 2, ..ListOptions::default() }).await.expect("lists");
    assert_eq!((first.items.len(), first.remaining), (2, Some(1)));
    api.delete("configmaps", "default", "c", Default::default()).await.expect("deletes");
    labelled(&api, "d", "web").await;
    let options = ListOptions { limit: 2, continue_token: first.continue_token, ..ListOptions::default() };
    let second = api.list("configmaps", "default", options).await.expect("lists");
    assert_eq!(second.items.iter().map(|object| &*object.key.name).collect::<Vec<_>>(), ["c"]);
    assert_eq!((second.revision, second.continue_token), (first.revision, None));
}

#[actix::test]
async fn objects_that_are_alike_are_packed_and_read_as_they_were_made() {
    let api = boot().await;
    let mut made = Vec::new();
    for name in ["alike-a", "alike-b", "alike-c"] {
        let metadata = json!({"name": name, "namespace": "default"});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": "x".repeat(1000)}});
        made.push(api.create(map).await.into_value());
    }
    let list = api.list("configmaps", "default", ListOptions::default()).await.expect("lists");
    let read: Vec<_> = list.items.iter().filter(|item| item.key.name.starts_with("alike-")).collect();
    assert_eq!(read.iter().filter(|item| item.in_one_piece().is_none()).count(), 2, "one is the base of the others");
    assert_eq!(read.iter().map(|item| item.to_object().into_value()).collect::<Vec<_>>(), made);
}
