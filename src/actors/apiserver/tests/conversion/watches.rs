use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use troupe_api::{
    meta::FieldSelector,
    service::{DeleteOptions, EventType, PatchType, WatchItem, WatchOptions, WatchStream},
};

use super::{
    super::webhooks::endpoint::Answer,
    sites::{SITES, converted, good_world, site, world},
};

/// The next event: what happened, to whom, and its host in v2 or v1.
async fn next(watch: &mut WatchStream) -> (EventType, String, String) {
    match tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("in time").expect("goes on") {
        WatchItem::Event { event, object, .. } => {
            let tree = object.to_object();
            let field = if tree.api_version() == "example.com/v2" { "host" } else { "hostPort" };
            (event, tree.name().to_owned(), tree.str(&["spec", field]).to_owned())
        }
        other => panic!("an event was expected, not {other:?}"),
    }
}

fn told(event: EventType, name: &str, host: &str) -> (EventType, String, String) {
    (event, name.to_owned(), host.to_owned())
}

#[actix::test]
async fn watches_show_every_event_in_their_version() {
    let world = good_world().await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    let mut watches = Vec::new();
    for version in ["v2", "v2", "v2", "v1"] {
        watches.push((version, world.watch(version, WatchOptions::default()).await));
    }
    for (version, watch) in &mut watches {
        assert_eq!(next(watch).await, told(EventType::Added, "a", if *version == "v2" { "h" } else { "h:80" }));
    }
    assert_eq!(world.questions().len(), 1);
    world.api.patch(world.at("v1", "a", ""), PatchType::Merge, json!({"spec": {"hostPort": "i:81"}})).await.expect("patches");
    world.api.delete(SITES, "default", "a", DeleteOptions::default()).await.expect("deletes");
    for (version, watch) in &mut watches {
        let host = if *version == "v2" { "i" } else { "i:81" };
        assert_eq!(next(watch).await, told(EventType::Modified, "a", host));
        assert_eq!(next(watch).await, told(EventType::Deleted, "a", host));
    }
    assert_eq!(world.questions(), [("example.com/v2".to_owned(), 1)], "all watches share what an object is");
}

#[actix::test]
async fn a_watch_resumes_in_its_version() {
    let world = good_world().await;
    let made = world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    world.api.patch(world.at("v1", "a", ""), PatchType::Merge, json!({"spec": {"hostPort": "i:81"}})).await.expect("patches");
    let from = WatchOptions { resource_version: made.resource_version().parse().ok(), ..WatchOptions::default() };
    let mut watch = world.watch("v2", from).await;
    assert_eq!(next(&mut watch).await, told(EventType::Modified, "a", "i"));
}

#[actix::test]
async fn objects_come_and_go_by_fields_of_the_watched_version() {
    let world = good_world().await;
    for (name, host) in [("a", "one:80"), ("b", "two:80")] {
        world.api.create(site("v1", name, json!({"hostPort": host}))).await;
    }
    let by = |fields: &str| WatchOptions { fields: FieldSelector::parse(fields).expect("parses"), ..WatchOptions::default() };
    let mut watch = world.watch("v2", by("spec.host=one")).await;
    assert_eq!(next(&mut watch).await, told(EventType::Added, "a", "one"));
    for (name, host) in [("b", "one:81"), ("a", "two:80"), ("a", "three:80"), ("b", "one:82")] {
        world.api.patch(world.at("v1", name, ""), PatchType::Merge, json!({"spec": {"hostPort": host}})).await.expect("patches");
    }
    assert_eq!(next(&mut watch).await, told(EventType::Added, "b", "one"));
    assert_eq!(next(&mut watch).await, told(EventType::Deleted, "a", "one"));
    assert_eq!(next(&mut watch).await, told(EventType::Modified, "b", "one"));
}

#[actix::test]
async fn a_watch_ends_with_the_object_that_cannot_be_converted() {
    let world = world(|request| match request["objects"].as_array().is_some_and(|all| all.iter().any(|one| one["metadata"]["name"] == "bad")) {
        true => Answer::Say(json!({"result": {"status": "Failure", "message": "not that one"}})),
        false => Answer::Say(converted(request)),
    })
    .await;
    let mut stored = world.watch("v1", WatchOptions::default()).await;
    let mut other = world.watch("v2", WatchOptions::default()).await;
    for name in ["a", "bad", "c"] {
        world.api.create(site("v1", name, json!({"hostPort": "h:80"}))).await;
    }
    assert_eq!(next(&mut other).await, told(EventType::Added, "a", "h"));
    let WatchItem::End(status) = other.next().await.expect("says why") else { panic!("the watch goes on") };
    let why = "Internal error occurred: conversion webhook for example.com/v1, Kind=Site failed: not that one";
    assert_eq!((status.code, &*status.message), (500, why));
    assert!(other.next().await.is_none());
    for name in ["a", "bad", "c"] {
        assert_eq!(next(&mut stored).await, told(EventType::Added, name, "h:80"), "whoever needs no webhook sees all");
    }
}
