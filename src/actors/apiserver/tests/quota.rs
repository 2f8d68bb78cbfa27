use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use troupe_api::{
    meta::{GroupResource, Object},
    quota::{LimitedResource, scopes::Scope},
    service::{Body, Operation, PatchType, WriteOptions},
};
use troupe_api_server::{
    admission::{ConfiguredPlugins, Pipeline, Selection},
    store::{Store, memory::MemoryStore},
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot, boot_with},
};

fn pod(name: &str, resources: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

/// A quota that was counted already.
async fn quota(api: &TestApi, name: &str, hard: Value, used: Value) {
    api.create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": "default"}, "spec": {"hard": hard}}))
        .await;
    count(api, name, used).await;
}

/// Writes what the controller would have counted.
async fn count(api: &TestApi, name: &str, used: Value) {
    let hard = api.get("resourcequotas", "default", name).await.expect("is there").get(&["spec", "hard"]).cloned();
    let target = api.subresource("resourcequotas", "default", name, "status");
    api.patch(target, PatchType::Merge, json!({"status": {"hard": hard, "used": used}})).await.expect("the status is written");
}

async fn used(api: &TestApi, name: &str) -> Value {
    api.get("resourcequotas", "default", name).await.expect("is there").get(&["status", "used"]).cloned().unwrap_or_default()
}

/// Waits for what happens beside the request.
async fn becomes_used(api: &TestApi, name: &str, want: Value) {
    for _ in 0..500 {
        if used(api, name).await == want {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(used(api, name).await, want);
}

#[actix::test]
async fn what_is_limited_is_for_namespaces_that_have_a_quota_for_it() {
    let critical = Scope { name: "PriorityClass".into(), operator: "In".into(), values: vec!["system-node-critical".into()] };
    let resource = GroupResource::new("", "pods");
    let limited_resources = vec![LimitedResource { resource, contains: vec!["pods".into()], scopes: vec![critical] }];
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.admission = Pipeline::configured(Selection::default(), ConfiguredPlugins { limited_resources, ..ConfiguredPlugins::default() });
    let api = boot_with(options).await;
    let refused = api.try_create(pod("a", json!({}))).await.expect_err("no quota has pods");
    assert_eq!((refused.code, refused.message.as_str()), (403, "pods \"a\" is forbidden: insufficient quota to consume: count/pods,pods"));
    quota(&api, "q", json!({"pods": "2", "count/pods": "2"}), json!({"pods": "0", "count/pods": "0"})).await;
    api.create(pod("a", json!({}))).await;
    let class =
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "system-node-critical"}, "value": 2_000_001_000});
    api.ensure(class).await;
    let mut urgent = pod("b", json!({}));
    urgent["spec"]["priorityClassName"] = "system-node-critical".into();
    let refused = api.try_create(urgent).await.expect_err("no quota is of that class");
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (500, "insufficient quota to match these scopes: [{PriorityClass In [system-node-critical]}]")
    );
}

#[actix::test]
async fn a_create_is_charged_and_one_too_many_is_refused() {
    let api = boot().await;
    quota(&api, "q", json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "0", "requests.cpu": "0"})).await;
    api.create(pod("a", json!({"requests": {"cpu": "600m"}}))).await;
    assert_eq!(used(&api, "q").await, json!({"pods": "1", "requests.cpu": "600m"}));
    let status = api.try_create(pod("b", json!({"requests": {"cpu": "500m"}}))).await.expect_err("is refused");
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let status = api.try_create(pod("b", json!({}))).await.expect_err("is refused");
    assert_eq!(status.message, "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    assert_eq!(used(&api, "q").await, json!({"pods": "1", "requests.cpu": "600m"}));
}

#[actix::test]
async fn two_servers_on_one_store_never_spend_the_same_unit() {
    let store = Arc::new(MemoryStore::new());
    let first = boot_with(ApiServerOptions::new(store.clone() as Arc<dyn Store>)).await;
    let second = boot_with(ApiServerOptions::new(store as Arc<dyn Store>)).await;
    quota(&first, "q", json!({"configmaps": "10"}), json!({"configmaps": "0"})).await;
    quota(&first, "r", json!({"configmaps": "12"}), json!({"configmaps": "0"})).await;
    let seen = || async { second.get("resourcequotas", "default", "r").await.is_ok_and(|quota| quota.get(&["status", "used"]).is_some()) };
    while !seen().await {
        tokio::task::yield_now().await;
    }
    let map = |name: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    let creates = (0..40).map(|at| if at % 2 == 0 { first.try_create(map(format!("m{at}"))) } else { second.try_create(map(format!("m{at}"))) });
    let created = join_all(creates).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(created, 10);
    assert_eq!(first.names("configmaps", "default").await.len(), 10);
    becomes_used(&first, "q", json!({"configmaps": "10"})).await;
}

