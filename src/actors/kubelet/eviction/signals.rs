//! Signals of full disks and of short memory, and the thresholds below which pods have to go: upstream's names, defaults and notation. Pure.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
}

impl Signal {
    const ALL: [Signal; 5] =
        [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::NodefsInodesFree, Signal::ImagefsAvailable, Signal::ImagefsInodesFree];

    /// As upstream writes it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::NodefsAvailable => "nodefs.available",
            Signal::NodefsInodesFree => "nodefs.inodesFree",
            Signal::ImagefsAvailable => "imagefs.available",
            Signal::ImagefsInodesFree => "imagefs.inodesFree",
        }
    }

    /// What is short then.
    pub fn resource(self) -> Resource {
        match self {
            Signal::MemoryAvailable => Resource::Memory,
            Signal::NodefsAvailable | Signal::ImagefsAvailable => Resource::Storage,
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => Resource::Inodes,
        }
    }

    /// Whether it tells of the file system with images and containers' layers.
    pub fn is_of_images(self) -> bool {
        matches!(self, Signal::ImagefsAvailable | Signal::ImagefsInodesFree)
    }
}

/// What pods use of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Memory,
    Storage,
    Inodes,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Memory => "memory",
            Resource::Storage => "ephemeral-storage",
            Resource::Inodes => "inodes",
        })
    }
}

/// How much has to stay free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Percent(f64),
    Absolute(u64),
}

/// Pods go while less than this is free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub least: Amount,
}

/// Upstream's `evictionHard`.
pub fn defaults() -> Vec<Threshold> {
    let percent = |signal, percent| Threshold { signal, least: Amount::Percent(percent) };
    vec![
        Threshold { signal: Signal::MemoryAvailable, least: Amount::Absolute(100 << 20) },
        percent(Signal::NodefsAvailable, 10.0),
        percent(Signal::NodefsInodesFree, 5.0),
        percent(Signal::ImagefsAvailable, 15.0),
        percent(Signal::ImagefsInodesFree, 5.0),
    ]
}

/// Why something is no threshold.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ThresholdError {
    #[error("{0}: a threshold is a signal, < and an amount, such as nodefs.available<10%")]
    Form(String),
    #[error("{0} is no signal: there are memory.available, nodefs.available, nodefs.inodesFree, imagefs.available and imagefs.inodesFree")]
    Signal(String),
    #[error("{0} is no amount: a percentage between 0% and 100%, or a quantity")]
    Amount(String),
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let (name, amount) = text.split_once('<').ok_or_else(|| ThresholdError::Form(text.to_owned()))?;
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name.trim());
        let signal = signal.ok_or_else(|| ThresholdError::Signal(name.to_owned()))?;
        Ok(Threshold { signal, least: amount.trim().parse()? })
    }
}

impl FromStr for Amount {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let wrong = || ThresholdError::Amount(text.to_owned());
        match text.strip_suffix('%') {
            Some(number) => {
                let percent: f64 = number.parse().map_err(|_| wrong())?;
                (0.0..=100.0).contains(&percent).then_some(Amount::Percent(percent)).ok_or_else(wrong)
            }
            None => {
                let milli = troupe_cri::quantity::milli(text).filter(|milli| *milli >= 0).ok_or_else(wrong)?;
                u64::try_from(milli / 1000).map(Amount::Absolute).map_err(|_| wrong())
            }
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least {
            Amount::Percent(percent) => write!(f, "{}<{percent}%", self.signal.name()),
            Amount::Absolute(amount) => write!(f, "{}<{amount}", self.signal.name()),
        }
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
}

/// A threshold that is met: too little is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    pub signal: Signal,
    /// What should be free.
    pub threshold: u64,
    pub available: u64,
}

/// What should be free of a disk by a threshold, and what is; `None` where that is not known.
pub fn observe(threshold: &Threshold, readings: &Readings) -> Option<Met> {
    let reading = if threshold.signal.is_of_images() { readings.images } else { readings.node };
    let (capacity, available) = match threshold.signal.resource() {
        Resource::Memory => return None,
        Resource::Storage => (reading.size, reading.available),
        Resource::Inodes => (reading.inodes, reading.inodes_free),
    };
    (capacity > 0).then(|| Met { signal: threshold.signal, threshold: least(threshold.least, capacity), available })
}

/// The thresholds of disks that are met.
pub fn met(thresholds: &[Threshold], readings: &Readings) -> Vec<Met> {
    thresholds.iter().filter_map(|threshold| observe(threshold, readings)).filter(|seen| seen.available < seen.threshold).collect()
}

/// An amount of so much in all.
pub(super) fn least(amount: Amount, capacity: u64) -> u64 {
    match amount {
        Amount::Absolute(amount) => amount,
        // Exact enough: upstream reckons with 32 bits there.
        Amount::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(device: u64, available: u64, inodes_free: u64) -> Reading {
        Reading { device, size: 1000, available, inodes: 1000, inodes_free }
    }

    #[test]
    fn pods_go_below_upstreams_marks() {
        let met = |node, images| met(&defaults(), &Readings { node, images }).iter().map(|met| met.signal.name()).collect::<Vec<_>>();
        assert_eq!(met(reading(1, 100, 50), reading(2, 150, 50)), Vec::<&str>::new());
        assert_eq!(met(reading(1, 99, 50), reading(2, 150, 50)), ["nodefs.available"]);
        assert_eq!(met(reading(1, 100, 49), reading(2, 149, 49)), ["nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"]);
        // A file system without a fixed number of inodes is never short of them.
        assert_eq!(met(Reading { inodes: 0, ..reading(1, 100, 0) }, reading(2, 150, 50)), Vec::<&str>::new());
    }

    #[test]
    fn thresholds_are_written_as_upstream_does() {
        for text in ["nodefs.available<10%", "memory.available<104857600", "imagefs.inodesFree<5%", "nodefs.available<1073741824"] {
            assert_eq!(text.parse::<Threshold>().expect("parses").to_string(), text);
        }
        assert_eq!("nodefs.available<1Gi".parse::<Threshold>().expect("parses").least, Amount::Absolute(1 << 30));
        for (text, wrong) in
            [("nodefs.available", "Form"), ("pid.available<5%", "Signal"), ("nodefs.available<101%", "Amount"), ("nodefs.available<x", "Amount")]
        {
            let error = text.parse::<Threshold>().expect_err(text);
            assert!(format!("{error:?}").starts_with(wrong), "{text}: {error:?}");
        }
    }
}
