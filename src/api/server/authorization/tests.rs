use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::{
    auth::{
        Attributes, Authorizer, Decision, Selection,
        chain::{AuthorizerChain, PrivilegedGroups},
        decide,
    },
    document::Document,
    meta::{FieldSelector, LabelSelector},
    schema::from_yaml,
    service::UserInfo,
};

use super::{
    BlockingAuthorizer, WebhookAuthorizer,
    config::{AuthorizationConfiguration, Mode, Webhook},
};
use crate::webhook_client::testing::Server;

fn modes(text: &str) -> Result<Vec<Mode>, String> {
    let value: Value = from_yaml(text).expect("YAML");
    let configuration: AuthorizationConfiguration = serde_json::from_value(value).map_err(|error| error.to_string())?;
    configuration.modes().map_err(|error| error.to_string())
}

fn webhook(server: &Server, conditions: &[&str]) -> Webhook {
    let text = format!(
        "authorizers: [{{type: Webhook, name: hook, webhook: {{timeout: 5s, subjectAccessReviewVersion: v1, failurePolicy: NoOpinion, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}}}}}]",
        server.kubeconfig.display()
    );
    let Some(Mode::Webhook(mut webhook)) = modes(&text).expect("works").pop() else { panic!("no webhook") };
    webhook.conditions = conditions.iter().map(|text| (*text).to_owned()).collect();
    *webhook
}

fn user() -> UserInfo {
    UserInfo { name: "jane".into(), groups: vec!["dev".into()], ..UserInfo::default() }
}

fn pods(verb: &'static str) -> Attributes<'static> {
    Attributes { verb, resource: "pods", version: "v1", namespace: "default", name: "p", ..Attributes::default() }
}

#[tokio::test]
async fn a_webhook_is_asked_in_upstreams_form_and_its_answers_count_for_a_while() {
    let server = Server::serve(|_, review| {
        let status = match review["spec"]["resourceAttributes"]["verb"].as_str() {
            Some("get") => json!({"allowed": true}),
            Some("delete") => json!({"allowed": false, "denied": true, "reason": "never"}),
            _ => json!({"allowed": false, "reason": "who knows"}),
        };
        (200, json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status}).to_string())
    })
    .await;
    let hook = WebhookAuthorizer::new(webhook(&server, &[])).expect("works");
    assert_eq!(hook.authorize(&user(), &pods("get")), Decision::NoOpinion(String::new()), "it was not asked yet");
    for _ in 0..3 {
        assert_eq!(decide(&*hook, &user(), &pods("get")).await, Decision::Allow);
    }
    assert_eq!(hook.authorize(&user(), &pods("get")), Decision::Allow, "it is remembered");
    assert_eq!(decide(&*hook, &user(), &pods("delete")).await, Decision::Deny("never".into()));
    assert_eq!(decide(&*hook, &user(), &pods("list")).await, Decision::NoOpinion("who knows".into()));
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].0, "/here");
    let sent = &asked[0].1;
    assert_eq!((&sent["kind"], &sent["apiVersion"]), (&json!("SubjectAccessReview"), &json!("authorization.k8s.io/v1")));
    let attributes = json!({"verb": "get", "version": "v1", "resource": "pods", "namespace": "default", "name": "p"});
    assert_eq!(sent["spec"], json!({"user": "jane", "groups": ["dev"], "resourceAttributes": attributes}));
}

#[tokio::test]
async fn answers_that_are_long_are_not_remembered() {
    let server = Server::serve(|_, _| (200, json!({"status": {"denied": true, "reason": "x".repeat(20_000)}}).to_string())).await;
    let hook = WebhookAuthorizer::new(webhook(&server, &[])).expect("works");
    for count in 1..3 {
        assert!(matches!(decide(&*hook, &user(), &pods("get")).await, Decision::Deny(reason) if reason.len() == 20_000));
        assert_eq!(server.asked().len(), count);
    }
}

#[tokio::test]
async fn nobody_gets_past_a_webhook_by_asking_too_much() {
    let server = Server::serve(|_, _| (200, json!({"status": {"allowed": true}}).to_string())).await;
    let settings = Webhook { timeout: Duration::from_secs(2), ..webhook(&server, &[]) };
    assert!(!settings.denies_on_failure);
    let hook = WebhookAuthorizer::new(settings).expect("works");
    let occupied = hook.occupy().await;
    assert!(matches!(decide(&*hook, &user(), &pods("get")).await, Decision::Deny(_)));
    assert!(server.asked().is_empty());
    drop(occupied);
    assert_eq!(decide(&*hook, &user(), &pods("get")).await, Decision::Allow);
}

