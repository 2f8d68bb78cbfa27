//! A store in memory of which tests can hold back what it tells.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_api::meta::Revision;
use troupe_api_server::store::{KeyValue, RangeReply, RangeRequest, Store, StoreError, WatchMessage, memory::MemoryStore};

/// What a test does to a store.
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Is awaited before a range is read.
    async fn before_range(&self, _request: &RangeRequest) {}

    /// What a watch gets to see of what it is told.
    fn watched(&self, messages: mpsc::Receiver<WatchMessage>) -> mpsc::Receiver<WatchMessage> {
        messages
    }
}

/// The store; `inner` is it without the hooks, as another server would use it.
pub struct Hooked<H> {
    pub inner: MemoryStore,
    pub hooks: H,
}

#[async_trait]
impl<H: Hooks> Store for Hooked<H> {
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
        self.hooks.before_range(&request).await;
        self.inner.range(request).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        Ok(self.hooks.watched(self.inner.watch(prefix, from).await?))
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.inner.current_revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }
}
