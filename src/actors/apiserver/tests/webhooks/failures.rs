use std::time::{Duration, Instant};

use serde_json::{Value, json};
use troupe_api::service::{Body, Operation, WriteOptions};

use super::endpoint::{Answer, Endpoint, allowed, boot, configuration, map};

/// What becomes of a create when such a webhook is asked, which must be the same for both kinds of webhooks.
async fn outcome(hook: &Endpoint, change: Value) -> Result<(), (u16, String)> {
    let mut outcomes = Vec::new();
    for kind in ["Mutating", "Validating"] {
        let api = boot().await;
        api.create(configuration(kind, "c", vec![hook.webhook("a.example.com", change.clone())])).await;
        outcomes.push(api.try_create(map("m")).await.map(drop).map_err(|status| (status.code, status.message)));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    outcomes.remove(0)
}

const FAILED: &str = "Internal error occurred: failed calling webhook \"a.example.com\": ";

#[actix::test]
async fn a_webhook_that_is_down_refuses_or_does_not_count_as_its_policy_says() {
    let hook = Endpoint::serve(|_| allowed()).await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = unused.local_addr().expect("bound").port();
    drop(unused);
    let mut client = hook.webhook("a.example.com", json!({}))["clientConfig"].clone();
    client["url"] = json!(format!("https://127.0.0.1:{port}/here"));
    assert_eq!(outcome(&hook, json!({"clientConfig": client, "failurePolicy": "Ignore"})).await, Ok(()));
    let (code, message) = outcome(&hook, json!({"clientConfig": client})).await.expect_err("is refused");
    let why =
        format!("failed to call webhook: Post \"https://127.0.0.1:{port}/here?timeout=10s\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!((code, message), (500, format!("{FAILED}{why}")));
}

#[actix::test]
async fn a_webhook_has_its_time_and_no_more() {
    let hook = Endpoint::serve(|_| Answer::Late(Duration::from_secs(5), json!({"allowed": true}))).await;
    let began = Instant::now();
    assert_eq!(outcome(&hook, json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"})).await, Ok(()));
    let url = format!("https://127.0.0.1:{}/here?timeout=1s", hook.port);
    let why = format!("{FAILED}failed to call webhook: Post \"{url}\": context deadline exceeded");
    assert_eq!(outcome(&hook, json!({"timeoutSeconds": 1})).await, Err((500, why)));
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[actix::test]
async fn answers_that_are_none_are_failures() {
    let invalid = "received invalid webhook response: ";
    for (answer, said) in [
        (
            json!({"code": 500, "body": "broken"}),
            "failed to call webhook: an error on the server (\"broken\") has prevented the request from succeeding".to_owned(),
        ),
        (json!({"code": 404, "body": ""}), "failed to call webhook: the server could not find the requested resource".to_owned()),
        (
            json!({"code": 302, "body": ""}),
            "failed to call webhook: the server responded with the status code 302 but did not return more information".to_owned(),
        ),
        (
            json!({"code": 200, "body": "{\"kind\": \"AdmissionReview\", \"apiVersion\": \"admission.k8s.io/v1\"}"}),
            format!("{invalid}webhook response was absent"),
        ),
    ] {
        let raw = answer.clone();
        let hook = Endpoint::serve(move |_| {
            Answer::Raw(raw["code"].as_u64().unwrap_or_default() as u16, raw["body"].as_str().unwrap_or_default().to_owned())
        })
        .await;
        assert_eq!(outcome(&hook, json!({})).await, Err((500, format!("{FAILED}{said}"))), "{answer}");
        assert_eq!(outcome(&hook, json!({"failurePolicy": "Ignore"})).await, Ok(()), "{answer}");
    }
    let other = Endpoint::serve(|_| Answer::Say(json!({"allowed": true, "uid": "another"}))).await;
    let (_, message) = outcome_of_one(&other).await;
    assert!(message.starts_with(&format!("{FAILED}{invalid}expected response.uid=\"")) && message.ends_with("\", got \"another\""), "{message}");
    let long = Endpoint::serve(|_| Answer::Raw(200, " ".repeat(6 << 20))).await;
    assert!(outcome_of_one(&long).await.1.starts_with(FAILED));
}

async fn outcome_of_one(hook: &Endpoint) -> (u16, String) {
    let api = boot().await;
    api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    let status = api.try_create(map("m")).await.expect_err("is refused");
    (status.code, status.message)
}

#[actix::test]
async fn whom_nobody_vouches_for_is_not_asked() {
    let (hook, stranger) = (Endpoint::serve(|_| allowed()).await, Endpoint::serve(|_| allowed()).await);
    let mut client = hook.webhook("a.example.com", json!({}))["clientConfig"].clone();
    client["url"] = json!(format!("https://127.0.0.1:{}/here", stranger.port));
    let (code, message) = outcome(&hook, json!({"clientConfig": client})).await.expect_err("is refused");
    assert!(code == 500 && message.contains("tls: "), "{message}");
    assert!(stranger.asked().is_empty());
}

#[actix::test]
async fn a_server_of_a_cluster_reaches_no_webhook_on_its_own_machine() {
    let (api, hook) = (crate::apiserver::testing::boot().await, Endpoint::serve(|_| allowed()).await);
    api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
    let refused = api.try_create(map("m")).await.expect_err("is refused");
    assert!(refused.message.ends_with(&format!("dial tcp 127.0.0.1:{}: address not allowed", hook.port)), "{refused}");
    assert_eq!(hook.connections(), 0);
}

#[actix::test]
async fn what_is_not_really_done_is_only_asked_of_those_without_side_effects() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| allowed()).await);
    let dry_create = async || {
        let (body, options) = (Body::Json(map("m").to_string().into()), WriteOptions { dry_run: true, ..WriteOptions::default() });
        api.call(api.target("configmaps", "default", ""), Operation::Create { body, options }).await.map(drop)
    };
    for kind in ["Mutating", "Validating"] {
        api.create(configuration(kind, "c", vec![hook.webhook("a.example.com", json!({"sideEffects": "NoneOnDryRun"}))])).await;
    }
    dry_create().await.expect("is fine");
    let asked = hook.asked();
    assert_eq!((asked.len(), &asked[0]["dryRun"], &asked[1]["options"]["dryRun"]), (2, &json!(true), &json!(["All"])));
    assert!(api.get("configmaps", "default", "m").await.is_err());
}
