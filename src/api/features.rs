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
    /// The admission plugin that is all of it, if one is.
    plugin: Option<&'static str>,
}

/// The controller of storage version migrations, and their resource.
pub const STORAGE_VERSION_MIGRATOR: &str = "StorageVersionMigrator";

const GATES: [Gate; 3] = [
    Gate { name: "NodeDeclaredFeatures", stage: "BETA", on: true, plugin: Some("NodeDeclaredFeatureValidator") },
    Gate { name: "PodTopologyLabelsAdmission", stage: "BETA", on: true, plugin: Some("PodTopologyLabels") },
    Gate { name: STORAGE_VERSION_MIGRATOR, stage: "BETA", on: false, plugin: None },
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
        Ok(FeatureGates { on: GATES.iter().map(|gate| (gate.name, is_on(gate))).collect() })
    }

    /// Admission plugins that do nothing because their feature is off.
    pub fn idle_plugins(&self) -> impl Iterator<Item = &'static str> {
        GATES.iter().filter(|gate| !self.on[gate.name]).filter_map(|gate| gate.plugin)
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

    fn idle(entries: &[&str]) -> Result<Vec<&'static str>, String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        FeatureGates::parse(&entries).map(|gates| gates.idle_plugins().collect())
    }

    #[test]
    fn features_are_switched_alone_and_by_stage() {
        assert_eq!(idle(&[]), Ok(vec![]));
        assert_eq!(idle(&["PodTopologyLabelsAdmission=false"]), Ok(vec!["PodTopologyLabels"]));
        assert_eq!(idle(&["AllBeta=false", "NodeDeclaredFeatures=true"]), Ok(vec!["PodTopologyLabels"]));
        assert_eq!(idle(&["AllAlpha=true"]), Ok(vec![]));
    }

    #[test]
    fn what_is_no_feature_is_refused() {
        assert_eq!(idle(&["Nope=true"]), Err("unrecognized feature gate: Nope".into()));
        assert_eq!(idle(&["AllBeta"]), Err("missing bool value for AllBeta".into()));
        assert!(idle(&["AllBeta=yes"]).expect_err("no truth value").contains("invalid value of AllBeta=yes"));
    }
}
