//! Signals of full disks, of short memory and of few process ids, and the thresholds below which pods have to go: upstream's names. Pure.

use std::{fmt, time::Duration};

/// What is watched. What stands first is seen to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    /// What pods leave of the memory that they may have together.
    AllocatableMemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    /// Of containers' layers, which lie where volumes or where images do: these have the thresholds of that place, whatever is said.
    ContainerfsAvailable,
    ContainerfsInodesFree,
    PidAvailable,
}

impl Signal {
    pub const ALL: [Signal; 9] = [
        Signal::MemoryAvailable,
        Signal::AllocatableMemoryAvailable,
        Signal::NodefsAvailable,
        Signal::NodefsInodesFree,
        Signal::ImagefsAvailable,
        Signal::ImagefsInodesFree,
        Signal::ContainerfsAvailable,
        Signal::ContainerfsInodesFree,
        Signal::PidAvailable,
    ];

    /// As upstream writes it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::AllocatableMemoryAvailable => "allocatableMemory.available",
            Signal::NodefsAvailable => "nodefs.available",
            Signal::NodefsInodesFree => "nodefs.inodesFree",
            Signal::ImagefsAvailable => "imagefs.available",
            Signal::ImagefsInodesFree => "imagefs.inodesFree",
            Signal::ContainerfsAvailable => "containerfs.available",
            Signal::ContainerfsInodesFree => "containerfs.inodesFree",
            Signal::PidAvailable => "pid.available",
        }
    }

    /// What is short then.
    pub fn resource(self) -> Resource {
        match self {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => Resource::Memory,
            Signal::NodefsAvailable | Signal::ImagefsAvailable | Signal::ContainerfsAvailable => Resource::Storage,
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree | Signal::ContainerfsInodesFree => Resource::Inodes,
            Signal::PidAvailable => Resource::Pids,
        }
    }

    /// Whether it tells of a disk.
    pub fn is_of_disks(self) -> bool {
        matches!(self.resource(), Resource::Storage | Resource::Inodes)
    }

    /// Whether it tells of the file system with images and containers' layers.
    pub fn is_of_images(self) -> bool {
        matches!(self, Signal::ImagefsAvailable | Signal::ImagefsInodesFree)
    }

    /// Whether it has the thresholds of another signal, whatever is said.
    pub fn follows_another(self) -> bool {
        matches!(self, Signal::ContainerfsAvailable | Signal::ContainerfsInodesFree)
    }
}

/// What pods use of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Memory,
    Storage,
    Inodes,
    Pids,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Memory => "memory",
            Resource::Storage => "ephemeral-storage",
            Resource::Inodes => "inodes",
            Resource::Pids => "pids",
        })
    }
}

/// How much has to stay free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Percent(f64),
    Absolute(u64),
}

impl Amount {
    /// So much of a `capacity`.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Absolute(amount) => amount,
            // Exact enough: upstream reckons with 32 bits there.
            Amount::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
        }
    }
}

/// Pods go while less than this is free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub least: Amount,
    /// For how long less has to be free; zero for a hard threshold, where pods go at once.
    pub grace: Duration,
    /// How much more than `least` has to be free before it ends.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// One where pods go at once.
    pub fn hard(signal: Signal, least: Amount) -> Self {
        Threshold { signal, least, grace: Duration::ZERO, reclaim: None }
    }

    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// A file system at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The device's number, by which one file system is known from another.
    pub device: u64,
    pub size: u64,
    pub available: u64,
    /// 0 where a file system has no fixed number.
    pub inodes: u64,
    pub inodes_free: u64,
}

/// The node's file systems at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// With volumes, and logs.
    pub node: Reading,
    /// With images and containers' layers; the same as `node` where it is not told.
    pub images: Reading,
}

impl Readings {
    /// Whether layers lie elsewhere than volumes.
    pub fn images_apart(&self) -> bool {
        self.node.device != self.images.device
    }

    /// What there is of a disk, and what of it is free; `None` where that is not known.
    pub fn observe(&self, signal: Signal) -> Option<Observation> {
        if signal.follows_another() {
            return None;
        }
        let reading = if signal.is_of_images() { self.images } else { self.node };
        let (capacity, available) = match signal.resource() {
            Resource::Memory | Resource::Pids => return None,
            Resource::Storage => (reading.size, reading.available),
            Resource::Inodes => (reading.inodes, reading.inodes_free),
        };
        (capacity > 0).then_some(Observation { capacity, available })
    }
}

/// What there is of something, and what of it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub capacity: u64,
    pub available: u64,
}

/// A threshold that is met: too little is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    pub signal: Signal,
    /// What should be free.
    pub threshold: u64,
    pub available: u64,
    /// Pods go at once.
    pub hard: bool,
}
