//! Reads while a resource gets another cache, as it does when its definition says something else.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::watch;
use troupe_api::{
    ApiService,
    meta::GroupResource,
    service::{ListOptions, PatchType, VersionMatch},
};
use troupe_api_server::store::{RangeRequest, memory::MemoryStore};

use super::hooked::{Hooked, Hooks};
use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with, eventually},
};

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const WIDGETS: &str = "widgets.example.com";
const KEYS: &[u8] = b"/registry/example.com/widgets/";

/// Keeps a store from telling which widgets there are now.
struct Held {
    held: watch::Sender<bool>,
    /// Set when somebody waits for that.
    awaited: watch::Sender<bool>,
}

#[async_trait]
impl Hooks for Held {
    async fn before_range(&self, request: &RangeRequest) {
        if request.at.is_none() && request.start.starts_with(KEYS) {
            let mut held = self.held.subscribe();
            let is_held = *held.borrow();
            self.awaited.send_replace(is_held);
            assert!(held.wait_for(|held| !held).await.is_ok(), "the sender lives");
        }
    }
}

fn definition() -> Value {
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": WIDGETS},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    })
}

async fn names(api: &TestApi, options: ListOptions) -> Vec<String> {
    let list = api.list(WIDGETS, "default", options).await.expect("lists");
    list.items.iter().map(|object| object.key.name.to_string()).collect()
}

#[actix::test]
async fn lists_wait_until_all_is_read_anew() {
    let hooks = Held { held: watch::Sender::new(false), awaited: watch::Sender::new(false) };
    let store = Arc::new(Hooked { inner: MemoryStore::new(), hooks });
    let api = boot_with(ApiServerOptions::new(store.clone())).await;
    api.create(definition()).await;
    eventually("it is served", async || api.server.registry().by_resource("example.com", "widgets").is_some()).await;
    for name in ["a", "b", "c"] {
        api.create(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default"}})).await;
    }
    let first = api.list(WIDGETS, "default", ListOptions { limit: 1, ..ListOptions::default() }).await.expect("lists");
    store.hooks.held.send_replace(true);
    let patch = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "Another one."}]);
    api.patch(api.target(CRDS, "", WIDGETS), PatchType::Json, patch).await.expect("patches");
    store.hooks.awaited.subscribe().wait_for(|awaited| *awaited).await.expect("the sender lives");
    let widgets = GroupResource::new("example.com", "widgets");
    assert_eq!(api.server.listers().list(&widgets, "default").len(), 3, "who does not wait finds what there was");
    let since = ListOptions { resource_version: Some(first.revision), version_match: Some(VersionMatch::NotOlderThan), ..ListOptions::default() };
    let rest = ListOptions { continue_token: first.continue_token.clone(), ..ListOptions::default() };
    let let_go = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.hooks.held.send_replace(false);
    };
    let (all, since, rest, ()) = tokio::join!(names(&api, ListOptions::default()), names(&api, since), names(&api, rest), let_go);
    assert_eq!((all, since), (["a", "b", "c"].map(str::to_owned).to_vec(), ["a", "b", "c"].map(str::to_owned).to_vec()));
    assert_eq!(rest, ["b", "c"]);
}
