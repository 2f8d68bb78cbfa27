//! The API server in this process on the store in memory, on one thread: what reads, writes and watches cost behind
//! the front door, and what 10,000 pods weigh. Pods go through admission, defaults, field ownership and validation.

#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../../../tests/support/figures.rs"]
mod figures;
#[path = "apiserver/policies.rs"]
mod policies;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use figures::Budget;
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use troupe_actors::apiserver::testing::{TestApi, boot};
use troupe_api::{
    meta::{FieldSelector, LabelSelector, Revision},
    service::{ListOptions, Operation, PatchType, WatchItem, WatchOptions, WatchStream},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PODS: usize = 10_000;
const WATCHERS: usize = 1_000;
const LASTS: Duration = Duration::from_secs(2);

fn main() {
    println!("API server behind its door");
    // As the daemon does: what is resident should be what is used.
    nix::sys::prctl::set_thp_disable(true).expect("Linux allows");
    actix::System::new().block_on(async {
        let api = boot().await;
        policies::measure(&api).await;
        creates(&api).await;
        gets(&api).await;
        lists(&api).await;
        patches(&api).await;
        watches(&api).await;
        selecting_watches(&api).await;
    });
}

/// A pod as a deployment makes them, about 1.5 KB before defaults.
fn pod(at: usize) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("web-5d4f8c7b9d-{at:05}"), "namespace": "default",
            "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9d", "shard": (at % 100).to_string()},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9d", "controller": true, "blockOwnerDeletion": true,
                "uid": "7d0dbb6a-8f0c-4d4f-9a35-0f3f3b1a5c11",
            }],
        },
        "spec": {"containers": [{
            "name": "web", "image": "registry.example/web:1.2.3", "args": ["--listen=:8080", "--verbose"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "MODE", "value": "production"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": probe, "livenessProbe": probe,
        }]},
    })
}

async fn creates(api: &TestApi) {
    let before = resident();
    let begin = Instant::now();
    for at in 0..PODS {
        api.create(pod(at)).await;
    }
    report("create a pod", per_second(PODS, begin.elapsed()), "/s");
    let list = api.list("pods", "default", ListOptions::default()).await.expect("lists");
    let encoded: usize = list.items.iter().map(|item| item.encoded_length()).sum();
    report("size of a stored pod", kib(encoded / PODS), " KiB");
    report("memory of 10,000 pods", kib(resident().saturating_sub(before)) / 1024.0, " MiB");
}

async fn gets(api: &TestApi) {
    for (what, resource_version) in [("get, newest", None), ("get, any version", Some(Revision::ZERO))] {
        let rate = rate(|at| {
            let target = api.target("pods", "default", &format!("web-5d4f8c7b9d-{:05}", at % PODS));
            async move {
                api.call(target, Operation::Get { resource_version }).await.expect("reads");
            }
        });
        report(what, rate.await, "/s");
    }
}

async fn lists(api: &TestApi) {
    let selecting = ListOptions { labels: LabelSelector::parse("shard=7").expect("parses"), ..ListOptions::default() };
    let paged = ListOptions { limit: 500, ..ListOptions::default() };
    for (what, options, wanted) in [
        ("list of 10,000", ListOptions::default(), PODS),
        ("list of 100 of 10,000 by label", selecting, PODS / 100),
        ("first page of 500", paged, 500),
    ] {
        let rate = rate(|_| {
            let options = options.clone();
            async move {
                let list = api.list("pods", "default", options).await.expect("lists");
                assert_eq!(list.items.len(), wanted);
            }
        });
        report(what, 1000.0 / rate.await, " ms");
    }
}

async fn patches(api: &TestApi) {
    for (what, patch_type) in [("merge patch", PatchType::Merge), ("strategic patch", PatchType::StrategicMerge)] {
        let rate = rate(|at| {
            let target = api.target("pods", "default", &format!("web-5d4f8c7b9d-{:05}", at % PODS));
            let patch = json!({"metadata": {"annotations": {"round": format!("{patch_type:?}-{at}")}}});
            async move {
                api.patch(target, patch_type, patch).await.expect("patches");
            }
        });
        report(what, rate.await, "/s");
    }
}

/// Every watcher sees every write; the time is from the write's begin until the last watcher has it.
async fn watches(api: &TestApi) {
    let before = resident();
    let mut watches = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS {
        watches.push(api.watch("configmaps", "default", WatchOptions::default()).await);
    }
    report("memory of a watcher", kib(resident().saturating_sub(before) / WATCHERS), " KiB");
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < LASTS {
        let written = Instant::now();
        let name = format!("m{}", times.len());
        api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}})).await;
        let received: FuturesUnordered<_> = watches.iter_mut().map(next_name).collect();
        assert!(received.all(|seen| std::future::ready(*seen == *name)).await, "every watcher sees every write in order");
        times.push(written.elapsed());
    }
    report("events to 1,000 watchers", per_second(times.len() * WATCHERS, begin.elapsed()), "/s");
    times.sort_unstable();
    report("a write seen by all, median", milliseconds(times[times.len() / 2]), " ms");
    report("a write seen by all, p99", milliseconds(times[times.len() * 99 / 100]), " ms");
}

