//! Built-in APIs that are switched off.

use std::sync::Arc;

use serde_json::json;
use troupe_api::{
    ApiService,
    resources::{builtin, enablement::RuntimeConfig},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{ApiServerOptions, testing::boot_with};

#[actix::test]
async fn what_is_off_is_served_to_nobody_and_the_server_goes_on() {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    let said = RuntimeConfig::parse(&["batch/v1=false".into(), "apps/v1/daemonsets=false".into(), "rbac.authorization.k8s.io/v1=false".into()]);
    options.resources = said.and_then(|said| said.apply(builtin(), Vec::new())).expect("works");
    let api = boot_with(options).await;
    let registry = api.server.registry();
    let served = |group: &str, plural: &str| registry.by_resource(group, plural).is_some_and(|row| !row.served.is_empty());
    assert!(!served("batch", "jobs") && !served("apps", "daemonsets") && !served("rbac.authorization.k8s.io", "roles"));
    assert!(served("apps", "deployments"));
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}})).await;
}
