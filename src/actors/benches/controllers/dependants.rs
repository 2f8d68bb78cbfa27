//! An owner with 50,000 dependants is deleted: how long until they are gone.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use troupe_actors::{
    controllers::garbage_collector,
    runtime::cache::{Cache, Caches},
};
use troupe_api::service::DeleteOptions;

use crate::{
    api,
    figures::{Budget, report},
};

const DEPENDANTS: usize = 50_000;
const PATIENCE: Duration = Duration::from_secs(600);

pub async fn measure() {
    let (api, system) = api().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "default"}});
    let owner = api.create(owner).await;
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]);
    for number in 0..DEPENDANTS {
        let metadata = json!({"name": format!("d{number}"), "namespace": "default", "ownerReferences": reference});
        api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
    }
    let caches = Caches::new(system.clone(), api.client.clone());
    let all: Cache<ConfigMap> = caches.cache();
    garbage_collector::start(&system, &api.client);
    // It looks at what there is when it begins, and leaves it.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(all.keys().iter().filter(|key| key.name.starts_with('d')).count(), DEPENDANTS);
    let begun = Instant::now();
    api.delete("configmaps", "default", "owner", DeleteOptions::default()).await.expect("is taken");
    while all.keys().iter().any(|key| key.name.starts_with('d')) {
        assert!(begun.elapsed() < PATIENCE, "{} of {DEPENDANTS} are left", all.keys().len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    report("50,000 dependants of a deleted owner: all collected", seconds, " s", Budget::None);
    report("dependants collected", DEPENDANTS as f64 / seconds, "/s", Budget::None);
    system.shutdown(Duration::from_secs(5)).await;
}
