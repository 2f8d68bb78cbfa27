use std::sync::Arc;

use serde_json::json;
use troupe_api::{
    auth::{
        Attributes, Authorizer, Decision,
        tokens::{Issuer, SigningKey},
        x509::X509Authenticator,
    },
    certificates::Draft,
    meta::SystemClock,
    service::UserInfo,
};
use troupe_api_server::store::memory::MemoryStore;

use super::{map, validating};
use crate::apiserver::{
    ApiServerOptions, AuthResources, VirtualResources,
    testing::{TestApi, boot_with},
};

/// Everybody may everything but what is secret.
struct Discreet;

impl Authorizer for Discreet {
    fn authorize(&self, user: &UserInfo, asked: &Attributes<'_>) -> Decision {
        let is_account = user.name == "system:serviceaccount:default:a" && user.groups.contains(&"system:serviceaccounts:default".to_owned());
        if (asked.resource, asked.verb) == ("pods", "list") && asked.selection.fields.is_none_or(|fields| fields.to_string() != "spec.nodeName=n") {
            return Decision::NoOpinion("pods of one node only".into());
        }
        if (asked.resource, asked.verb) == ("secrets", "list") && asked.selection.labels.is_none_or(|labels| labels.to_string() != "a in (b,c),!d") {
            return Decision::NoOpinion("some secrets only".into());
        }
        match (asked.path, asked.verb, asked.resource, asked.name) {
            (Some("/secret"), ..) | (_, "break", ..) => Decision::Deny("hush".into()),
            (_, _, "things", _) if !is_account => Decision::NoOpinion("no account".into()),
            (_, _, "configmaps", "hidden") if asked.verb == "approve" && asked.namespace == "default" => Decision::Deny("hidden".into()),
            _ => Decision::Allow,
        }
    }
}

async fn booted() -> TestApi {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.authorizer = Some(Box::new(|_| Arc::new(Discreet)));
    let key = Draft::node_client("n1").with_new_key().expect("a key");
    let issuer = Arc::new(Issuer::new(SigningKey::from_pem(&key.key_pem).expect("a key")));
    options.virtual_resources = Some(Box::new(move |_| {
        let reviews: Arc<dyn VirtualResources> =
            Arc::new(AuthResources { issuer, authenticator: Arc::new(X509Authenticator), clock: Arc::new(SystemClock) });
        vec![reviews]
    }));
    boot_with(options).await
}

#[actix::test]
async fn expressions_ask_who_may_do_what() {
    let api = booted().await;
    let cases = [
        "authorizer.path('/open').check('get').allowed()",
        "!authorizer.path('/secret').check('get').allowed() && authorizer.path('/secret').check('get').reason() == 'hush'",
        "!authorizer.group('example.com').resource('things').namespace('n').name('x').check('get').allowed()",
        "authorizer.serviceAccount('default', 'a').group('').resource('things').subresource('s').check('get').allowed()",
        "authorizer.requestResource.check('approve').allowed() == (object.metadata.name != 'hidden')",
        "!authorizer.requestResource.check('break').errored() && authorizer.requestResource.check('break').error() == ''",
        "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=n').labelSelector('a=b').check('list').allowed()",
        "!authorizer.group('').resource('pods').labelSelector('a=b').check('list').allowed()",
        "authorizer.group('').resource('secrets').labelSelector('a in (b,c),!d').check('list').allowed()",
        "['a=b', 'a in ('].all(text, !authorizer.group('').resource('secrets').labelSelector(text).check('list').allowed())",
    ];
    let validations: Vec<_> = cases.iter().map(|expression| json!({"expression": expression})).collect();
    validating(&api, "p", json!({"validations": validations}), json!({})).await;
    api.create(map("m", json!({}))).await;
    api.create(map("hidden", json!({}))).await;
}

#[actix::test]
async fn asking_is_dear_and_bad_questions_are_errors() {
    for (expression, why) in [
        ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
        ("authorizer.group('').resource('').check('get').allowed()", "resource must not be empty"),
        ("authorizer.serviceAccount('Default', 'a').path('/').check('get').allowed()", "Invalid service account namespace"),
        ("[1, 2, 3].all(x, authorizer.path('/' + string(x)).check('get').allowed())", "operation cancelled: actual cost limit exceeded"),
    ] {
        let api = booted().await;
        validating(&api, "p", json!({"validations": [{"expression": expression}]}), json!({})).await;
        let refused = api.try_create(map("m", json!({}))).await.expect_err("fails");
        assert!(refused.message.ends_with(&format!("resulted in error: {why}")), "{refused}");
    }
}

#[actix::test]
async fn reviews_ask_with_selectors_in_either_form() {
    let api = booted().await;
    let requirements = json!([{"key": "a", "operator": "In", "values": ["b", "c"]}, {"key": "d", "operator": "DoesNotExist"}]);
    for (selector, allowed) in [
        (json!({"rawSelector": "a in (c,b),!d"}), true),
        (json!({"requirements": requirements}), true),
        (json!({"requirements": [requirements[0]]}), false),
        (json!({"rawSelector": "a in ("}), false),
    ] {
        let attributes = json!({"verb": "list", "resource": "secrets", "labelSelector": selector});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}});
        let answer = api.create(review).await;
        assert_eq!(answer.get(&["status", "allowed"]), Some(&json!(allowed)), "{selector}");
        let owned = &answer.list(&["metadata", "managedFields"])[0];
        assert_eq!((&owned["operation"], &owned["apiVersion"]), (&json!("Update"), &json!("authorization.k8s.io/v1")));
        let fields = &owned["fieldsV1"];
        assert!(fields["f:spec"]["f:resourceAttributes"].is_object() && fields.get("f:status").is_none(), "{fields}");
    }
}
