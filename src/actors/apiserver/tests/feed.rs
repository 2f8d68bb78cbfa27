use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use troupe_api::{
    meta::Revision,
    store::{KeyValue, RangeReply, RangeRequest, Store, StoreError, WatchMessage, memory::MemoryStore},
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

/// A store whose watches can be held back, so that compaction overtakes them.
struct Held {
    inner: MemoryStore,
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

#[async_trait]
impl Store for Held {
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.inner.create(key, value, ttl).await
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.inner.update(key, value, expected, ttl).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        self.inner.delete(key, expected).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError> {
        self.inner.get(key, at).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        self.inner.range(request).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(relay(self.inner.watch(prefix, from).await?, sender, self.held.subscribe(), self.noticed.clone()));
        Ok(receiver)
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.inner.current_revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }
}

async fn config_map(api: &TestApi, name: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await;
}

#[actix::test]
async fn a_feed_that_compaction_overtakes_loads_everything_again() {
    let store = Arc::new(Held { inner: MemoryStore::new(), held: watch::Sender::new(false), noticed: watch::Sender::new(false) });
    let api = boot_with(ApiServerOptions::new(store.clone())).await;
    config_map(&api, "kept").await;
    config_map(&api, "gone").await;
    store.held.send_replace(true);
    store.noticed.subscribe().wait_for(|noticed| *noticed).await.expect("the sender lives");
    // As another server would, past this one's caches.
    let key = |name: &str| Bytes::from(format!("/registry/configmaps/default/{name}"));
    let (kept, _) = store.inner.get(&key("kept"), None).await.expect("reads");
    let value = String::from_utf8(kept.expect("exists").value.to_vec()).expect("text").replace("kept", "new");
    store.inner.create(key("new"), value.into(), None).await.expect("creates");
    let (gone, _) = store.inner.get(&key("gone"), None).await.expect("reads");
    let last = store.inner.delete(key("gone"), gone.expect("exists").mod_revision).await.expect("deletes");
    store.inner.compact(last).await.expect("compacts");
    store.held.send_replace(false);
    assert_eq!(api.names("configmaps", "default").await, ["kept", "new"]);
    config_map(&api, "later").await;
    assert_eq!(api.names("configmaps", "default").await, ["kept", "later", "new"]);
}
