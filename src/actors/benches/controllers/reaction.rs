//! 1,000 changes a second to what a controller looks after: how long until it has answered each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::json;
use troupe_actors::{
    apiserver::testing::TestApi,
    controllers::replicaset::ReplicaSetController,
    runtime::{
        cache::{Cache, Caches},
        controller::start,
    },
};
use troupe_api::service::{ListOptions, PatchType, WatchItem, WatchOptions};

use crate::{
    api,
    figures::{Budget, report},
};

const SETS: usize = 1_000;
const RATE: usize = 1_000;
const SECONDS: usize = 10;

/// When each set was changed to what nobody has answered yet, by name and generation.
type Changed = Arc<Mutex<HashMap<(String, i64), Instant>>>;

pub async fn measure() {
    let (api, system) = api().await;
    for number in 0..SETS {
        let labels = json!({"app": format!("s{number}")});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        api.create(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": format!("s{number}"), "namespace": "default"},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}}))
            .await;
    }
    let caches = Caches::new(system.clone(), api.client.clone());
    start(&system, &caches, api.client.clone(), ReplicaSetController::new(&caches));
    let sets: Cache<ReplicaSet> = caches.cache();
    while !sets.is_synced() || sets.list("default").iter().any(|set| observed(set) != set.metadata.generation) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let changed = Changed::default();
    let (answers, ()) = tokio::join!(answers(&api, &changed), change(&api, &changed));
    let at = |share: f64| answers[((answers.len() - 1) as f64 * share) as usize];
    report("a controller's answer under 1,000 changes/s, median", at(0.5), " ms", Budget::None);
    report("a controller's answer under 1,000 changes/s, p99", at(0.99), " ms", Budget::AtMost(20.0));
    system.shutdown(Duration::from_secs(5)).await;
}

fn observed(set: &ReplicaSet) -> Option<i64> {
    set.status.as_ref()?.observed_generation
}

/// Changes one set after the other at the rate. Each change is a new generation.
async fn change(api: &TestApi, changed: &Changed) {
    let begun = Instant::now();
    for number in 0..RATE * SECONDS {
        let due = Duration::from_micros(number as u64 * 1_000_000 / RATE as u64);
        // Who is late catches up: a sleep of no time lasts until the clock's next tick.
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let (name, round) = (format!("s{}", number % SETS), number / SETS);
        changed.lock().expect("nobody panics").insert((name.clone(), i64::try_from(round).expect("small") + 2), Instant::now());
        let patch = json!({"spec": {"minReadySeconds": round + 1}});
        api.patch(api.target("replicasets.apps", "default", &name), PatchType::Merge, patch).await.expect("is taken");
    }
    let rate = (RATE * SECONDS) as f64 / begun.elapsed().as_secs_f64();
    report("changes made a second meanwhile", rate, "/s", Budget::AtLeast(RATE as f64 * 0.99));
}

/// Milliseconds from each change to the controller's answer, sorted.
async fn answers(api: &TestApi, changed: &Changed) -> Vec<f64> {
    let mut seen = api.list("replicasets.apps", "default", ListOptions::default()).await.expect("lists").revision;
    let mut times = Vec::new();
    while times.len() < RATE * SECONDS {
        let options = WatchOptions { resource_version: Some(seen), ..WatchOptions::default() };
        let mut watch = api.watch("replicasets.apps", "default", options).await;
        // A watcher that falls behind is dropped, and goes on from what it has seen.
        while let Some(item) = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("all are answered") {
            let WatchItem::Event { object, .. } = item else { break };
            seen = object.revision;
            let set = object.typed::<ReplicaSet>().expect("a set");
            // A later answer is one to earlier changes, too.
            for generation in 2..=observed(&set).unwrap_or_default() {
                if let Some(at) = changed.lock().expect("nobody panics").remove(&(object.key.name.to_string(), generation)) {
                    times.push(at.elapsed().as_secs_f64() * 1000.0);
                }
            }
            if times.len() == RATE * SECONDS {
                break;
            }
        }
    }
    times.sort_by(f64::total_cmp);
    times
}
