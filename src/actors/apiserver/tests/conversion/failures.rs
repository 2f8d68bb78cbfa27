use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::service::{DeleteOptions, ListOptions, Operation};

use super::{
    super::webhooks::endpoint::Answer,
    sites::{CRDS, SITES, converted, site, world},
};

use crate::apiserver::testing::eventually;

const OF: &str = "conversion webhook for example.com/v1, Kind=Site";

#[actix::test]
async fn an_answer_is_held_to_upstreams_rules() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 16] = [
        (|answer| answer["uid"] = "x".into(), "failed: expected response.uid="),
        (|answer| answer["result"] = json!({"status": "Failure", "message": "no idea"}), "failed: no idea"),
        (|answer| answer["result"] = json!({"status": "Failure"}), "failed: response.result.status was 'Failure', not 'Success'"),
        (|answer| answer["result"] = json!(null), "failed: response.result.status was '', not 'Success'"),
        (|answer| answer["convertedObjects"] = json!([]), "returned 0 objects, expected 1"),
        (
            |answer| answer["convertedObjects"][0]["apiVersion"] = "example.com/v1".into(),
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v1)",
        ),
        (
            |answer| answer["convertedObjects"][0]["kind"] = "Sight".into(),
            "returned invalid object at index 0: invalid kind (expected Site, received Sight)",
        ),
        (|answer| answer["convertedObjects"][0]["metadata"]["name"] = "b".into(), "returned invalid object: must have the same name: a != b"),
        (
            |answer| answer["convertedObjects"][0]["metadata"]["namespace"] = json!(null),
            "returned invalid object: must have the same namespace: default != ",
        ),
        (|answer| answer["convertedObjects"][0]["metadata"]["uid"] = "u".into(), "returned invalid object: must have the same UID: "),
        (
            |answer| answer["convertedObjects"][0]["metadata"]["labels"] = json!("x"),
            "returned invalid metadata: invalid metadata.labels of type string in converted object",
        ),
        (
            |answer| answer["convertedObjects"][0]["metadata"]["labels"]["n"] = json!(1),
            "returned invalid metadata: metadata.labels[n] must be a string, but is int64 in converted object",
        ),
        (
            |answer| answer["convertedObjects"][0]["metadata"]["labels"]["n"] = json!("no label!"),
            "returned invalid metadata: metadata.labels: Invalid value: \"no label!\": ",
        ),
        (
            |answer| answer["convertedObjects"][0]["metadata"]["annotations"] = json!({"a b": "c"}),
            "returned invalid metadata: metadata.annotation: Invalid value: \"a b\": ",
        ),
        (|answer| answer["convertedObjects"][0] = json!({"apiVersion": "example.com/v2"}), "Object 'Kind' is missing"),
        (|answer| *answer = json!({"convertedObjects": 5}), "failed: couldn't get version/kind; json parse error: "),
    ];
    let chosen = Arc::new(Mutex::new(cases[0].0));
    let answers = chosen.clone();
    let world = world(move |request| {
        let mut answer = converted(request);
        (answers.lock())(&mut answer);
        Answer::Say(answer)
    })
    .await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    for (change, want) in cases {
        *chosen.lock() = change;
        let status = world.get("v2", "a").await.expect_err(want);
        assert_eq!(status.code, 500, "{status}");
        let expected = if want.starts_with("Object") { want.to_owned() } else { format!("{OF} {want}") };
        assert!(status.message.starts_with(&expected), "{} is not {expected}", status.message);
    }
    *chosen.lock() = |answer| {
        answer["convertedObjects"][0]["metadata"]["finalizers"] = json!(["example.com/x"]);
        answer["convertedObjects"][0]["metadata"]["annotations"] = json!({"note": "n"});
    };
    let shown = world.get("v2", "a").await.expect("is fine");
    assert_eq!((shown.get(&["metadata", "finalizers"]), shown.annotation("note")), (None, Some("n")), "labels and annotations are its own");
}

#[actix::test]
async fn who_fails_harms_nobody_else() {
    let world = world(|request| {
        let bad = request["objects"].as_array().is_some_and(|all| all.iter().any(|one| one["metadata"]["name"] == "bad"));
        if bad { Answer::Raw(503, "busy".into()) } else { Answer::Say(converted(request)) }
    })
    .await;
    for name in ["a", "bad"] {
        world.api.create(site("v1", name, json!({"hostPort": "h:80"}))).await;
    }
    let (list, one, other) = futures::join!(world.list("v2", ListOptions::default()), world.get("v2", "a"), world.list("v1", ListOptions::default()));
    assert_eq!(list.expect_err("has the bad one").message, format!("{OF} failed: the server is currently unable to handle the request"));
    assert_eq!(one.expect("is fine").str(&["spec", "host"]), "h");
    assert_eq!(other.expect("needs nobody").items.len(), 2);
    let message = world.api.try_create(site("v2", "bad2", json!({"host": "h"}))).await.expect("is fine");
    assert_eq!(message.api_version(), "example.com/v2");
    let status = world.api.try_create(site("v2", "bad", json!({"host": "h"}))).await.expect_err("cannot be stored");
    assert_eq!(
        (status.code, &*status.message),
        (500, "conversion webhook for example.com/v2, Kind=Site failed: the server is currently unable to handle the request")
    );
}

#[actix::test]
async fn what_hangs_holds_up_nobody_else() {
    let world = world(|request| Answer::Late(Duration::from_secs(60), converted(request))).await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    let waiting = futures::future::join_all((0..50).map(|_| world.get("v2", "a")));
    let done = async {
        for _ in 0..20 {
            world.get("v1", "a").await.expect("needs nobody");
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "m", "namespace": "default"}});
            world.api.create(map).await;
        }
        world.api.delete(CRDS, "", SITES, DeleteOptions::default()).await.expect("goes");
        eventually("the definition goes with its objects", async || world.api.get(CRDS, "", SITES).await.is_err()).await;
    };
    let waits = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            () = done => true,
            _ = waiting => false,
        }
    });
    assert!(waits.await.expect("nobody is held up"), "the webhook did not answer");
}

#[actix::test]
async fn reviews_are_asked_in_the_version_that_the_webhook_likes() {
    let world = world(|request| Answer::Say(converted(request))).await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80"}))).await;
    for (liked, is_known) in [(json!(["v9", "v1beta1", "v1"]), true), (json!(["v1beta1"]), true)] {
        let patch = json!({"spec": {"conversion": {"webhook": {"conversionReviewVersions": liked}}}});
        let patched = world.api.patch(world.api.target(CRDS, "", SITES), troupe_api::service::PatchType::Merge, patch).await;
        assert_eq!(patched.is_ok(), is_known);
        let asks = |world: &super::sites::World| {
            let row = world.at("v1", "", "").resource;
            row.versions().and_then(|versions| versions.webhook()).map(|webhook| json!(webhook.review_versions))
        };
        eventually("the row changes", async || asks(&world) == Some(liked.clone())).await;
        eventually("reads go on", async || world.get("v2", "a").await.is_ok()).await;
    }
    let unknown = json!({"spec": {"conversion": {"webhook": {"conversionReviewVersions": ["v9"]}}}});
    let target = world.api.target(CRDS, "", SITES);
    let body = unknown.to_string().into();
    let operation = Operation::Patch { patch_type: troupe_api::service::PatchType::Merge, body, options: Default::default() };
    let status = world.api.call(target, operation).await.expect_err("nobody would be asked");
    assert!(status.message.contains("must include at least one of v1, v1beta1"), "{status}");
}
