use serde_json::json;

use super::{
    super::metrics::counted_of,
    endpoint::{Answer, Endpoint, allowed, boot, configuration, denied, map},
};

/// Conditions that hold are counted nowhere.
const NOTHING: [Option<f64>; 3] = [None; 3];

#[actix::test]
async fn a_refusal_is_told_in_the_words_of_the_webhook() {
    for (status, code, said) in [
        (json!({"message": "no maps today", "code": 403, "reason": "Forbidden"}), 403, ": no maps today"),
        (json!({"message": "no maps today"}), 400, ": no maps today"),
        (json!({"reason": "Because"}), 400, ": Because"),
        (json!({"code": 200, "status": "Success"}), 400, " without explanation"),
        (json!(null), 400, " without explanation"),
    ] {
        let reason = status["reason"].clone();
        let (api, hook) = (boot().await, Endpoint::serve(move |_| denied(status.clone())).await);
        api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", json!({}))])).await;
        let refused = api.try_create(map("m")).await.expect_err("is refused");
        assert_eq!(refused.to_json()["reason"], reason);
        assert_eq!((refused.code, refused.message), (code, format!("admission webhook \"a.example.com\" denied the request{said}")));
        assert!(api.get("configmaps", "default", "m").await.is_err(), "nothing is stored");
    }
}

#[actix::test]
async fn all_are_asked_at_once_and_the_first_refusal_in_order_counts() {
    let hook = Endpoint::serve(|_| Answer::Late(std::time::Duration::from_secs(2), json!({"allowed": false, "status": {"message": "slow"}})));
    let (api, slow, fast) = (boot().await, hook.await, Endpoint::serve(|_| denied(json!({"message": "fast"}))).await);
    let webhooks = vec![slow.webhook("a.example.com", json!({})), fast.webhook("b.example.com", json!({})), slow.webhook("c.example.com", json!({}))];
    api.create(configuration("Validating", "c", webhooks)).await;
    let began = std::time::Instant::now();
    let refused = api.try_create(map("m")).await.expect_err("is refused");
    assert_eq!(refused.message, "admission webhook \"a.example.com\" denied the request: slow");
    assert!(began.elapsed() < std::time::Duration::from_millis(3900), "one after the other: {:?}", began.elapsed());
    assert_eq!((slow.asked().len(), fast.asked().len()), (2, 1));
}

#[actix::test]
async fn only_what_selectors_select_is_asked_about() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| denied(json!({"message": "no"}))).await);
    for (name, labels) in [("marked", json!({"checked": "yes"})), ("other", json!({}))] {
        api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})).await;
    }
    let selectors = json!({"namespaceSelector": {"matchLabels": {"checked": "yes"}}, "objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}});
    api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", selectors)])).await;
    for (namespace, labels, passes) in
        [("marked", json!({}), false), ("marked", json!({"skip": "me"}), true), ("other", json!({}), true), ("default", json!({}), true)]
    {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": namespace, "labels": labels}});
        assert_eq!(api.try_create(object).await.is_ok(), passes, "{namespace} {labels}");
    }
}

#[actix::test]
async fn configurations_count_from_the_moment_they_are_written_and_are_asked_about_by_nobody() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| denied(json!({"message": "no"}))).await);
    let everything = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    for round in 0..3 {
        api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", everything.clone())])).await;
        assert!(api.try_create(map("m")).await.is_err(), "round {round}");
        api.create(configuration("Mutating", "c", vec![])).await;
        let name = "validatingwebhookconfigurations.admissionregistration.k8s.io";
        let mut stored = api.get(name, "", "c").await.expect("is there");
        let mut webhooks = stored.list(&["webhooks"]).to_vec();
        webhooks[0]["rules"][0]["resources"] = json!(["secrets"]);
        stored.set(&["webhooks"], webhooks);
        api.try_update(stored.into_value()).await.expect("is written");
        api.create(map("m")).await;
        api.delete("configmaps", "default", "m", Default::default()).await.expect("goes");
        api.delete(name, "", "c", Default::default()).await.expect("goes");
        api.delete("mutatingwebhookconfigurations.admissionregistration.k8s.io", "", "c", Default::default()).await.expect("goes");
    }
}

#[actix::test]
async fn match_conditions_decide_who_is_asked() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| allowed()).await);
    let cases = [
        ("holds", "Fail", "request.operation == 'CREATE' && object.metadata.name == 'holds'", Some(1), NOTHING),
        ("other", "Fail", "object.metadata.name != 'other'", Some(0), [Some(1.0), None, Some(1.0)]),
        ("ignored", "Ignore", "object.metadata.gone == 'x'", Some(0), [Some(1.0); 3]),
        ("failed", "Fail", "object.metadata.gone == 'x'", None, [None, Some(1.0), Some(1.0)]),
        ("asks", "Fail", "authorizer.path('/x').check('get').allowed() && authorizer.requestResource.check('get').allowed()", Some(1), NOTHING),
    ];
    for (name, failure, expression, asked, counted) in cases {
        let conditions = json!([{"name": "c", "expression": expression}]);
        let webhook_name = format!("{name}.conditions.example.com");
        let webhook = hook.webhook(&webhook_name, json!({"matchConditions": conditions, "failurePolicy": failure}));
        api.create(configuration("Validating", name, vec![webhook])).await;
        let before = hook.asked().len();
        match (api.try_create(map(name)).await, asked) {
            (Ok(_), Some(asked)) => assert_eq!(hook.asked().len(), before + asked, "{name}"),
            (Err(status), None) => {
                assert_eq!(status.code, 403);
                let want = "configmaps \"failed\" is forbidden: expression 'object.metadata.gone == 'x'' resulted in error: no such key: gone";
                assert_eq!(status.message, want);
            }
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
        assert_eq!(counted_of(&webhook_name, "webhook", "validating"), counted, "{name}");
        api.delete("validatingwebhookconfigurations.admissionregistration.k8s.io", "", name, Default::default()).await.expect("goes");
    }
    let broken = hook.webhook("a.example.com", json!({"matchConditions": [{"name": "c", "expression": "object.name =="}]}));
    let status = api.try_create(configuration("Validating", "broken", vec![broken])).await.expect_err("does not compile");
    assert!(
        status.message.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"object.name ==\": compilation failed: "),
        "{status}"
    );
}
