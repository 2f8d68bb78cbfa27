use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use troupe_api::meta::Revision;
use troupe_api_server::store::{Store, WatchMessage, memory::MemoryStore};

use super::hooked::{Hooked, Hooks};
use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

/// Holds watches back, so that compaction overtakes them.
struct Held {
    held: watch::Sender<bool>,
    /// Set when a watch has noticed that it is held.
    noticed: watch::Sender<bool>,
}

/// Passes messages on; once held, drops what comes until it is let go, and ends as overtaken by compaction then.
async fn relay(
    mut from: mpsc::Receiver<WatchMessage>,
    to: mpsc::Sender<WatchMessage>,
    mut held: watch::Receiver<bool>,
    noticed: watch::Sender<bool>,
) {
    loop {
        let message = tokio::select! {
            biased;
            _ = held.wait_for(|held| *held) => break,
            message = from.recv() => message,
        };
        let Some(message) = message else { return };
        if to.send(message).await.is_err() {
            return;
        }
    }
    noticed.send_replace(true);
    let let_go = held.wait_for(|held| !held).await.is_ok();
    if let_go {
        // Whoever listened is gone when this fails.
        let _ = to.send(WatchMessage::Ended { compacted: Some(Revision(1)) }).await;
    }
}

impl Hooks for Held {
    fn watched(&self, messages: mpsc::Receiver<WatchMessage>) -> mpsc::Receiver<WatchMessage> {
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(relay(messages, sender, self.held.subscribe(), self.noticed.clone()));
        receiver
    }
}

async fn config_map(api: &TestApi, name: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await;
}

#[actix::test]
async fn a_feed_that_compaction_overtakes_loads_everything_again() {
    let hooks = Held { held: watch::Sender::new(false), noticed: watch::Sender::new(false) };
    let store = Arc::new(Hooked { inner: MemoryStore::new(), hooks });
    let api = boot_with(ApiServerOptions::new(store.clone())).await;
    config_map(&api, "kept").await;
    config_map(&api, "gone").await;
    store.hooks.held.send_replace(true);
    store.hooks.noticed.subscribe().wait_for(|noticed| *noticed).await.expect("the sender lives");
    // As another server would, past this one's caches.
    let key = |name: &str| Bytes::from(format!("/registry/configmaps/default/{name}"));
    let (kept, _) = store.inner.get(&key("kept"), None).await.expect("reads");
    let value = String::from_utf8(kept.expect("exists").value.to_vec()).expect("text").replace("kept", "new");
    store.inner.create(key("new"), value.into(), None).await.expect("creates");
    let (gone, _) = store.inner.get(&key("gone"), None).await.expect("reads");
    let last = store.inner.delete(key("gone"), gone.expect("exists").mod_revision).await.expect("deletes");
    store.inner.compact(last).await.expect("compacts");
    store.hooks.held.send_replace(false);
    assert_eq!(api.names("configmaps", "default").await, ["kept", "new"]);
    config_map(&api, "later").await;
    assert_eq!(api.names("configmaps", "default").await, ["kept", "later", "new"]);
}
