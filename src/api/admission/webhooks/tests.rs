use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    client::Address,
    configuration::hooks,
    destination::{Destination, find, resolve},
    response::{Unusable, Verdict, denied, read},
    review::ReviewVersion,
};
use crate::{
    admission::{
        Operation,
        matching::{ResourceName, Rule, Subject, equivalents},
    },
    meta::{GroupResource, Object, ObjectKey},
    resources::{Registry, builtin},
    service::Listers,
    status::Reason,
    stored::StoredObject,
};

fn rule(change: Value) -> Rule {
    let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
    for (field, value) in change.as_object().expect("fields") {
        rule[field] = value.clone();
    }
    Rule::read(&rule)
}

const POD: Subject<'_> = Subject {
    operation: Operation::Create,
    group: "",
    version: "v1",
    resource: "pods",
    subresource: "",
    namespace: "n",
    is_namespace: false,
    name: "p",
};

#[test]
fn a_rule_matches_by_all_that_it_names() {
    let update = Subject { operation: Operation::Update, ..POD };
    let deployment = Subject { group: "apps", resource: "deployments", ..POD };
    for (change, subject, matches) in [
        (json!({}), POD, true),
        (json!({"operations": ["CREATE", "DELETE"]}), POD, true),
        (json!({"operations": ["CREATE", "DELETE"]}), update, false),
        (json!({"apiGroups": ["apps"]}), POD, false),
        (json!({"apiGroups": ["", "apps"]}), deployment, true),
        (json!({"apiVersions": ["v1beta1"]}), POD, false),
        (json!({"resources": ["pods"]}), POD, true),
        (json!({"resources": ["pods"]}), deployment, false),
        (json!({"operations": []}), POD, false),
    ] {
        assert_eq!(rule(change.clone()).matches(&subject), matches, "{change} {subject:?}");
    }
}

#[test]
fn subresources_are_named_on_their_own() {
    let status = Subject { subresource: "status", ..POD };
    for (resources, whole, part) in [
        ("pods", true, false),
        ("pods/status", false, true),
        ("pods/*", true, true),
        ("pods/exec", false, false),
        ("*", true, false),
        ("*/*", true, true),
        ("*/status", false, true),
    ] {
        let rule = rule(json!({"resources": [resources]}));
        assert_eq!((rule.matches(&POD), rule.matches(&status)), (whole, part), "{resources}");
    }
}

#[test]
fn a_namespace_lies_in_none() {
    let node = Subject { resource: "nodes", namespace: "", ..POD };
    let namespace = Subject { resource: "namespaces", namespace: "n", is_namespace: true, ..POD };
    for (scope, of_pod, of_others) in [("*", true, true), ("Namespaced", true, false), ("Cluster", false, true), ("Other", false, false)] {
        let rule = rule(json!({"scope": scope}));
        assert_eq!([POD, node, namespace].map(|subject| rule.matches(&subject)), [of_pod, of_others, of_others], "{scope}");
    }
}

#[test]
fn what_shares_its_objects_is_equivalent() {
    let registry = Registry::new(builtin());
    let of = |group: &str, plural: &str| {
        let row = registry.by_resource(group, plural).expect("is served");
        let others = equivalents(&registry, &ResourceName { row, version: "v1".into() }, "");
        others.iter().map(|other| format!("{}/{}/{}", other.row.group, other.version, other.row.plural)).collect::<Vec<_>>()
    };
    assert_eq!(of("", "events"), ["events.k8s.io/v1/events"]);
    assert_eq!(of("events.k8s.io", "events"), ["/v1/events"]);
    assert_eq!(of("", "pods"), Vec::<String>::new());
}

