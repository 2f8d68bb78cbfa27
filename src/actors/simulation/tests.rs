use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use serde_json::json;
use troupe_api::service::{ListOptions, PatchType};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use super::{Faults, FaultyService, history, jump_clock, restart_units, simulate_with_clock};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    controllers::{deployment::DeploymentController, replicaset::ReplicaSetController},
    runtime::{cache::Caches, controller::start, system::System},
};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(900);

async fn apply(api: &TestApi, replicas: i32, image: &str) {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let target = api.target("deployments.apps", "default", "web");
    if api.get("deployments.apps", "default", "web").await.is_ok() {
        api.patch(target, PatchType::Merge, json!({"spec": spec})).await.expect("patched");
    } else {
        let metadata = json!({"name": "web", "namespace": "default"});
        api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})).await;
    }
}

/// Makes every pod ready, in the order of their creation, as a kubelet would.
async fn make_pods_ready(api: &TestApi, now: &str) {
    let pods = api.client.namespaced::<Pod>("default").list(ListOptions::default()).await.expect("listed").items;
    let mut pods: Vec<_> = pods.into_iter().filter(|pod| !crate::controllers::pods::is_ready(pod)).collect();
    pods.sort_by_key(|pod| pod.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok()));
    for pod in pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}});
        api.patch(api.subresource("pods", "default", name, "status"), PatchType::Merge, ready).await.expect("patched");
    }
}

async fn play(api: &TestApi, system: &System, time: Duration) {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        make_pods_ready(api, &troupe_api::meta::time::format_time(system.clock().now())).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn is_converged(deployment: &Deployment, replicas: i32) -> bool {
    let Some(status) = &deployment.status else { return false };
    status.observed_generation == deployment.metadata.generation
        && status.replicas.unwrap_or(0) == replicas
        && status.updated_replicas.unwrap_or(0) == replicas
        && status.available_replicas.unwrap_or(0) == replicas
}

/// A Deployment is made, scaled and changed under faults. Returns the history of the run.
fn run(seed: u64) -> Vec<String> {
    simulate_with_clock(seed, |system, clock| async move {
        let options =
            ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
        let api = boot_with(options).await;
        let service = FaultyService::new(api.server.clone(), Faults::default(), seed);
        let client = Client::new(service, api.user.clone(), "controllers");
        let caches = Caches::new(system.clone(), client.clone());
        start(&system, &caches, client.clone(), DeploymentController::new(&caches));
        start(&system, &caches, client, ReplicaSetController::new(&caches));
        let steps = async {
            apply(&api, 3, "a:1").await;
            play(&api, &system, FAULTY).await;
            apply(&api, 5, "a:1").await;
            play(&api, &system, FAULTY).await;
            apply(&api, 4, "a:2").await;
            play(&api, &system, FAULTY).await;
        };
        tokio::select! {
            biased;
            () = steps => {}
            () = restart_units(system.clone(), "controllers/", Duration::from_secs(7), seed) => {}
            () = jump_clock(clock, Duration::from_secs(30), Duration::from_secs(11), seed) => {}
        }
        play(&api, &system, REST).await;
        let deployment = api.client.namespaced::<Deployment>("default").get("web").await.expect("there");
        assert!(is_converged(&deployment, 4), "seed {seed}: {:?}", deployment.status);
        assert_eq!(api.names("pods", "default").await.len(), 4, "seed {seed}");
        let sets = api.client.namespaced::<ReplicaSet>("default").list(ListOptions::default()).await.expect("listed").items;
        assert_eq!(sets.len(), 2, "seed {seed}: one set per template");
        history(&system)
    })
}

#[test]
fn a_deployment_converges_under_faults_whatever_the_seed() {
    let first: u64 = rand::random_range(0..1_000_000);
    for seed in first..first + 5 {
        println!("seed {seed}");
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_hops() {
    println!("seeds 7 and 8");
    let (first, second) = (run(7), run(7));
    let same = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    assert_eq!(first[same..].first(), second[same..].first(), "after {:#?}", &first[same.saturating_sub(5)..same]);
    assert_ne!(first, run(8), "another seed goes another way");
}