#[tokio::test]
async fn conditions_spare_the_webhook_and_selectors_are_told() {
    let server = Server::serve(|_, _| (200, json!({"status": {"allowed": true}}).to_string())).await;
    let conditions =
        ["!('system:nodes' in request.groups)", "has(request.resourceAttributes) && request.resourceAttributes.namespace != 'kube-system'"];
    let hook = WebhookAuthorizer::new(webhook(&server, &conditions)).expect("works");
    let node = UserInfo { groups: vec!["system:nodes".into()], ..user() };
    assert_eq!(decide(&*hook, &node, &pods("get")).await, Decision::NoOpinion(String::new()));
    let path = Attributes { verb: "get", path: Some("/healthz"), ..Attributes::default() };
    assert_eq!(decide(&*hook, &user(), &path).await, Decision::NoOpinion(String::new()));
    assert!(server.asked().is_empty());
    let (fields, labels) = (FieldSelector::parse("spec.nodeName=n").expect("parses"), LabelSelector::parse("a in (b,c),!d").expect("parses"));
    let selection = Selection { fields: Some(&fields), labels: Some(&labels) };
    assert_eq!(decide(&*hook, &user(), &Attributes { selection, ..pods("list") }).await, Decision::Allow);
    let sent = &server.asked()[0].1["spec"]["resourceAttributes"];
    assert_eq!(sent["fieldSelector"]["requirements"], json!([{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]));
    assert_eq!(sent["labelSelector"]["requirements"][0], json!({"key": "a", "operator": "In", "values": ["b", "c"]}));
}

#[tokio::test]
async fn a_webhook_that_fails_denies_or_has_no_opinion_as_it_is_told() {
    let server = Server::serve(|_, _| (500, "broken".into())).await;
    let settings = Webhook { timeout: Duration::from_secs(2), ..webhook(&server, &[]) };
    let open = WebhookAuthorizer::new(settings.clone()).expect("works");
    assert_eq!(decide(&*open, &user(), &pods("get")).await, Decision::NoOpinion(String::new()));
    assert_eq!(server.asked().len(), 3, "it is asked again");
    let closed = WebhookAuthorizer::new(Webhook { denies_on_failure: true, ..settings }).expect("works");
    assert!(matches!(decide(&*closed, &user(), &pods("get")).await, Decision::Deny(_)));
    assert!(matches!(closed.authorize(&user(), &pods("get")), Decision::Deny(_)), "also for whoever cannot wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_asks_in_order_and_code_that_cannot_wait_asks_too() {
    let server = Server::serve(|_, _| (200, json!({"status": {"allowed": true}}).to_string())).await;
    let hook: Arc<dyn Authorizer> = WebhookAuthorizer::new(webhook(&server, &[])).expect("works");
    let chain: Arc<dyn Authorizer> = Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), hook]));
    let root = UserInfo { groups: vec!["system:masters".into()], ..user() };
    assert_eq!(decide(&*chain, &root, &pods("get")).await, Decision::Allow);
    assert!(server.asked().is_empty());
    let home = tokio::runtime::Handle::current();
    let blocking = BlockingAuthorizer::new(chain, home);
    let explained = tokio::task::spawn_blocking(move || blocking.explain(&user(), &pods("get"))).await.expect("ends");
    assert_eq!(explained, (Decision::Allow, String::new()));
}

#[test]
fn a_configuration_that_cannot_work_is_refused_in_upstreams_words() {
    let hook = |change: &str| {
        format!(
            "authorizers: [{{type: Webhook, name: a, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: /nowhere}}{change}}}}}]"
        )
    };
    for (text, why) in [
        ("authorizers: []".to_owned(), "authorizers: Required value: at least one authorization mode must be defined"),
        ("authorizers: [{type: ABAC, name: a}]".into(), "authorizers[0].type: Unsupported value: \"ABAC\""),
        ("authorizers: [{type: Node, name: a}, {type: Node, name: b}]".into(), "authorizers[1].type: Duplicate value: \"Node\""),
        ("authorizers: [{type: Node, name: a}, {type: RBAC, name: a}]".into(), "authorizers[1].name: Duplicate value: \"a\""),
        ("authorizers: [{type: RBAC, name: A_B}]".into(), "authorizer name is invalid"),
        ("authorizers: [{type: Webhook, name: a}]".into(), "authorizers[0].webhook: Required value: required when type=Webhook"),
        (hook(""), "error loading file"),
        (hook(", authorizedTTL: 0s"), "authorizers[0].authorizedTTL: Required value"),
        (hook(", matchConditions: [{expression: 'request.user'}]"), "matchConditionSubjectAccessReviewVersion: Required value"),
        (hook(", matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: 'request.user'}]"), "must evaluate to bool"),
        (hook(", matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: 'request.nope == \"\"'}]"), "undefined field 'nope'"),
        (hook(", nope: 1"), "unknown field `nope`"),
    ] {
        let refused = modes(&text).map(|_| ()).expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    let known = modes("authorizers: [{type: Node, name: one}, {type: RBAC, name: two}, {type: AlwaysDeny, name: three}]").expect("works");
    assert!(matches!(known[..], [Mode::Node, Mode::Rbac, Mode::AlwaysDeny]));
    assert_eq!(AuthorizationConfiguration::KIND, "AuthorizationConfiguration");
}
