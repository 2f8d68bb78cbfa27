//! VolumeRestrictions: a claim that one pod alone may use is used by one pod alone.

use std::collections::BTreeSet;

use crate::scheduler::{
    framework::{ClusterChange, Event, NodeFilter, Plugin, Point, PreFilter, Rejection},
    node_info::NodeInfo,
    placed_pod::PlacedPod,
    pod_info::PodInfo,
    snapshot::Snapshot,
    volumes::{
        StorageCaches,
        choose::{IN_USE, exclusive_claims},
    },
};

/// See the module. Which pods have a node says the snapshot, which counts those that are only being bound, too.
pub struct VolumeRestrictions {
    pub storage: StorageCaches,
}

impl VolumeRestrictions {
    pub const POINTS: &[Point] = &[Point::PreFilter, Point::Filter];
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot) -> PreFilter<'a> {
        let exclusive = exclusive_claims(&pod.pod, &self.storage);
        if exclusive.is_empty() { PreFilter::Skip } else { PreFilter::Ask(Box::new(Exclusive::new(exclusive, &pod.placed, cluster))) }
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodRemoved, Event::StorageChanged]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        let (Some(gone), _) = change.pod() else { return true };
        gone.namespace() == pod.placed.namespace() && gone.claims.iter().any(|claim| pod.placed.claims.contains(claim))
    }
}

/// The claims of a pod that it alone may use, and how often others use them.
pub struct Exclusive {
    namespace: String,
    claims: BTreeSet<String>,
    uses: usize,
}

impl Exclusive {
    pub fn new(claims: BTreeSet<String>, pod: &PlacedPod, cluster: &Snapshot) -> Self {
        let uses = claims.iter().map(|claim| cluster.users_of_claim(pod.namespace(), claim)).sum();
        Exclusive { namespace: pod.namespace().to_owned(), claims, uses }
    }

    fn used_by(&self, pod: &PlacedPod) -> usize {
        if pod.namespace() == self.namespace { pod.claims.iter().filter(|claim| self.claims.contains(*claim)).count() } else { 0 }
    }
}

impl NodeFilter for Exclusive {
    fn filter(&self, _node: &NodeInfo) -> Result<(), Rejection> {
        if self.uses == 0 { Ok(()) } else { Err(Rejection::resolvable(IN_USE)) }
    }

    fn add_pod(&mut self, pod: &PlacedPod, _node: &NodeInfo) {
        self.uses += self.used_by(pod);
    }

    fn remove_pod(&mut self, pod: &PlacedPod, _node: &NodeInfo) {
        self.uses -= self.used_by(pod);
    }
}
