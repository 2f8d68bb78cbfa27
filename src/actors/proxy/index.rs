//! EndpointSlices by the Service they belong to.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use troupe_api::{meta::ObjectKey, projection::MetaProjection, stored::StoredObject};

use super::service::is_ours;
use crate::runtime::cache::{Change, Lister, Subscription};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The slices of one Service, in the order of their names. Most have one: a tree for each would be larger than the slice.
type Slices = Arc<[Arc<StoredObject>]>;
type ByService = OrdMap<ObjectKey, Slices>;
type Listener = Box<dyn Fn(ObjectKey, &Change<EndpointSlice>) + Send + Sync>;

/// An index over the cache of slices, of which there is one however many look into it. It has one writer, the cache's subscription, and is read
/// without locks. It has them as they are stored: decoded they are several times as large, and looked at when a Service changes.
pub struct SliceIndex {
    shared: Arc<Shared>,
    /// The number of its listener.
    number: u64,
}

/// What all who look into a cache's index have in common.
struct Shared {
    slices: Arc<ArcSwap<ByService>>,
    listeners: Arc<RwLock<Listeners>>,
    subscription: Subscription<EndpointSlice>,
}

/// Who hears of changes.
#[derive(Default)]
struct Listeners {
    all: BTreeMap<u64, Listener>,
    next: u64,
}

impl Shared {
    fn new(cache: &Lister<EndpointSlice>) -> Self {
        let (slices, listeners) = (Arc::new(ArcSwap::<ByService>::default()), Arc::<RwLock<Listeners>>::default());
        let (target, told) = (slices.clone(), listeners.clone());
        let subscription = cache.subscribe(move |change| {
            let old = change.meta_before().and_then(owner);
            let new = change.meta_after().and_then(owner);
            let mut map = ByService::clone(&target.load());
            if let Some(old) = &old {
                remove(&mut map, old, &change.key.name);
            }
            if let (Some(new), Some(slice)) = (&new, change.stored_after()) {
                insert(&mut map, new, slice);
            }
            target.store(Arc::new(map));
            let moved = old.filter(|old| Some(old) != new.as_ref());
            for key in moved.into_iter().chain(new) {
                told.read().all.values().for_each(|listener| listener(key.clone(), change));
            }
        });
        Shared { slices, listeners, subscription }
    }
}

impl SliceIndex {
    /// Follows `cache`; `touched` hears of every Service whose slices change from now on, after the index shows it, and of some that are there
    /// already while the index is filled.
    pub fn new(cache: &Lister<EndpointSlice>, touched: impl Fn(ObjectKey, &Change<EndpointSlice>) + Send + Sync + 'static) -> Self {
        let shared = cache.shared(Shared::new);
        let number = {
            let mut listeners = shared.listeners.write();
            listeners.next += 1;
            let number = listeners.next;
            listeners.all.insert(number, Box::new(touched));
            number
        };
        SliceIndex { shared, number }
    }

    /// Resolves when it has every slice; somebody awaits it.
    pub fn filled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.subscription.filled()
    }

    /// The slices of a Service, in the order of their names.
    pub fn of(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        let slices = self.shared.slices.load().get(service).cloned();
        slices.iter().flat_map(|slices| slices.iter()).filter_map(|slice| Lister::decode_once(slice)).collect()
    }
}

impl Drop for SliceIndex {
    fn drop(&mut self) {
        self.shared.listeners.write().all.remove(&self.number);
    }
}

/// The Service that a slice is of. Slices that are not for proxies are nobody's here.
fn owner(slice: &MetaProjection) -> Option<ObjectKey> {
    if !is_ours(|label| slice.labels.get(label).is_some()) {
        return None;
    }
    Some(ObjectKey::new(slice.namespace.clone(), slice.labels.get_shared(SERVICE_LABEL)?.clone()))
}

fn insert(map: &mut ByService, service: &ObjectKey, slice: &Arc<StoredObject>) {
    let known = map.get(service).into_iter().flat_map(|slices| slices.iter());
    let mut slices: Vec<Arc<StoredObject>> = known.filter(|known| known.key != slice.key).cloned().collect();
    let at = slices.partition_point(|known| known.key < slice.key);
    slices.insert(at, slice.clone());
    map.insert(service.clone(), slices.into());
}

