//! How nodes learn the addresses of peers: EndpointSlices in the namespace of the policy, which the control plane keeps. A node may read
//! only its own pods; the slices tell it addresses, and of no pod more than that. Those of domain names come from the cluster's DNS servers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::OrdMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use troupe_api::projection::MetaProjection;
use troupe_net::{
    dns::domain_names,
    iptables::{Family, SetKind, net_entries, port_entry},
};

use super::model::Protocol;
use crate::runtime::cache::{Change, Lister, Subscription};

pub use troupe_net::dns::domain_names::{MANAGED_BY, PEERS_LABEL};

/// The name of the writer of these in [`MANAGED_BY`].
pub const MANAGER: &str = "networkpolicy-controller.troupe.dev";

/// A set of peers: the namespace of its policies and its id.
pub type PeersKey = (Arc<str>, Arc<str>);

type BySet = OrdMap<PeersKey, OrdMap<Arc<str>, Arc<EndpointSlice>>>;

/// The set that a slice is a part of. Of domain names the DNS servers tell, in a namespace of their own, and of nothing else.
pub fn peers_of(slice: &MetaProjection) -> Option<PeersKey> {
    let writer = if *slice.namespace == *domain_names::NAMESPACE { domain_names::SLICE_MANAGER } else { MANAGER };
    let ours = slice.labels.get(MANAGED_BY) == Some(writer);
    Some((slice.namespace.clone(), slice.labels.get(PEERS_LABEL).filter(|_| ours)?.into()))
}

/// An index over the cache of slices. It has one writer, the cache's subscription, and is read without locks.
pub struct PeersIndex {
    slices: Arc<ArcSwap<BySet>>,
    subscription: Subscription<EndpointSlice>,
}

impl PeersIndex {
    /// Follows `cache`; `touched` hears of every set whose slices changed, after the index shows it.
    pub fn new(cache: &Lister<EndpointSlice>, touched: impl Fn(PeersKey, &Change<EndpointSlice>) + Send + Sync + 'static) -> Self {
        let slices = Arc::new(ArcSwap::<BySet>::default());
        let target = slices.clone();
        let subscription = cache.subscribe(move |change| {
            let (old, new) = (change.meta_before().and_then(peers_of), change.meta_after().and_then(peers_of));
            if old.is_none() && new.is_none() {
                return;
            }
            let mut map = BySet::clone(&target.load());
            if let Some(old) = &old
                && let Some(slices) = map.get_mut(old)
            {
                slices.remove(&change.key.name);
                if slices.is_empty() {
                    map.remove(old);
                }
            }
            if let (Some(new), Some(slice)) = (&new, change.after()) {
                map.entry(new.clone()).or_default().insert(change.key.name.clone(), slice.clone());
            }
            target.store(Arc::new(map));
            let moved = old.filter(|old| Some(old) != new.as_ref());
            moved.into_iter().chain(new).for_each(|set| touched(set, change));
        });
        PeersIndex { slices, subscription }
    }

    /// Resolves when it has every slice; somebody awaits it.
    pub fn filled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.subscription.filled()
    }

    /// The entries of a set.
    pub fn entries(&self, set: &PeersKey, kind: SetKind, family: Family) -> Vec<String> {
        let slices = self.slices.load();
        slices.get(set).into_iter().flat_map(OrdMap::values).flat_map(|slice| entries(slice, kind, family)).collect()
    }
}

/// The entries that a slice tells of.
pub fn entries(slice: &EndpointSlice, kind: SetKind, family: Family) -> Vec<String> {
    let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter());
    let addresses = addresses.filter_map(|address| address.parse().ok()).filter(|ip| family.has(*ip));
    match kind {
        SetKind::Net => addresses.flat_map(|ip| net_entries(ip.into())).collect(),
        SetKind::AddressPort => {
            let ports = slice.ports.iter().flatten();
            let ports: Vec<(Protocol, u16)> =
                ports.filter_map(|port| Some((Protocol::parse(port.protocol.as_deref())?, u16::try_from(port.port?).ok()?))).collect();
            addresses.flat_map(|ip| ports.iter().map(move |(protocol, port)| port_entry(ip, protocol.lower(), *port))).collect()
        }
    }
}
