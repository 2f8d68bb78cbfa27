use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use troupe_api::{
    ApiService,
    meta::{Cause, Object},
    notices::Notices,
    service::{ApiCall, Body, Operation, Target, UserInfo, WriteOptions},
    status::{Reason, Status},
};
use troupe_api_server::{
    admission::{
        ConfiguredPlugins, Pipeline, PodSecurity, Selection,
        pod_security::{Configuration, Exemptions, Level, LevelVersion, Policy, Version},
    },
    store::memory::MemoryStore,
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with},
};

/// What a call led to: the reply, the warnings, the audit annotations.
struct Told {
    reply: Result<Object, Status>,
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

impl Told {
    fn message(&self) -> &str {
        self.reply.as_ref().map_or_else(|status| status.message.as_str(), |_| "")
    }

    fn annotation(&self, name: &str) -> &str {
        self.annotations.get(&format!("pod-security.kubernetes.io/{name}")).map_or("", String::as_str)
    }
}

async fn call(api: &TestApi, user: &str, target: Target, operation: Operation) -> Told {
    let user = Arc::new(UserInfo { name: user.into(), ..UserInfo::default() });
    let notices = Notices::default();
    let call = ApiCall { user, target, operation, cause: Cause::root(), notices: notices.clone() };
    let reply = api.server.call(call).await.and_then(|mut reply| {
        reply.warnings.drain(..).for_each(|warning| notices.warn(warning));
        reply.into_tree()
    });
    Told { reply, warnings: notices.warnings(), annotations: notices.annotations() }
}

async fn create(api: &TestApi, resource: &str, namespace: &str, object: Value) -> Told {
    let body = Body::Json(object.to_string().into());
    call(api, "ann", api.target(resource, namespace, ""), Operation::Create { body, options: WriteOptions::default() }).await
}

async fn replace(api: &TestApi, target: Target, object: &Object) -> Told {
    let body = Body::Json(Value::Object(object.root().clone()).to_string().into());
    call(api, "ann", target, Operation::Update { body, options: WriteOptions::default() }).await
}

/// A namespace with Pod Security labels, and the account that pods in it need.
async fn namespace(api: &TestApi, name: &str, labels: &[(&str, &str)]) {
    let labels: BTreeMap<_, _> = labels.iter().map(|(label, value)| (format!("pod-security.kubernetes.io/{label}"), *value)).collect();
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})).await;
    api.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})).await;
}

fn spec(security: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "securityContext": security}]})
}

fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

fn deployment(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}})
}

const PRIVILEGED: &str = "privileged (container \"c\" must not set securityContext.privileged=true)";

#[actix::test]
async fn what_is_enforced_is_refused_and_noted_in_the_audit_event() {
    let api = boot().await;
    namespace(&api, "strict", &[("enforce", "baseline"), ("audit", "restricted"), ("audit-version", "v1.7")]).await;
    let told = create(&api, "pods", "strict", pod("p", spec(json!({"privileged": true})))).await;
    assert_eq!(told.message(), format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {PRIVILEGED}"));
    assert_eq!(told.reply.as_ref().err().map(|status| (status.code, status.reason)), Some((403, Reason::Forbidden)));
    assert_eq!(told.annotation("enforce-policy"), "baseline:latest");
    let root = "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)";
    assert_eq!(told.annotation("audit-violations"), format!("would violate PodSecurity \"restricted:v1.7\": {PRIVILEGED}, {root}"));
    assert!(told.warnings.is_empty(), "{:?}", told.warnings);
    let told = create(&api, "pods", "strict", pod("p", spec(json!({})))).await;
    assert_eq!(
        (told.message(), told.annotation("audit-violations")),
        ("", format!("would violate PodSecurity \"restricted:v1.7\": {root}").as_str())
    );
}

#[actix::test]
async fn a_name_that_is_generated_stands_in_the_refusal() {
    let api = boot().await;
    namespace(&api, "strict", &[("enforce", "baseline")]).await;
    let mut wanted = pod("", spec(json!({"privileged": true})));
    wanted["metadata"] = json!({"generateName": "web-"});
    let told = create(&api, "pods", "strict", wanted).await;
    assert!(told.message().starts_with("pods \"web-") && !told.message().starts_with("pods \"web-\""), "{}", told.message());
}

#[actix::test]
async fn warnings_follow_what_is_enforced_and_need_no_refusal() {
    let api = boot().await;
    namespace(&api, "warned", &[("warn", "baseline"), ("warn-version", "v1.36")]).await;
    let told = create(&api, "pods", "warned", pod("p", spec(json!({"privileged": true})))).await;
    assert_eq!(told.message(), "");
    assert_eq!(told.warnings, [format!("would violate PodSecurity \"baseline:v1.36\": {PRIVILEGED}")]);
    assert_eq!((told.annotation("enforce-policy"), told.annotation("audit-violations")), ("privileged:latest", ""));
    namespace(&api, "free", &[]).await;
    let told = create(&api, "pods", "free", pod("p", spec(json!({"privileged": true})))).await;
    assert_eq!((told.message(), told.warnings.len(), told.annotation("enforce-policy")), ("", 0, "privileged:latest"));
}

#[actix::test]
async fn templates_are_never_refused_but_told() {
    let api = boot().await;
    namespace(&api, "strict", &[("enforce", "baseline"), ("audit", "baseline")]).await;
    let words = format!("would violate PodSecurity \"baseline:latest\": {PRIVILEGED}");
    let template = spec(json!({"privileged": true}));
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": template}}});
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {"schedule": "@daily", "jobTemplate": {"spec": job["spec"]}}});
    let bare = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"}, "template": {"spec": template}});
    for (resource, object) in [("deployments.apps", deployment("d", template)), ("jobs.batch", job), ("cronjobs.batch", cron), ("podtemplates", bare)]
    {
        let told = create(&api, resource, "strict", object).await;
        assert_eq!((told.message(), told.warnings.as_slice()), ("", [words.clone()].as_slice()), "{resource}");
        assert_eq!((told.annotation("audit-violations"), told.annotation("enforce-policy")), (words.as_str(), ""), "{resource}");
    }
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc"}, "spec": {"selector": {"a": "b"}}});
    let told = create(&api, "replicationcontrollers", "strict", controller).await;
    assert!(told.warnings.is_empty(), "without a template there is nothing to tell: {:?}", told.warnings);
}

