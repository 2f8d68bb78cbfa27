use serde_json::json;
use troupe_api::{
    meta::{FieldSelector, LabelSelector},
    service::ListOptions,
};

use super::sites::{good_world, site};
use crate::apiserver::{ApiServerOptions, testing::boot_with};

fn names(list: &troupe_api::service::ListReply) -> Vec<String> {
    list.items.iter().map(|item| item.key.name.to_string()).collect()
}

#[actix::test]
async fn the_stored_version_asks_nobody_and_others_ask_once() {
    let world = good_world().await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    assert_eq!(world.get("v1", "a").await.expect("is there").get(&["spec"]), Some(&json!({"hostPort": "h:80", "note": "of v1"})));
    assert_eq!(world.questions(), []);
    for _ in 0..3 {
        let shown = world.get("v2", "a").await.expect("is there");
        assert_eq!((shown.api_version(), shown.get(&["spec"])), ("example.com/v2", Some(&json!({"host": "h", "port": "80", "note": "of v1"}))));
        assert_eq!(shown.label("shown"), Some("v2"));
    }
    assert_eq!(world.questions(), [("example.com/v2".to_owned(), 1)]);
}

#[actix::test]
async fn a_list_asks_for_all_its_objects_at_once() {
    let world = good_world().await;
    for name in ["a", "b", "c", "d"] {
        world.api.create(site("v1", name, json!({"hostPort": format!("{name}:80")}))).await;
    }
    world.get("v2", "a").await.expect("is there");
    world.questions();
    let list = world.list("v2", ListOptions::default()).await.expect("lists");
    assert!(list.items.iter().all(|item| item.api_version() == "example.com/v2"), "{list:?}");
    assert_eq!(world.questions(), [("example.com/v2".to_owned(), 3)], "one is known already");
    world.list("v2", ListOptions::default()).await.expect("lists");
    world.list("v1", ListOptions::default()).await.expect("lists");
    assert_eq!(world.questions(), []);
}

#[actix::test]
async fn who_asks_for_the_same_at_the_same_time_shares_the_answer() {
    let world = good_world().await;
    for name in ["a", "b", "c"] {
        world.api.create(site("v1", name, json!({"hostPort": "h:80"}))).await;
    }
    let lists = futures::future::join_all((0..20).map(|_| world.list("v2", ListOptions::default()))).await;
    assert!(lists.iter().all(Result::is_ok));
    assert_eq!(world.questions(), [("example.com/v2".to_owned(), 3)]);
}

#[actix::test]
async fn selectors_are_of_the_version_that_is_asked_for() {
    let world = good_world().await;
    for (name, host) in [("a", "one:80"), ("b", "two:80"), ("c", "one:90"), ("d", "one:91")] {
        world.api.create(site("v1", name, json!({"hostPort": host}))).await;
    }
    let by_fields = |text: &str| ListOptions { fields: FieldSelector::parse(text).expect("parses"), ..ListOptions::default() };
    for (version, fields, want) in [
        ("v2", "spec.host=one", vec!["a", "c", "d"]),
        ("v2", "spec.host=one,spec.port=90", vec!["c"]),
        ("v2", "spec.host!=one", vec!["b"]),
        ("v1", "spec.hostPort=one:80", vec!["a"]),
    ] {
        assert_eq!(names(&world.list(version, by_fields(fields)).await.expect(fields)), want, "{version} {fields}");
    }
    for (version, fields) in [("v1", "spec.host=one"), ("v2", "spec.hostPort=one:80")] {
        let status = world.list(version, by_fields(fields)).await.expect_err("is none of the version's fields");
        assert_eq!((status.code, &*status.message), (400, &*format!("field label not supported: {}", fields.split('=').next().unwrap_or_default())));
    }
    let labelled = || ListOptions { labels: LabelSelector::parse("shown=v2").expect("parses"), ..ListOptions::default() };
    assert_eq!(world.list("v2", labelled()).await.expect("lists").items.len(), 4);
    assert_eq!(world.list("v1", labelled()).await.expect("lists").items.len(), 0);
    let first = ListOptions { limit: 2, ..by_fields("spec.host=one") };
    let page = world.list("v2", first.clone()).await.expect("lists");
    assert_eq!((names(&page), page.remaining), (vec!["a".to_owned(), "c".into()], None));
    let rest = ListOptions { continue_token: page.continue_token, ..first };
    let page = world.list("v2", rest).await.expect("lists");
    assert_eq!((names(&page), page.continue_token), (vec!["d".to_owned()], None));
}

#[actix::test]
async fn columns_are_of_the_version_that_is_asked_for() {
    let world = good_world().await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    for (version, want) in [("v1", vec!["a", "h:80"]), ("v2", vec!["a", "h", "80"])] {
        let target = world.at(version, "a", "");
        let cells = target.served().strategy.cells(&world.get(version, "a").await.expect("is there"), &troupe_api::meta::SystemClock);
        assert_eq!(cells, want, "{version}");
    }
}

#[actix::test]
async fn a_server_starts_without_the_webhook() {
    let world = good_world().await;
    world.api.create(site("v2", "a", json!({"host": "h", "port": "80"}))).await;
    // The second server may reach nothing on this machine.
    let second = boot_with(ApiServerOptions::new(world.store.clone())).await;
    let at = |version: &str| troupe_api::service::Target { version: version.into(), ..second.target("sites.example.com", "default", "a") };
    let get = |version: &str| second.call(at(version), troupe_api::service::Operation::Get { resource_version: None });
    let shown = get("v1").await.expect("lies there").into_tree().expect("an object");
    assert_eq!(shown.str(&["spec", "hostPort"]), "h:80");
    let status = get("v2").await.expect_err("has to be converted");
    assert!(status.message.starts_with("conversion webhook for example.com/v1, Kind=Site failed: Post \"https://127.0.0.1:"), "{status}");
    assert_eq!(status.code, 500);
}
