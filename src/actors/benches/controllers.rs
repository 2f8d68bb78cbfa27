//! Controllers on an API server in this process, on the store in memory: how soon the slices of a large Service show a change, how long
//! many dependants take to be collected, what autoscalers cost, and how late a controller is while much changes.

#[path = "controllers/autoscalers.rs"]
mod autoscalers;
#[path = "controllers/dependants.rs"]
mod dependants;
#[path = "controllers/endpoints.rs"]
mod endpoints;
#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../../../tests/support/figures.rs"]
mod figures;
#[path = "controllers/reaction.rs"]
mod reaction;

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_actors::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    runtime::system::{System, SystemOptions},
};
use troupe_api::service::PatchType;
use troupe_api_server::store::memory::MemoryStore;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    println!("controllers");
    actix::System::new().block_on(async {
        endpoints::measure().await;
        reaction::measure().await;
        autoscalers::measure().await;
        dependants::measure().await;
    });
}

/// An API server with a system that controllers can share.
async fn api() -> (TestApi, System) {
    let system = System::new(SystemOptions::default()).expect("threads start");
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.system = system.clone();
    (boot_with(options).await, system)
}

/// A pod that runs and is ready.
async fn running_pod(api: &TestApi, name: &str, app: &str, number: usize) {
    let resources = json!({"requests": {"cpu": "100m", "memory": "128Mi"}});
    let containers = json!([{"name": "c", "image": "i", "resources": resources, "ports": [{"containerPort": 80}]}]);
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
        "spec": {"nodeName": format!("node-{}", number % 100), "containers": containers}}))
        .await;
    let ip = format!("10.{}.{}.{}", 100 + number / 50_000, number / 200 % 250, 1 + number % 200);
    set_status(
        api,
        name,
        json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready(true)]}),
    )
    .await;
}

fn ready(is: bool) -> Value {
    json!({"type": "Ready", "status": if is { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:10Z"})
}

async fn set_status(api: &TestApi, pod: &str, status: Value) {
    let target = api.subresource("pods", "default", pod, "status");
    api.patch(target, PatchType::StrategicMerge, json!({"status": status})).await.expect("the status is written");
}
