//! What a scheduler is made of.

use std::sync::Arc;

use k8s_openapi::api::resource::v1beta2::DeviceTaintRule;

use super::{
    extender::Extenders,
    framework::Profiles,
    gangs::GangCaches,
    plugins::{Parts, profile_of},
    queue::Backoffs,
};
use crate::runtime::cache::Cache;

/// Whom a scheduler serves, and how.
pub struct Setup {
    pub profiles: Profiles,
    pub backoffs: Backoffs,
    pub extenders: Extenders,
    /// How many pods extenders are asked about at once.
    pub parallelism: usize,
    /// Groups of pods, where their feature is on.
    pub gangs: Option<GangCaches>,
    /// Rules that taint devices, likewise.
    pub taint_rules: Option<Cache<DeviceTaintRule>>,
    /// Nodes are asked what they use, if a plugin wants to know.
    pub measures: bool,
}

/// Unless `parallelism` says otherwise.
pub const PARALLELISM: usize = 16;

/// Makes a scheduler's setup of its parts; asked again when its unit is restarted.
pub type MakeSetup = Arc<dyn Fn(&Parts) -> Setup + Send + Sync>;

impl Setup {
    /// One profile, with upstream's plugins and weights.
    pub fn standard(parts: &Parts) -> Self {
        let backoffs = Backoffs { cut_short: parts.features.cuts_backoffs_short, ..Backoffs::default() };
        let extenders = Extenders::default();
        let (gangs, taint_rules) = (parts.gangs.clone(), parts.taint_rules.clone());
        Setup { profiles: profile_of(parts).into(), backoffs, extenders, parallelism: PARALLELISM, gangs, taint_rules, measures: false }
    }
}
