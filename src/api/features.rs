//! `--feature-gates`: the features that this server can be without.

use std::collections::BTreeMap;

use crate::{
    metrics::{Collect, Family, Gauge},
    resources::enablement::go_bool,
};

/// A feature, its stage and whether it is on where nothing is said.
struct Gate {
    name: &'static str,
    stage: &'static str,
    on: bool,
    /// Admission plugins that do nothing without it.
    plugins: &'static [&'static str],
    /// Features without which it cannot be on.
    needs: &'static [&'static str],
}

impl Gate {
    const fn new(name: &'static str, stage: &'static str, on: bool) -> Self {
        Gate { name, stage, on, plugins: &[], needs: &[] }
    }
}

/// The controller of storage version migrations, and their resource.
pub const STORAGE_VERSION_MIGRATOR: &str = "StorageVersionMigrator";

/// Workloads and pod groups (KEP-4671).
pub const GENERIC_WORKLOAD: &str = "GenericWorkload";

/// Pods of a group get their nodes all together or not at all (KEP-4671).
pub const GANG_SCHEDULING: &str = "GangScheduling";

const GATES: [Gate; 5] = [
    Gate { needs: &[GENERIC_WORKLOAD], ..Gate::new(GANG_SCHEDULING, "ALPHA", false) },
    Gate { plugins: &["PodGroupWorkloadExists", "PodGroupProtection"], ..Gate::new(GENERIC_WORKLOAD, "ALPHA", false) },
    Gate { plugins: &["NodeDeclaredFeatureValidator"], ..Gate::new("NodeDeclaredFeatures", "BETA", true) },
    Gate { plugins: &["PodTopologyLabels"], ..Gate::new("PodTopologyLabelsAdmission", "BETA", true) },
    Gate::new(STORAGE_VERSION_MIGRATOR, "BETA", false),
];
/// Stand for all gates of a stage.
const STAGES: [(&str, &str); 2] = [("AllAlpha", "ALPHA"), ("AllBeta", "BETA")];

static ENABLED: Family<Gauge> =
    Family::new("kubernetes_feature_enabled", "This metric records the data about the stage and enablement of a k8s feature.", &["name", "stage"]);

/// What is told of features.
pub static COLLECTORS: [&dyn Collect; 1] = [&ENABLED];

/// Which features are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    on: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Reads `Name=true|false`.
    ///
    /// # Errors
    /// In upstream's words, what is no such thing; of features that this server does not have none is known.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let mut said = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.trim().is_empty()) {
            let Some((name, value)) = entry.split_once('=') else { return Err(format!("missing bool value for {}", entry.trim())) };
            let (name, value) = (name.trim(), value.trim());
            let wrong = || format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax");
            said.insert(name, go_bool(value).ok_or_else(wrong)?);
        }
        let known = |name: &str| GATES.iter().any(|gate| gate.name == name) || STAGES.iter().any(|(all, _)| *all == name);
        if let Some(odd) = said.keys().find(|name| !known(name)) {
            return Err(format!("unrecognized feature gate: {odd}"));
        }
        let of_stage = |stage: &str| STAGES.iter().find(|(_, named)| *named == stage).and_then(|(all, _)| said.get(all)).copied();
        let is_on = |gate: &Gate| said.get(gate.name).copied().or_else(|| of_stage(gate.stage)).unwrap_or(gate.on);
        let features = FeatureGates { on: GATES.iter().map(|gate| (gate.name, is_on(gate))).collect() };
        for gate in GATES.iter().filter(|gate| features.on[gate.name]) {
            let missing: Vec<&str> = gate.needs.iter().copied().filter(|needed| !features.is_on(needed)).collect();
            if !missing.is_empty() {
                return Err(format!("{} is enabled, but depends on features that are disabled: [{}]", gate.name, missing.join(" ")));
            }
        }
        Ok(features)
    }

    /// Admission plugins that do nothing because their feature is off.
    pub fn idle_plugins(&self) -> impl Iterator<Item = &'static str> {
        GATES.iter().filter(|gate| !self.on[gate.name]).flat_map(|gate| gate.plugins).copied()
    }

    /// Whether a feature is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.on.get(name).copied().unwrap_or(false)
    }

    /// Shows them in metrics.
    pub fn publish(&self) {
        for gate in &GATES {
            ENABLED.with(&[gate.name, gate.stage]).set(f64::from(u8::from(self.on[gate.name])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::optional;

    /// What does nothing where nothing is said.
    const USUAL: [&str; 2] = ["PodGroupWorkloadExists", "PodGroupProtection"];

    fn idle(entries: &[&str]) -> Result<Vec<&'static str>, String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        FeatureGates::parse(&entries).map(|gates| gates.idle_plugins().collect())
    }

    #[test]
    fn features_are_switched_alone_and_by_stage() {
        let beside = |name: &'static str| Ok([&USUAL[..], &[name]].concat());
        assert_eq!(idle(&[]), Ok(USUAL.to_vec()));
        assert_eq!(idle(&["PodTopologyLabelsAdmission=false"]), beside("PodTopologyLabels"));
        assert_eq!(idle(&["AllBeta=false", "NodeDeclaredFeatures=true"]), beside("PodTopologyLabels"));
        assert_eq!(idle(&["AllAlpha=true"]), Ok(vec![]));
        assert_eq!(idle(&["GenericWorkload=true"]), Ok(vec![]));
    }

    #[test]
    fn a_feature_needs_those_it_builds_on() {
        let refused = idle(&["GangScheduling=true"]).expect_err("there are no groups");
        assert_eq!(refused, "GangScheduling is enabled, but depends on features that are disabled: [GenericWorkload]");
        let both = ["GangScheduling=true".to_owned(), "GenericWorkload=true".to_owned()];
        assert!(FeatureGates::parse(&both).expect("works").is_on(GANG_SCHEDULING));
    }

    #[test]
    fn kinds_that_are_off_are_of_features_that_there_are() {
        let known = |feature: &str| GATES.iter().any(|gate| gate.name == feature && !gate.on);
        let plurals: Vec<String> = optional(known).iter().map(|row| row.plural.to_string()).collect();
        assert_eq!(plurals, ["storageversionmigrations", "podgroups", "workloads"]);
        let workloads: Vec<String> = optional(|feature| feature == GENERIC_WORKLOAD).iter().map(|row| row.plural.to_string()).collect();
        assert_eq!(workloads, ["podgroups", "workloads"]);
    }

    #[test]
    fn what_is_no_feature_is_refused() {
        assert_eq!(idle(&["Nope=true"]), Err("unrecognized feature gate: Nope".into()));
        assert_eq!(idle(&["AllBeta"]), Err("missing bool value for AllBeta".into()));
        assert!(idle(&["AllBeta=yes"]).expect_err("no truth value").contains("invalid value of AllBeta=yes"));
    }
}
