//! Near the end of memory nothing new is taken in, and everything else goes on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde_json::{Value, json};
use troupe_api::{
    memory::MemoryGauge,
    service::{DeleteOptions, Operation, PatchType},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{ApiServerOptions, testing::boot_with};

#[derive(Debug, Default)]
struct Switch(AtomicBool);

impl MemoryGauge for Switch {
    fn is_short(&self) -> bool {
        self.0.load(Relaxed)
    }
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}})
}

#[actix::test]
async fn short_of_memory_the_server_takes_in_nothing_new_and_does_all_else() {
    let memory = Arc::new(Switch::default());
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.memory = memory.clone();
    let api = boot_with(options).await;
    api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})).await;
    api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})).await;
    api.create(config_map("there")).await;
    memory.0.store(true, Relaxed);
    let refused = api.try_create(config_map("another")).await.expect_err("is refused");
    assert_eq!((refused.code, refused.details.map(|details| details.retry_after_seconds)), (429, Some(5)));
    assert!(refused.message.contains("short of memory"), "{}", refused.message);
    let lease = |namespace: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": namespace}});
    api.create(lease("kube-system")).await;
    assert_eq!(api.try_create(lease("default")).await.expect_err("is nobody's heartbeat").code, 429);
    let there = || api.target("configmaps", "default", "there");
    let patch = |value: String| api.patch(there(), PatchType::Merge, json!({"data": {"a": value}}));
    patch("small".into()).await.expect("small changes go on");
    assert_eq!(patch("x".repeat(40_000)).await.expect_err("is refused").code, 429);
    api.call(there(), Operation::Delete(DeleteOptions::default())).await.expect("deletions make room");
    memory.0.store(false, Relaxed);
    api.create(config_map("another")).await;
}
