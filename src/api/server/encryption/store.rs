//! A store that seals what it is given and opens what it gives.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_api::{
    meta::{GroupResource, Revision},
    resources::Resource,
};

use super::{ciphers::Opened, providers::SEALED, rules::EncryptionRules};
use crate::store::{KeyValue, RangeReply, RangeRequest, Store, StoreError, StoreEvent, WatchMessage, keys};

/// Messages of a watch that may wait to be opened.
const WAITING: usize = 64;

/// A store whose values are sealed by rules that may be exchanged. What it gives to read is open.
#[derive(Clone)]
pub struct EncryptedStore {
    inner: Arc<dyn Store>,
    opener: Opener,
}

/// Says whether the services that keep keys are well.
#[derive(Clone)]
pub struct EncryptionHealth(pub(super) Arc<ArcSwap<EncryptionRules>>);

impl EncryptionHealth {
    /// # Errors
    /// What is not well.
    pub async fn check(&self) -> Result<(), String> {
        self.0.load_full().check().await
    }
}

#[derive(Clone)]
struct Opener {
    rules: Arc<ArcSwap<EncryptionRules>>,
    by_prefix: Arc<HashMap<Arc<str>, GroupResource>>,
}

impl EncryptedStore {
    /// `resources` are the built-in ones; those of definitions lie under their group and name.
    pub fn new(inner: Arc<dyn Store>, rules: Arc<ArcSwap<EncryptionRules>>, resources: &[Arc<Resource>]) -> Self {
        let mut by_prefix = HashMap::new();
        for row in resources {
            let named = GroupResource::new(row.group.clone(), row.plural.clone());
            // Events have two groups, of which the core's counts.
            let place = by_prefix.entry(row.storage_prefix.clone()).or_insert_with(|| named.clone());
            if named.group.is_empty() {
                *place = named;
            }
        }
        EncryptedStore { inner, opener: Opener { rules, by_prefix: Arc::new(by_prefix) } }
    }
}

impl Opener {
    /// The resource of a key; nothing for what is no object.
    fn resource(&self, key: &[u8]) -> Option<GroupResource> {
        if let Some(known) = keys::prefix_of(key, |prefix| self.by_prefix.get(prefix).cloned()) {
            return Some(known);
        }
        let mut parts = std::str::from_utf8(key).ok()?.strip_prefix(keys::ROOT)?.split('/');
        let (group, resource) = (parts.next()?, parts.next()?);
        (group.contains('.') && !resource.is_empty()).then(|| GroupResource::new(group, resource))
    }

    fn seal(&self, key: &Bytes, value: Bytes) -> Result<Bytes, StoreError> {
        let rules = self.rules.load();
        let Some(resource) = self.resource(key) else { return Ok(value) };
        let Some(providers) = rules.of(&resource.group, &resource.resource) else { return Ok(value) };
        providers.seal(&resource.to_string(), &value, key).map_err(|why| untransformable(key, why))
    }

    async fn open(&self, key: &[u8], value: &Bytes) -> Result<Opened, StoreError> {
        let rules = self.rules.load_full();
        let resource = self.resource(key);
        let providers = resource.as_ref().and_then(|resource| rules.of(&resource.group, &resource.resource));
        match (providers, &resource) {
            (Some(providers), Some(resource)) => providers.open(&resource.to_string(), value, key).await.map_err(|why| untransformable(key, why)),
            _ if value.starts_with(SEALED) => Err(untransformable(key, "identity transformer tried to read encrypted data".into())),
            _ => Ok(Opened { value: value.clone(), stale: false }),
        }
    }

    async fn open_one(&self, kv: KeyValue) -> Result<KeyValue, StoreError> {
        let value = self.open(&kv.key, &kv.value).await?.value;
        Ok(KeyValue { value, ..kv })
    }

    /// The same for many: one that cannot be opened comes as it lies there, and whoever decodes it leaves it out.
    async fn open_or_keep(&self, kv: KeyValue) -> KeyValue {
        match self.open(&kv.key, &kv.value).await {
            Ok(opened) => KeyValue { value: opened.value, ..kv },
            Err(error) => {
                tracing::error!(%error, "a stored object cannot be read");
                kv
            }
        }
    }

    async fn open_event(&self, event: StoreEvent) -> StoreEvent {
        match event {
            StoreEvent::Put { kv, previous } => {
                let kv = self.open_or_keep(kv).await;
                let previous = match previous {
                    Some(previous) => Some(self.open_or_keep(previous).await),
                    None => None,
                };
                StoreEvent::Put { kv, previous }
            }
            StoreEvent::Delete { key, revision, previous } => StoreEvent::Delete { key, revision, previous: self.open_or_keep(previous).await },
        }
    }

    async fn open_message(&self, message: WatchMessage) -> WatchMessage {
        let WatchMessage::Events(events) = message else { return message };
        let mut opened = Vec::with_capacity(events.len());
        for event in events {
            opened.push(self.open_event(event).await);
        }
        WatchMessage::Events(opened)
    }

    /// What a write that lost its race lost it to.
    async fn explain<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match outcome {
            Err(StoreError::Conflict { current: Some(current) }) => Err(StoreError::Conflict { current: Some(self.open_one(current).await?) }),
            other => other,
        }
    }
}

fn untransformable(key: &[u8], why: String) -> StoreError {
    StoreError::Untransformable { key: String::from_utf8_lossy(key).into_owned(), why }
}

#[async_trait]
impl Store for EncryptedStore {
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        let sealed = self.opener.seal(&key, value)?;
        match self.opener.explain(self.inner.create(key, sealed, ttl).await).await {
            // Something is there, whatever it is.
            Err(StoreError::Untransformable { .. }) => Err(StoreError::Conflict { current: None }),
            outcome => outcome,
        }
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        let sealed = self.opener.seal(&key, value)?;
        self.opener.explain(self.inner.update(key, sealed, expected, ttl).await).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        self.opener.explain(self.inner.delete(key, expected).await).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError> {
        match self.inner.get(key, at).await? {
            (Some(kv), revision) => Ok((Some(self.opener.open_one(kv).await?), revision)),
            nothing => Ok(nothing),
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        let mut reply = self.inner.range(request).await?;
        for kv in &mut reply.items {
            *kv = self.opener.open_or_keep(kv.clone()).await;
        }
        Ok(reply)
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        let mut sealed = self.inner.watch(prefix, from).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let opener = self.opener.clone();
        // It ends with the watch of either side.
        tokio::spawn(async move {
            while let Some(message) = sealed.recv().await {
                if sender.send(opener.open_message(message).await).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.inner.current_revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn is_stale(&self, key: &[u8]) -> Result<bool, StoreError> {
        match self.inner.get(key, None).await?.0 {
            Some(kv) => Ok(self.opener.open(&kv.key, &kv.value).await?.stale),
            None => Ok(false),
        }
    }
}
