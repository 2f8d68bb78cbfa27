//! Objects on which work panics: they are set aside and told of, all others are served, and a change lifts it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Event, Pod},
};
use serde_json::{Value, json};
use troupe_api::service::{ListOptions, PatchType};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use super::simulate;
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    controllers::{deployment::DeploymentController, replicaset::ReplicaSetController},
    runtime::{cache::Caches, controller::start, system::System},
    scheduler,
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn world(system: &System) -> (TestApi, Caches) {
    let options = ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
    let api = boot_with(options).await;
    let caches = Caches::new(system.clone(), api.client.clone());
    (api, caches)
}

async fn deploy(api: &TestApi, name: &str) {
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template});
    let metadata = json!({"name": name, "namespace": "default"});
    api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})).await;
}

async fn bare_pod(api: &TestApi, name: &str) {
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
}

async fn within<F: Future<Output = bool>>(patience: Duration, what: &str, holds: impl Fn() -> F) {
    let until = tokio::time::Instant::now() + patience;
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The replica sets that a Deployment has.
async fn sets(client: &Client, deployment: &str) -> usize {
    let all = client.namespaced::<ReplicaSet>("default").list(ListOptions::default()).await.expect("listed").items;
    all.iter().filter(|set| set.metadata.owner_references.iter().flatten().any(|owner| owner.name == deployment)).count()
}

async fn is_bound(client: &Client, pod: &str) -> bool {
    let pod: Arc<Pod> = client.namespaced("default").get(pod).await.expect("exists");
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// Events about an object that was set aside, as `kubectl describe` finds them.
async fn told(api: &TestApi, resource: &str, name: &str) -> Vec<String> {
    let object = api.get(resource, "default", name).await.expect("exists");
    let uid = object.str(&["metadata", "uid"]).to_owned();
    let all = api.client.namespaced::<Event>("default").list(ListOptions::default()).await.expect("listed").items;
    let about = all.iter().filter(|event| event.involved_object.uid.as_ref() == Some(&uid));
    let aside = about.filter(|event| event.reason.as_deref() == Some("ReconcileQuarantined") && event.type_.as_deref() == Some("Warning"));
    aside.filter_map(|event| event.message.clone()).collect()
}

async fn quarantined(system: &System, path: &str) -> Value {
    let actors = system.directory().observe(Duration::from_secs(1)).await;
    let found = actors.into_iter().find(|actor| &*actor.path == path).expect("it lives");
    assert_eq!(found.restarts, 0, "{path} itself never failed");
    found.status["quarantined"].clone()
}

async fn annotate(api: &TestApi, resource: &str, name: &str) {
    let target = api.target(resource, "default", name);
    api.patch(target, PatchType::Merge, json!({"metadata": {"annotations": {"try": "again"}}})).await.expect("patched");
}

#[test]
fn a_controller_sets_an_object_aside_on_which_it_panics() {
    simulate(1, |system| async move {
        let (api, caches) = world(&system).await;
        start(&system, &caches, api.client.clone(), DeploymentController::new(&caches));
        start(&system, &caches, api.client.clone(), ReplicaSetController::new(&caches));
        assert!(system.directory().poison_key("controllers/deployment", "default/bad", true));
        deploy(&api, "bad").await;
        deploy(&api, "good").await;
        within(PATIENCE, "the good one is served", || async { sets(&api.client, "good").await == 1 }).await;
        within(PATIENCE, "the bad one is told of", || async { told(&api, "deployments.apps", "bad").await.len() == 1 }).await;
        let message = &told(&api, "deployments.apps", "bad").await[0];
        assert!(message.contains("poisoned by the chaos switch"), "{message}");
        let aside = quarantined(&system, "controllers/deployment").await;
        assert_eq!(aside, json!({"default/bad": "poisoned by the chaos switch"}));
        // What comes later is served too, and the bad one rests.
        deploy(&api, "later").await;
        within(PATIENCE, "the later one is served", || async { sets(&api.client, "later").await == 1 }).await;
        system.directory().poison_key("controllers/deployment", "default/bad", false);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(sets(&api.client, "bad").await, 0, "it is tried slowly");
        annotate(&api, "deployments.apps", "bad").await;
        within(Duration::from_secs(5), "a change lifts the quarantine", || async { sets(&api.client, "bad").await == 1 }).await;
        assert_eq!(quarantined(&system, "controllers/deployment").await, json!({}));
    });
}

#[test]
fn a_quarantined_object_is_tried_every_five_minutes() {
    simulate(2, |system| async move {
        let (api, caches) = world(&system).await;
        start(&system, &caches, api.client.clone(), DeploymentController::new(&caches));
        system.directory().poison_key("controllers/deployment", "default/bad", true);
        deploy(&api, "bad").await;
        within(PATIENCE, "it is told of", || async { told(&api, "deployments.apps", "bad").await.len() == 1 }).await;
        system.directory().poison_key("controllers/deployment", "default/bad", false);
        within(Duration::from_secs(310), "it recovers by itself", || async { sets(&api.client, "bad").await == 1 }).await;
    });
}

#[test]
fn the_scheduler_sets_a_pod_aside_on_which_it_panics() {
    simulate(3, |system| async move {
        let (api, caches) = world(&system).await;
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}});
        api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})).await;
        api.patch(api.subresource("nodes", "", "n", "status"), PatchType::Merge, json!({"status": status})).await.expect("patched");
        // Nobody runs that would take the taint of a new node away.
        api.patch(api.target("nodes", "", "n"), PatchType::Merge, json!({"spec": {"taints": null}})).await.expect("patched");
        scheduler::start(&system, &caches, api.client.clone());
        within(PATIENCE, "the scheduler lives", || async { system.directory().poison_key("scheduler", "default/bad", true) }).await;
        bare_pod(&api, "bad").await;
        bare_pod(&api, "good").await;
        within(PATIENCE, "the good one is bound", || async { is_bound(&api.client, "good").await }).await;
        within(PATIENCE, "the bad one is told of", || async { told(&api, "pods", "bad").await.len() == 1 }).await;
        assert_eq!(quarantined(&system, "scheduler").await, json!({"default/bad": "poisoned by the chaos switch"}));
        bare_pod(&api, "later").await;
        within(PATIENCE, "the later one is bound", || async { is_bound(&api.client, "later").await }).await;
        system.directory().poison_key("scheduler", "default/bad", false);
        assert!(!is_bound(&api.client, "bad").await);
        annotate(&api, "pods", "bad").await;
        within(Duration::from_secs(5), "a change lifts the quarantine", || async { is_bound(&api.client, "bad").await }).await;
    });
}
