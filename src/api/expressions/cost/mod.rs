//! What expressions cost: estimated before there is a value (`estimate`), and counted while they are evaluated (`actual`).
//!
//! Units and figures are upstream's (`cel-go/checker/cost.go`, `cel-go/interpreter/runtimecost.go`,
//! `k8s.io/apiserver/pkg/cel/library/cost.go`), because definitions are accepted or refused by them.

pub mod actual;
mod calls;
mod estimate;
mod known;

pub use estimate::estimate;

/// A least and a most, of costs and of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub least: u64,
    pub most: u64,
}

pub const LIST: u64 = 10;
pub const MAP: u64 = 30;
pub const MESSAGE: u64 = 40;
/// A text is gone through.
pub const TRAVERSAL: f64 = 0.1;
/// A pattern is tried at one place.
pub const PATTERN: f64 = 0.25;

impl Estimate {
    pub const UNKNOWN: Estimate = Estimate { least: 0, most: u64::MAX };

    pub fn fixed(count: u64) -> Self {
        Estimate { least: count, most: count }
    }

    pub fn new(least: u64, most: u64) -> Self {
        Estimate { least, most }
    }

    #[must_use]
    pub fn plus(self, other: Estimate) -> Self {
        Estimate { least: self.least.saturating_add(other.least), most: self.most.saturating_add(other.most) }
    }

    #[must_use]
    pub fn times(self, other: Estimate) -> Self {
        Estimate { least: self.least.saturating_mul(other.least), most: self.most.saturating_mul(other.most) }
    }

    /// Rounded up.
    #[must_use]
    pub fn by(self, factor: f64) -> Self {
        // Conversions from floating point saturate.
        let scaled = |count: u64| (count as f64 * factor).ceil() as u64;
        Estimate { least: scaled(self.least), most: scaled(self.most) }
    }

    /// What holds both.
    #[must_use]
    pub fn or(self, other: Estimate) -> Self {
        Estimate { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}