#[actix::test]
async fn a_write_that_fails_gets_its_charge_back() {
    let api = boot().await;
    quota(&api, "q", json!({"secrets": "5"}), json!({"secrets": "0"})).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}});
    api.create(secret.clone()).await;
    assert!(api.try_create(secret).await.expect_err("exists").is_already_exists());
    becomes_used(&api, "q", json!({"secrets": "1"})).await;
}

#[actix::test]
async fn a_charge_is_not_given_back_once_somebody_counted() {
    let api = boot().await;
    quota(&api, "q", json!({"secrets": "5"}), json!({"secrets": "0"})).await;
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}});
    api.create(secret("a")).await;
    // The count includes what exists, and never what did not come to be.
    count(&api, "q", json!({"secrets": "1"})).await;
    api.create(secret("b")).await;
    assert!(api.try_create(secret("b")).await.expect_err("exists").is_already_exists());
    becomes_used(&api, "q", json!({"secrets": "2"})).await;
}

#[actix::test]
async fn a_dry_run_is_judged_but_not_charged() {
    let api = boot().await;
    quota(&api, "q", json!({"services.nodeports": "1"}), json!({"services.nodeports": "0"})).await;
    let service = |ports: usize| {
        let ports: Vec<_> = (0..ports).map(|port| json!({"name": format!("p{port}"), "port": 80 + port})).collect();
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"}, "spec": {"type": "NodePort", "ports": ports}})
    };
    let dry = |body: Value| {
        let options = WriteOptions { dry_run: true, ..WriteOptions::default() };
        api.call(api.target("services", "default", ""), Operation::Create { body: Body::Json(body.to_string().into()), options })
    };
    dry(service(1)).await.expect("fits");
    let status = dry(service(2)).await.expect_err("does not fit");
    assert!(status.message.contains("exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0"), "{status}");
    assert_eq!(used(&api, "q").await, json!({"services.nodeports": "0"}));
}

#[actix::test]
async fn an_update_is_charged_what_it_adds() {
    let api = boot().await;
    quota(&api, "q", json!({"services.nodeports": "1"}), json!({"services.nodeports": "0"})).await;
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
    api.create(service).await;
    let patch = |spec: Value| api.patch(api.target("services", "default", "s"), PatchType::Merge, json!({"spec": spec}));
    patch(json!({"type": "NodePort"})).await.expect("fits");
    assert_eq!(used(&api, "q").await, json!({"services.nodeports": "1"}));
    let more = json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]});
    assert_eq!(patch(more).await.expect_err("does not fit").code, 403);
}

#[actix::test]
async fn any_resource_counts_and_so_does_the_quota_itself() {
    let api = boot().await;
    quota(&api, "q", json!({"count/deployments.apps": "0", "resourcequotas": "1"}), json!({"count/deployments.apps": "0", "resourcequotas": "1"}))
        .await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    let status = api.try_create(deployment).await.expect_err("is refused");
    assert_eq!(
        status.message,
        "deployments.apps \"d\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0"
    );
    let another = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "r", "namespace": "default"}, "spec": {}});
    assert_eq!(api.try_create(another).await.expect_err("is refused").code, 403);
}

#[actix::test]
async fn limit_ranges_give_pods_what_a_quota_asks_for() {
    let api = boot().await;
    quota(&api, "q", json!({"limits.memory": "1Gi"}), json!({"limits.memory": "0"})).await;
    let limits = json!([{"type": "Container", "default": {"memory": "100Mi"}, "max": {"memory": "200Mi"}}]);
    api.create(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": limits}}))
        .await;
    let created: Object = api.create(pod("a", json!({}))).await;
    assert_eq!(created.list(&["spec", "containers"])[0]["resources"], json!({"limits": {"memory": "100Mi"}, "requests": {"memory": "100Mi"}}));
    assert_eq!(used(&api, "q").await, json!({"limits.memory": "100Mi"}));
    let status = api.try_create(pod("b", json!({"limits": {"memory": "300Mi"}}))).await.expect_err("is refused");
    assert_eq!(status.message, "pods \"b\" is forbidden: maximum memory usage per Container is 200Mi, but limit is 300Mi");
}
