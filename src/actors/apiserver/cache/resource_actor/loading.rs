//! Fills the cache with all of its resource as it lies in the store, at the start and when a change was missed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use troupe_api::{meta::Revision, resources::Resource};
use troupe_api_server::{
    encryption,
    store::{KeyValue, RangeRequest, Store, StoreError, keys, prefix_end},
};

use super::{
    super::{History, Snapshot, watchers::News},
    ResourceActor,
};
use crate::runtime::{host::UnitContext, turn::Turn};

const RETRY_LOAD: Duration = Duration::from_millis(200);
/// Objects that are read at one time: those that the store has packed are whole for as long as that takes.
const PAGE: usize = 2000;

impl ResourceActor {
    /// Loads the resource. Changes wait meanwhile, so that none is applied to a half-loaded cache.
    pub(super) fn load(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.waiting.is_some() {
            return;
        }
        self.waiting = Some(Vec::new());
        self.load_now(cx);
    }

    pub(super) fn load_now(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (store, cache) = (self.context.store.clone(), self.cache.clone());
        let loading = async move {
            loop {
                match range_all(&*store, &cache.resource).await {
                    Ok(loaded) => return loaded,
                    Err(error) => {
                        tracing::warn!(resource = ?cache.resource, %error, "cannot load the resource, will retry");
                        tokio::time::sleep(RETRY_LOAD).await;
                    }
                }
            }
        };
        cx.spawn_then(loading, |actor, loaded, cx| {
            // A change missed meanwhile may be in what was loaded, or not.
            if actor.cache.stale.swap(false, Ordering::SeqCst) {
                actor.load_now(cx);
            } else {
                actor.loaded(loaded);
            }
        });
    }

    /// Loads again what has missed a change, before anything later is applied to it.
    pub(super) fn load_if_stale(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.waiting.is_none() && self.cache.stale.swap(false, Ordering::SeqCst) {
            tracing::warn!(resource = ?self.cache.resource, "fell behind the store, loading again");
            self.load(cx);
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        let Loaded { mut snapshot, changed } = loaded;
        let revision = snapshot.revision;
        snapshot.keep_unreadable(&self.cache.load());
        self.loaded_at = revision;
        self.changed = self.changed.max(changed);
        self.begin_anew(revision);
        self.cache.publish(snapshot);
        self.cache.applied.advance(revision);
        self.cache.loaded.advance(Revision(1));
        if let Some(events) = self.waiting.take()
            && !events.is_empty()
        {
            self.apply(events);
        }
    }

    /// Whoever watched before lists again: changes up to a revision may have been missed.
    pub(super) fn begin_anew(&mut self, revision: Revision) {
        self.history = History::of(&self.cache.resource, revision, self.context.history_bytes, self.context.history_for);
        self.missed = true;
        self.tell(News::Changes(Vec::new()));
    }
}

/// All of a resource as it lies in the store.
struct Loaded {
    snapshot: Snapshot,
    /// The newest change of what is there.
    changed: Revision,
}

impl Loaded {
    fn take(&mut self, resource: &Resource, kv: KeyValue) {
        self.changed = self.changed.max(kv.mod_revision);
        let Some(key) = keys::parse(&resource.storage_prefix, &kv.key) else { return };
        if encryption::is_sealed(&kv.value) {
            self.snapshot.unreadable.insert(key);
            return;
        }
        match resource.read(kv.value, kv.mod_revision) {
            Ok(object) => drop(self.snapshot.insert(key, Arc::new(object.packed()))),
            Err(error) => tracing::error!(%key, %error, "a stored object does not decode"),
        }
    }
}

async fn range_all(store: &dyn Store, resource: &Resource) -> Result<Loaded, StoreError> {
    let mut start = keys::resource(&resource.storage_prefix);
    let end = prefix_end(&start);
    let mut loaded = Loaded { snapshot: Snapshot::default(), changed: Revision::default() };
    let (mut at, mut turn) = (None, Turn::default());
    loop {
        let page = store.range(RangeRequest { start, end: end.clone(), limit: PAGE, at }).await?;
        // All others are of the revision of the first.
        loaded.snapshot.revision = *at.get_or_insert(page.revision);
        let last = page.items.last().map(|kv| kv.key.clone());
        for kv in page.items {
            turn.step_bytes(kv.value.len()).await;
            loaded.take(resource, kv);
        }
        match last {
            Some(last) if page.more => start = [&*last, &[0]].concat().into(),
            _ => return Ok(loaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::{
        meta::ObjectKey,
        resources::{Registry, builtin},
    };
    use troupe_api_server::store::memory::MemoryStore;

    use super::*;

    #[actix::test]
    async fn a_resource_of_several_pages_is_loaded_whole() {
        const MANY: usize = 2 * PAGE + 1;
        let resource = Registry::new(builtin()).by_kind("", "ConfigMap").expect("a kind");
        let store = MemoryStore::new();
        for at in 0..MANY {
            let name = format!("m{at}");
            let value = format!("{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"n\"}}}}");
            let key = keys::object(&resource.storage_prefix, &ObjectKey::new("n", name));
            store.create(key, value.into(), None).await.expect("creates");
        }
        let Loaded { snapshot, changed } = range_all(&store, &resource).await.expect("loads");
        assert_eq!(snapshot.objects.len(), MANY);
        assert_eq!((snapshot.revision, changed), (store.current_revision().await.expect("says it"), snapshot.revision));
    }
}
