//! What holds for all autoscalers.

use std::time::Duration;

use jiff::SignedDuration;

use super::behavior::DOWNSCALE_STABILIZATION;

/// How often autoscalers are looked at, and what holds where they say nothing themselves. The default is upstream's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoscalerOptions {
    /// Between two looks.
    pub period: Duration,
    /// How long a lower recommendation waits.
    pub downscale_stabilization: SignedDuration,
    /// By how much the ratio of use and target may differ from one before anything is done.
    pub tolerance: f64,
    /// Whether targets are scaled to zero, and back (the feature `HPAScaleToZero`).
    pub scales_to_zero: bool,
    pub starting: Starting,
}

/// When pods that start are believed. The default is upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starting {
    /// For this long after a pod's start its use of cpu is believed only if it was measured while the pod was ready
    /// (`--horizontal-pod-autoscaler-cpu-initialization-period`).
    pub cpu_initialization: SignedDuration,
    /// A pod whose readiness did not change after this time from its start on never was ready
    /// (`--horizontal-pod-autoscaler-initial-readiness-delay`).
    pub initial_readiness: SignedDuration,
}

impl Default for Starting {
    fn default() -> Self {
        Starting { cpu_initialization: SignedDuration::from_mins(5), initial_readiness: SignedDuration::from_secs(30) }
    }
}

impl Default for AutoscalerOptions {
    fn default() -> Self {
        AutoscalerOptions {
            period: Duration::from_secs(15),
            downscale_stabilization: DOWNSCALE_STABILIZATION,
            tolerance: 0.1,
            scales_to_zero: false,
            starting: Starting::default(),
        }
    }
}