#[actix::test]
async fn an_old_pod_stays_writable_until_its_containers_change() {
    let api = boot().await;
    namespace(&api, "old", &[]).await;
    assert_eq!(create(&api, "pods", "old", pod("p", spec(json!({"privileged": true})))).await.message(), "");
    let mut labelled = api.get("namespaces", "", "old").await.expect("there");
    labelled.set(&["metadata", "labels", "pod-security.kubernetes.io/enforce"], "baseline");
    replace(&api, api.target("namespaces", "", "old"), &labelled).await.reply.expect("labels may be set");

    let mut changed = api.get("pods", "old", "p").await.expect("there");
    changed.set(&["metadata", "labels", "a"], "b");
    let told = replace(&api, api.target("pods", "old", "p"), &changed).await;
    assert_eq!((told.message(), told.annotation("enforce-policy")), ("", ""));
    let mut status = told.reply.expect("written");
    status.set(&["status", "phase"], "Running");
    assert_eq!(replace(&api, api.subresource("pods", "old", "p", "status"), &status).await.message(), "");

    let mut changed = api.get("pods", "old", "p").await.expect("there");
    let mut containers = changed.list(&["spec", "containers"]).to_vec();
    containers[0]["image"] = json!("other");
    changed.set(&["spec", "containers"], containers);
    let refusal = format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {PRIVILEGED}");
    assert_eq!(replace(&api, api.target("pods", "old", "p"), &changed).await.message(), refusal);
}

#[actix::test]
async fn ephemeral_containers_are_held_to_the_policy() {
    let api = boot().await;
    namespace(&api, "strict", &[("enforce", "baseline")]).await;
    assert_eq!(create(&api, "pods", "strict", pod("p", spec(json!({})))).await.message(), "");
    let mut debugged = api.get("pods", "strict", "p").await.expect("there");
    debugged.set(&["spec", "ephemeralContainers"], json!([{"name": "debug", "image": "i", "securityContext": {"privileged": true}}]));
    let told = replace(&api, api.subresource("pods", "strict", "p", "ephemeralcontainers"), &debugged).await;
    let want = "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"debug\" must not set securityContext.privileged=true)";
    assert_eq!(told.message(), want);
}

#[actix::test]
async fn labels_that_cannot_be_read_are_refused_unless_they_stood_there() {
    let api = boot().await;
    let labelled = |enforce: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"pod-security.kubernetes.io/enforce": enforce}}});
    let told = create(&api, "namespaces", "", labelled("baselin")).await;
    let want = "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"baselin\": must be one of privileged, baseline, restricted";
    assert_eq!(told.message(), want);
    assert_eq!(told.reply.err().map(|status| status.code), Some(422));
    create(&api, "namespaces", "", labelled("baseline")).await.reply.expect("valid");
    let mut changed = api.get("namespaces", "", "n").await.expect("there");
    changed.set(&["metadata", "labels", "pod-security.kubernetes.io/warn-version"], "1.2");
    let told = replace(&api, api.target("namespaces", "", "n"), &changed).await;
    assert!(told.message().ends_with("Invalid value: \"1.2\": must be \"latest\" or \"v1.x\""), "{}", told.message());
}