/// What a write costs, until its own watcher has it, while so many others watch what it does not concern.
async fn selecting_watches(api: &TestApi) {
    let alone = selecting(api, "of other names", 1, |_| ("".to_owned(), "metadata.name=other".to_owned())).await;
    for (what, count) in [("of other names", 1_000), ("of other names", 10_000)] {
        let time = selecting(api, what, count, |at| (String::new(), format!("metadata.name=other-{at}"))).await;
        report(&format!("a write beside {count} watchers {what} / beside 1"), time / alone, "");
    }
    let nodes = selecting_pods(api, 10_000).await / selecting_pods(api, 1).await;
    report("a pod of a node beside 10000 watchers of other nodes / beside 1", nodes, "");
    let requirements: Vec<_> = (0..1000).map(|at| format!("!label-{at}")).collect();
    let expensive = selecting(api, "of one expensive selector", 1_000, |_| (requirements.join(","), String::new())).await;
    report("a write beside 1000 watchers of one expensive selector / beside 1", expensive / alone, "");
    let distinct = |at: usize| ((0..100).map(|label| format!("!label-{at}-{label}")).collect::<Vec<_>>().join(","), String::new());
    let expensive = selecting(api, "of expensive selectors", 1_000, distinct).await;
    report("a write beside 1000 watchers of expensive selectors / beside 1", expensive / alone, "");
}

/// Microseconds of a write in a namespace of its own until its watcher has it, beside others.
async fn selecting(api: &TestApi, what: &str, count: usize, selectors: impl Fn(usize) -> (String, String)) -> f64 {
    let options = |labels: &str, fields: &str| WatchOptions {
        labels: LabelSelector::parse(labels).expect("parses"),
        fields: FieldSelector::parse(fields).expect("parses"),
        ..WatchOptions::default()
    };
    let mut others = Vec::with_capacity(count);
    for at in 0..count {
        let (labels, fields) = selectors(at);
        others.push(api.watch("secrets", "", options(&labels, &fields)).await);
    }
    let mut own = api.watch("secrets", "default", options("", "metadata.name=own")).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": "default"}});
    api.ensure(secret).await;
    next_name(&mut own).await;
    let (begin, mut done) = (Instant::now(), 0_usize);
    while begin.elapsed() < LASTS {
        let patch = json!({"metadata": {"annotations": {"round": done.to_string()}}});
        api.patch(api.target("secrets", "default", "own"), PatchType::Merge, patch).await.expect("patches");
        next_name(&mut own).await;
        done += 1;
    }
    let time = 1e6 / per_second(done, begin.elapsed());
    report(&format!("a write beside {count} watchers {what}"), time, " µs");
    time
}

/// Microseconds of a change of a pod until its node's watcher has it, beside those of other nodes.
async fn selecting_pods(api: &TestApi, count: usize) -> f64 {
    let of_node = |node: &str| WatchOptions {
        fields: FieldSelector::parse(&format!("spec.nodeName={node}")).expect("parses"),
        resource_version: Some(Revision::ZERO),
        send_initial_events: Some(false),
        ..WatchOptions::default()
    };
    let mut others = Vec::with_capacity(count);
    for at in 0..count {
        others.push(api.watch("pods", "", of_node(&format!("other-{at}"))).await);
    }
    let mut placed = pod(0);
    placed["metadata"]["name"] = "placed".into();
    placed["spec"]["nodeName"] = "own".into();
    api.ensure(placed).await;
    let mut own = api.watch("pods", "", of_node("own")).await;
    let (begin, mut done) = (Instant::now(), 0_usize);
    while begin.elapsed() < LASTS {
        let patch = json!({"metadata": {"annotations": {"round": format!("{count}-{done}")}}});
        api.patch(api.target("pods", "default", "placed"), PatchType::Merge, patch).await.expect("patches");
        next_name(&mut own).await;
        done += 1;
    }
    let time = 1e6 / per_second(done, begin.elapsed());
    report(&format!("a pod of a node beside {count} watchers of other nodes"), time, " µs");
    time
}

async fn next_name(watch: &mut WatchStream) -> Arc<str> {
    match watch.next().await {
        Some(WatchItem::Event { object, .. }) => object.key.name.clone(),
        other => panic!("expected an event, got {other:?}"),
    }
}

/// Operations per second, one after another.
async fn rate<F: Future<Output = ()>>(operation: impl Fn(usize) -> F) -> f64 {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < LASTS {
        operation(done).await;
        done += 1;
    }
    per_second(done, begin.elapsed())
}

fn report(what: &str, figure: f64, unit: &str) {
    figures::report(&format!("behind the door: {what}"), figure, unit, Budget::None);
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
