//! What a pod takes on the node's disks.

use std::collections::BTreeMap;

use crate::files::DiskUse;

/// A container's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// What it wrote over its image.
    pub layer: DiskUse,
    pub logs: DiskUse,
}

/// All that a pod takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUse {
    /// Its emptyDir volumes on disk, by name.
    pub volumes: BTreeMap<String, DiskUse>,
    /// By name.
    pub containers: BTreeMap<String, ContainerUse>,
    /// What the kubelet keeps for it: host names, last words, config maps.
    pub files: DiskUse,
    /// Files that have no name any more and that its processes hold open.
    pub unnamed: DiskUse,
}

/// The disks in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One disk has everything.
    All,
    /// All but layers.
    Node,
    /// Layers alone.
    Images,
}

impl PodUse {
    /// What of it lies in a place.
    pub fn at(&self, place: Place) -> DiskUse {
        let mut sum = DiskUse::default();
        if place != Place::Images {
            sum += self.volumes.values().copied().sum::<DiskUse>();
            sum += self.containers.values().map(|container| container.logs).sum::<DiskUse>();
            sum += self.files;
            sum += self.unnamed;
        }
        if place != Place::Node {
            sum += self.containers.values().map(|container| container.layer).sum::<DiskUse>();
        }
        sum
    }
}