#[actix::test]
async fn a_namespace_that_becomes_stricter_names_the_pods_that_break_its_policy() {
    let api = boot().await;
    namespace(&api, "n", &[]).await;
    for name in ["b", "a", "c"] {
        create(&api, "pods", "n", pod(name, spec(json!({"privileged": name != "c"})))).await.reply.expect("allowed");
    }
    let mut stricter = api.get("namespaces", "", "n").await.expect("there");
    stricter.set(&["metadata", "labels", "pod-security.kubernetes.io/enforce"], "baseline");
    let told = replace(&api, api.target("namespaces", "", "n"), &stricter).await;
    let want = ["existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"", "a (and 1 other pod): privileged"];
    assert_eq!((told.message(), told.warnings.as_slice()), ("", want.map(str::to_owned).as_slice()));
    let mut laxer = told.reply.expect("written");
    laxer.set(&["metadata", "labels", "pod-security.kubernetes.io/enforce"], "privileged");
    assert!(replace(&api, api.target("namespaces", "", "n"), &laxer).await.warnings.is_empty());
}

#[actix::test]
async fn defaults_and_exemptions_come_from_the_configuration() {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    let baseline = LevelVersion { level: Level::Baseline, version: Version::Latest };
    let set = |name: &str| [name.to_owned()].into();
    let pod_security = PodSecurity::new(Configuration {
        defaults: Policy { enforce: baseline, ..Policy::default() },
        exemptions: Exemptions { usernames: set("root"), namespaces: set("exempt"), runtime_classes: set("kata") },
    });
    options.admission = Pipeline::configured(Selection::default(), ConfiguredPlugins { pod_security, ..ConfiguredPlugins::default() });
    let api = boot_with(options).await;
    namespace(&api, "n", &[]).await;
    let bad = pod("p", spec(json!({"privileged": true})));
    assert!(create(&api, "pods", "n", bad.clone()).await.message().contains("violates PodSecurity \"baseline:latest\""));

    let told =
        create(&api, "namespaces", "", json!({"metadata": {"name": "exempt", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})).await;
    let warning = "namespace \"exempt\" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored";
    assert_eq!(told.warnings, [warning]);
    api.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "exempt"}})).await;
    let told = create(&api, "pods", "exempt", bad.clone()).await;
    assert_eq!((told.message(), told.annotation("exempt")), ("", "namespace"));

    let body = Body::Json(bad.to_string().into());
    let told = call(&api, "root", api.target("pods", "n", ""), Operation::Create { body, options: WriteOptions::default() }).await;
    assert_eq!((told.message(), told.annotation("exempt")), ("", "user"));

    api.create(json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "kata"})).await;
    let mut other = pod("q", spec(json!({"privileged": true})));
    other["spec"]["runtimeClassName"] = json!("kata");
    let told = create(&api, "pods", "n", other).await;
    assert_eq!((told.message(), told.annotation("exempt")), ("", "runtimeClass"));
}

#[actix::test]
async fn nobody_is_warned_that_nothing_comes_of_what_works() {
    let api = boot().await;
    let policy = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let told = create(&api, "networkpolicies.networking.k8s.io", "default", policy.clone()).await;
    assert!(told.warnings.is_empty(), "policies are enforced: {:?}", told.warnings);
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/16"]}});
    let told = create(&api, "servicecidrs.networking.k8s.io", "", range).await;
    assert!(told.warnings.is_empty(), "ranges are used: {:?}", told.warnings);
    let driver = json!({"metadata": {"name": "driver.example.com"}, "spec": {}});
    let told = create(&api, "csidrivers.storage.k8s.io", "", driver).await;
    assert!(told.warnings.is_empty(), "drivers are called: {:?}", told.warnings);
    let class = json!({"metadata": {"name": "gpu.example.com"}, "spec": {}});
    let told = create(&api, "deviceclasses.resource.k8s.io", "", class).await;
    assert!(told.warnings.is_empty(), "devices are allocated: {:?}", told.warnings);
    let mut claiming = deployment("d", spec(json!({})));
    claiming["spec"]["template"]["spec"]["topologySpreadConstraints"] =
        json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}}]);
    claiming["spec"]["template"]["spec"]["resourceClaims"] = json!([{"name": "gpu", "resourceClaimName": "gpu"}]);
    let told = create(&api, "deployments.apps", "default", claiming).await;
    assert!(told.warnings.is_empty(), "devices are allocated: {:?} {}", told.warnings, told.message());
    assert!(create(&api, "configmaps", "default", json!({"metadata": {"name": "m"}})).await.warnings.is_empty());
}