#[test]
fn webhooks_of_one_name_are_told_apart_and_have_their_defaults() {
    let webhooks = json!([{"name": "a"}, {"name": "b", "failurePolicy": "Ignore", "matchPolicy": "Exact", "admissionReviewVersions": ["v7", "v1beta1", "v1"]}, {"name": "a"}]);
    let configuration = Object::from_value(json!({"metadata": {"name": "c"}, "webhooks": webhooks})).expect("an object");
    let hooks = hooks(&configuration);
    assert_eq!(hooks.iter().map(|hook| hook.id.as_str()).collect::<Vec<_>>(), ["c/a/0", "c/b/0", "c/a/1"]);
    assert_eq!(
        hooks.iter().map(|hook| (hook.ignores_failure, hook.resources.is_equivalent(), hook.timeout.as_secs())).collect::<Vec<_>>()[..2],
        [(false, true, 10), (true, false, 10)]
    );
    assert_eq!((hooks[0].version, hooks[1].version), (None, Some(ReviewVersion::V1Beta1)));
}

fn answer(response: Value) -> Vec<u8> {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string().into_bytes()
}

#[test]
fn an_answer_is_held_to_its_form() {
    let invalid = |why: &str| Err(Unusable::Invalid(why.to_owned()));
    let fine = |patch: &[u8]| Ok(Verdict { allowed: true, patch: patch.to_vec(), ..Verdict::default() });
    for (response, mutating, want) in [
        (json!({"uid": "u", "allowed": true}), true, fine(b"")),
        (json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}), true, fine(b"[]")),
        (json!({"uid": "x", "allowed": true}), true, invalid("expected response.uid=\"u\", got \"x\"")),
        (json!(null), true, invalid("webhook response was absent")),
        (json!({"uid": "u", "patch": "W10="}), true, invalid("webhook returned response.patch but not response.patchType")),
        (json!({"uid": "u", "patchType": "JSONPatch"}), true, invalid("webhook returned response.patchType but not response.patch")),
        (json!({"uid": "u", "patch": "W10=", "patchType": ""}), true, invalid("webhook returned invalid response.patchType of \"\"")),
        (json!({"uid": "u", "patch": "W10=", "patchType": "Merge"}), true, invalid("unsupported patch type \"Merge\"")),
        (json!({"uid": "u", "patch": "W10="}), false, invalid("validating webhook may not return response.patch")),
        (json!({"uid": "u", "patchType": "JSONPatch"}), false, invalid("validating webhook may not return response.patchType")),
    ] {
        assert_eq!(read(&answer(response.clone()), ReviewVersion::V1, "u", mutating), want, "{response}");
    }
    let other = json!({"response": {"uid": "u"}}).to_string();
    let why = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
    assert_eq!(read(other.as_bytes(), ReviewVersion::V1, "u", true), invalid(why));
    for broken in ["", "[", "[]", "{\"response\": {\"allowed\": 5}}"] {
        assert!(matches!(read(broken.as_bytes(), ReviewVersion::V1, "u", true), Err(Unusable::Malformed(_))), "{broken}");
    }
    let deep = format!("{{\"response\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(read(deep.as_bytes(), ReviewVersion::V1, "u", true), Err(Unusable::Malformed(_))));
}

#[test]
fn the_older_form_is_held_to_less() {
    let older = json!({"response": {"allowed": true, "patch": "W10="}}).to_string();
    let want = Verdict { allowed: true, patch: b"[]".to_vec(), ..Verdict::default() };
    assert_eq!(read(older.as_bytes(), ReviewVersion::V1Beta1, "u", true), Ok(want));
    assert_eq!(read(older.as_bytes(), ReviewVersion::V1Beta1, "u", false), Ok(Verdict { allowed: true, ..Verdict::default() }));
}

#[test]
fn a_refusal_keeps_what_the_webhook_said_within_reason() {
    let said = json!({"code": 422, "reason": "Invalid", "message": "m", "details": {"name": "n", "causes": [{"field": "f", "message": "why"}]}});
    let status = denied("a.b.c", Some(&said));
    assert_eq!((status.code, status.reason), (422, Reason::Invalid));
    assert_eq!(status.details.expect("has details").causes[0].field, "f");
    for code in [json!(0), json!(200), json!(399), json!(70000), json!(-1), json!("403"), json!(700)] {
        assert_eq!(denied("a.b.c", Some(&json!({"code": code}))).code, 400, "{code}");
    }
}

