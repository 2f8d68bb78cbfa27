//! EndpointSlices by the Service they belong to.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::OrdMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use troupe_api::{meta::ObjectKey, projection::MetaProjection};

use super::service::is_ours;
use crate::runtime::cache::{Change, Lister, Subscription};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

type ByService = OrdMap<ObjectKey, OrdMap<Arc<str>, Arc<EndpointSlice>>>;

/// An index over the cache of slices. It has one writer, the cache's subscription, and is read without locks.
pub struct SliceIndex {
    slices: Arc<ArcSwap<ByService>>,
    subscription: Subscription<EndpointSlice>,
}

impl SliceIndex {
    /// Follows `cache`; `touched` hears of every Service whose slices changed, after the index shows it.
    pub fn new(cache: &Lister<EndpointSlice>, touched: impl Fn(ObjectKey, &Change<EndpointSlice>) + Send + Sync + 'static) -> Self {
        let slices = Arc::new(ArcSwap::<ByService>::default());
        let target = slices.clone();
        let subscription = cache.subscribe(move |change| {
            let old = change.meta_before().and_then(owner);
            let new = change.meta_after().and_then(owner);
            let mut map = ByService::clone(&target.load());
            if let Some(old) = &old {
                remove(&mut map, old, &change.key.name);
            }
            if let (Some(new), Some(slice)) = (&new, change.after()) {
                map.entry(new.clone()).or_default().insert(change.key.name.clone(), slice.clone());
            }
            target.store(Arc::new(map));
            let moved = old.filter(|old| Some(old) != new.as_ref());
            moved.into_iter().chain(new).for_each(|key| touched(key, change));
        });
        SliceIndex { slices, subscription }
    }

    /// Resolves when it has every slice; somebody awaits it.
    pub fn filled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.subscription.filled()
    }

    /// The slices of a Service, in the order of their names.
    pub fn of(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        self.slices.load().get(service).map(|slices| slices.values().cloned().collect()).unwrap_or_default()
    }
}

/// The Service that a slice is of. Slices that are not for proxies are nobody's here.
fn owner(slice: &MetaProjection) -> Option<ObjectKey> {
    if !is_ours(|label| slice.labels.get(label).is_some()) {
        return None;
    }
    Some(ObjectKey::new(slice.namespace.clone(), slice.labels.get(SERVICE_LABEL)?))
}

fn remove(map: &mut ByService, service: &ObjectKey, slice: &str) {
    let Some(slices) = map.get_mut(service) else { return };
    slices.remove(slice);
    if slices.is_empty() {
        map.remove(service);
    }
}
