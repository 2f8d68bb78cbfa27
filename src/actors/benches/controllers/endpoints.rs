//! A pod of a Service with 5,000 changes: how long until the slice says so.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use troupe_actors::{
    controllers::endpointslice::EndpointSliceController,
    runtime::{
        cache::{Cache, Caches},
        controller::start,
    },
};
use troupe_api::service::{ListOptions, WatchItem, WatchOptions};

use crate::{
    api,
    figures::{Budget, report},
    ready, running_pod, set_status,
};

const PODS: usize = 5_000;
const CHANGES: usize = 31;
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure() {
    let (api, system) = api().await;
    for number in 0..PODS {
        running_pod(&api, &format!("p{number}"), "web", number).await;
    }
    api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}))
        .await;
    let caches = Caches::new(system.clone(), api.client.clone());
    let begun = Instant::now();
    start(&system, &caches, api.client.clone(), EndpointSliceController::new(&caches));
    let slices: Cache<EndpointSlice> = caches.cache();
    while slices.list("default").iter().map(|slice| slice.endpoints.iter().flatten().count()).sum::<usize>() < PODS {
        assert!(begun.elapsed() < PATIENCE, "the slices do not show {PODS} pods");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    report("slices of a Service with 5,000 pods, from nothing", begun.elapsed().as_secs_f64(), " s", Budget::None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let seen = api.list("endpointslices.discovery.k8s.io", "default", ListOptions::default()).await.expect("lists").revision;
        let options = WatchOptions { resource_version: Some(seen), ..WatchOptions::default() };
        let mut watch = api.watch("endpointslices.discovery.k8s.io", "default", options).await;
        let begun = Instant::now();
        set_status(&api, &format!("p{}", round * 131), json!({"conditions": [ready(false)]})).await;
        let item = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("the slice changes");
        assert!(matches!(item, Some(WatchItem::Event { .. })), "{item:?}");
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    times.sort_by(f64::total_cmp);
    let what = "a pod of a Service with 5,000 is not ready any more, to the slice";
    report(&format!("{what}, median"), times[CHANGES / 2], " ms", Budget::AtMost(50.0));
    report(&format!("{what}, the slowest of {CHANGES}"), times[CHANGES - 1], " ms", Budget::AtMost(50.0));
    system.shutdown(Duration::from_secs(5)).await;
}