/// What a cluster has, by plural and name.
#[derive(Default)]
struct Known(HashMap<(&'static str, &'static str), Arc<StoredObject>>);

impl Known {
    fn with(mut self, plural: &'static str, name: &'static str, object: Value) -> Self {
        let mut object = Object::from_value(object).expect("an object");
        let row = Registry::new(builtin()).by_resource("", plural).expect("is served");
        object.set_gvk(&row.storage_gvk());
        self.0.insert((plural, name), Arc::new(StoredObject::from_object(&object).expect("is stored")));
        self
    }
}

impl Listers for Known {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.iter().find(|((plural, name), _)| **plural == *resource.resource && **name == *key.name).map(|(_, object)| object.clone())
    }

    fn list(&self, _: &GroupResource, _: &str) -> Vec<Arc<StoredObject>> {
        Vec::new()
    }
}

fn of_service(port: u16) -> Address {
    Address::Service { namespace: "n".into(), name: "s".into(), path: "/".into(), port }
}

#[test]
fn a_service_leads_to_a_pod_that_is_ready_behind_it() {
    let metadata = |name: &str| json!({"name": name, "namespace": "n"});
    let service =
        json!({"metadata": metadata("s"), "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [{"name": "web", "port": 443}]}});
    let subsets =
        |addresses: Value| json!({"metadata": metadata("s"), "subsets": [{"addresses": addresses, "ports": [{"name": "web", "port": 8443}]}]});
    let pod = json!({"metadata": metadata("p"), "status": {"podIPs": [{"ip": "10.0.0.7"}]}});
    let known = || Known::default().with("services", "s", service.clone()).with("pods", "p", pod.clone());
    let to = |host: &str, port: u16| Ok(Destination { host: host.into(), port });
    let of_pod = |ip: &str| json!([{"ip": ip, "targetRef": {"kind": "Pod", "name": "p"}}]);
    assert_eq!(find(&of_service(443), &known().with("endpoints", "s", subsets(of_pod("10.0.0.7")))), to("10.0.0.7", 8443));
    // Who says that another address is the pod's leads nobody there but through the service proxy.
    assert_eq!(find(&of_service(443), &known().with("endpoints", "s", subsets(of_pod("10.0.0.1")))), to("10.96.0.9", 443));
    let none = Err("no endpoints available for service \"s\"".to_owned());
    assert_eq!(find(&of_service(443), &known().with("endpoints", "s", subsets(json!([])))), none);
    assert_eq!(find(&of_service(443), &known()), none);
    assert_eq!(find(&of_service(80), &known()), Err("no service port 80 found for service \"s\"".to_owned()));
    assert_eq!(find(&of_service(443), &Known::default()), Err("service \"s\" not found".to_owned()));
}

#[test]
fn a_url_leads_to_its_host() {
    for (url, host, port) in
        [("https://a.example.com/x", "a.example.com", 443), ("https://10.0.0.1:8443", "10.0.0.1", 8443), ("https://[fd00::1]:1/", "fd00::1", 1)]
    {
        assert_eq!(find(&Address::Url(url.into()), &Known::default()), Ok(Destination { host: host.into(), port }), "{url}");
    }
}

#[tokio::test]
async fn nothing_leads_to_this_machine_or_to_the_metadata_of_its_cloud() {
    for host in ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "fe80::1"] {
        let destination = Destination { host: host.into(), port: 443 };
        assert!(resolve(&destination, false).await.is_err(), "{host}");
    }
    let there = Destination { host: "192.0.2.1".into(), port: 443 };
    assert_eq!(resolve(&there, false).await.map(|found| found.len()), Ok(1));
}