fn remove(map: &mut ByService, service: &ObjectKey, slice: &str) {
    let Some(slices) = map.get(service) else { return };
    let left: Slices = slices.iter().filter(|known| *known.key.name != *slice).cloned().collect();
    if left.is_empty() {
        map.remove(service);
    } else {
        map.insert(service.clone(), left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use serde_json::json;
    use troupe_api::meta::{Cause, Object, Revision};

    use super::*;
    use crate::runtime::cache::Cache;

    fn stored(name: &str, service: &str, ip: &str) -> Arc<StoredObject> {
        let labels = json!({SERVICE_LABEL: service});
        let tree = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [{"addresses": [ip]}],
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels}});
        Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
    }

    #[test]
    fn slices_are_found_by_the_service_that_they_are_of_now() {
        let cache = Cache::<EndpointSlice>::default();
        let index = SliceIndex::new(&cache, |_, _| {});
        cache.replace_now(OrdMap::new(), Revision(1));
        futures::FutureExt::now_or_never(index.filled()).expect("there is nothing");
        let addresses = |service: &str| -> Vec<String> {
            let slices = index.of(&ObjectKey::new("ns", service));
            slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).flat_map(|endpoint| endpoint.addresses.clone()).collect()
        };
        let apply = |name: &str, slice: Option<Arc<StoredObject>>, revision: u64| {
            cache.apply(ObjectKey::new("ns", name), slice, Revision(revision), &Cause::default());
        };
        apply("b", Some(stored("b", "web", "10.0.0.2")), 2);
        apply("c", Some(stored("c", "other", "10.0.0.3")), 3);
        apply("a", Some(stored("a", "web", "10.0.0.1")), 4);
        assert_eq!(addresses("web"), ["10.0.0.1", "10.0.0.2"], "in the order of their names");
        apply("b", Some(stored("b", "web", "10.0.0.9")), 5);
        assert_eq!(addresses("web"), ["10.0.0.1", "10.0.0.9"]);
        apply("b", Some(stored("b", "other", "10.0.0.9")), 6);
        assert_eq!((addresses("web"), addresses("other")), (vec!["10.0.0.1".to_owned()], vec!["10.0.0.9".to_owned(), "10.0.0.3".to_owned()]));
        apply("a", None, 7);
        assert!(addresses("web").is_empty());
    }

    #[test]
    fn all_who_look_share_one_index_and_hear_as_long_as_they_look() {
        let cache = Cache::<EndpointSlice>::default();
        cache.replace_now(OrdMap::unit(ObjectKey::new("ns", "a"), stored("a", "web", "10.0.0.1")), Revision(1));
        let heard = Arc::new(AtomicUsize::new(0));
        let look = || {
            let heard = heard.clone();
            SliceIndex::new(&cache, move |_, _| {
                heard.fetch_add(1, Relaxed);
            })
        };
        let first = look();
        futures::FutureExt::now_or_never(first.filled()).expect("there is one");
        assert_eq!(heard.swap(0, Relaxed), 1);
        let second = look();
        futures::FutureExt::now_or_never(second.filled()).expect("it is there already");
        assert!(Arc::ptr_eq(&first.shared, &second.shared));
        assert_eq!(second.of(&ObjectKey::new("ns", "web")).len(), 1);
        let change =
            |revision: u64| cache.apply(ObjectKey::new("ns", "a"), Some(stored("a", "web", "10.0.0.2")), Revision(revision), &Cause::default());
        change(2);
        assert_eq!(heard.swap(0, Relaxed), 2);
        drop(first);
        change(3);
        assert_eq!(heard.swap(0, Relaxed), 1);
        drop(second);
        change(4);
        assert_eq!(heard.load(Relaxed), 0);
        let third = look();
        futures::FutureExt::now_or_never(third.filled()).expect("it is made anew");
        assert_eq!(third.of(&ObjectKey::new("ns", "web")).len(), 1);
    }
}
