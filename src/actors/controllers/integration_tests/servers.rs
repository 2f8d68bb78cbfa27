//! API servers that tell that they are there.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::meta::Cause;
use troupe_api_server::store::memory::MemoryStore;

use super::eventually_async;
use crate::{
    apiserver::{ApiServerOptions, testing::boot_with},
    controllers::server_identity::{self, Leave},
    runtime::system::{System, SystemOptions},
};

#[actix::test]
async fn a_server_keeps_a_lease_and_removes_those_of_servers_that_are_gone() {
    const LEASES: &str = "leases.coordination.k8s.io";
    let system = System::new(SystemOptions::default()).expect("arbiters start");
    let options = ApiServerOptions { system: system.clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
    let api = boot_with(options).await;
    let old = |name: &str, labels: Value| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 1, "renewTime": "2020-01-01T00:00:00.000000Z"},
        })
    };
    api.create(old("gone", json!({"apiserver.kubernetes.io/identity": "kube-apiserver"}))).await;
    api.create(old("another", json!({"app": "web"}))).await;
    let server = server_identity::run(&system, api.client.clone(), "one");
    let own = "apiserver-lonn3mgjh4otei2c3b7rmvvvfq";
    eventually_async("its lease is there, and that of the other one gone", async || api.names(LEASES, "kube-system").await == ["another", own]).await;
    let lease = api.get(LEASES, "kube-system", own).await.expect("a lease");
    assert_eq!((lease.label("apiserver.kubernetes.io/identity"), lease.label("kubernetes.io/hostname")), (Some("kube-apiserver"), Some("one")));
    assert!(lease.str(&["spec", "holderIdentity"]).starts_with(&format!("{own}_")));
    server.ask(Leave, Cause::default()).await.expect("it answers");
    assert_eq!(api.names(LEASES, "kube-system").await, ["another"], "it goes with its server");
}
