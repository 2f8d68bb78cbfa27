//! NodeVolumeLimits: a node takes no more volumes of a driver than its CSINode says.

use std::collections::{BTreeMap, BTreeSet};

use crate::scheduler::{
    framework::{ClusterChange, Event, NodeFilter, Plugin, Point, PreFilter, Rejection},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
    volumes::{
        Storage, StorageCaches,
        limits::{CsiVolume, attached_to, csi_volume, limits_of, may_be_used},
    },
};

const EXCEEDED: &str = "node(s) exceed max volume count";

/// See the module.
pub struct NodeVolumeLimits {
    pub storage: StorageCaches,
    /// Whether drivers may keep pods from nodes without them (the feature `VolumeLimitScaling`).
    pub requires_drivers: bool,
}

impl NodeVolumeLimits {
    pub const POINTS: &[Point] = &[Point::PreFilter, Point::Filter];
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        NewVolumes::of(pod, &self.storage, self.requires_drivers).map_or(PreFilter::Skip, |volumes| PreFilter::Ask(Box::new(volumes)))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodRemoved, Event::StorageChanged]
    }

    fn may_help(&self, _pod: &PodInfo, change: &ClusterChange) -> bool {
        let (Some(gone), _) = change.pod() else { return true };
        !gone.claims.is_empty()
    }
}

/// The volumes of drivers that a pod brings. What keeps its claims from being looked up VolumeBinding says.
pub struct NewVolumes<'a> {
    volumes: BTreeSet<CsiVolume>,
    storage: &'a dyn Storage,
    requires_drivers: bool,
}

impl<'a> NewVolumes<'a> {
    /// `None` if it brings none.
    pub fn of(pod: &PodInfo, storage: &'a dyn Storage, requires_drivers: bool) -> Option<Self> {
        let claims = pod.placed.claims.iter().filter_map(|name| storage.claim(pod.placed.namespace(), name));
        let volumes: BTreeSet<CsiVolume> = claims.filter_map(|claim| csi_volume(&claim, storage)).collect();
        (!volumes.is_empty()).then_some(NewVolumes { volumes, storage, requires_drivers })
    }
}

impl NodeFilter for NewVolumes<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let is_missing = |volume: &&CsiVolume| !may_be_used(self.storage, &volume.driver, &node.name);
        if self.requires_drivers
            && let Some(CsiVolume { driver, .. }) = self.volumes.iter().find(is_missing)
        {
            return Err(Rejection::resolvable(format!("{driver} CSI driver is not installed on the node")));
        }
        let limits = limits_of(self.storage, &node.name);
        if limits.is_empty() {
            return Ok(());
        }
        let with_claims = node.pods.values().filter(|pod| !pod.claims.is_empty());
        let claims = with_claims.flat_map(|pod| pod.claims.iter().filter_map(|name| self.storage.claim(pod.namespace(), name)));
        let there: BTreeSet<CsiVolume> = claims.filter_map(|claim| csi_volume(&claim, self.storage)).collect();
        // One that several pods use counts once.
        let new: Vec<&CsiVolume> = self.volumes.difference(&there).collect();
        let mut more = BTreeMap::<&str, usize>::new();
        new.iter().for_each(|volume| *more.entry(&*volume.driver).or_default() += 1);
        // A volume that still waits to be attached, or detached, takes its place as well.
        let attached: BTreeSet<CsiVolume> = attached_to(self.storage, &node.name).into_iter().collect();
        let fits = more.iter().all(|(driver, more)| {
            let used = there.union(&attached).filter(|volume| *volume.driver == **driver).count();
            limits.get(*driver).is_none_or(|limit| used + more <= *limit)
        });
        if fits { Ok(()) } else { Err(Rejection::resolvable(EXCEEDED)) }
    }
}
