//! `--feature-gates`: the features that this server can be without, and all others that upstream has names for.
//!
//! What upstream's components take is taken where it holds here, and refused where it would not: a gate that is locked upstream, one of a
//! feature that is always or never there.

mod gate;
mod names;
mod table;

use std::collections::BTreeMap;

pub use self::names::{
    ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION, API_RESPONSE_COMPRESSION, AUTHORIZE_POD_WEBSOCKET_UPGRADES, CLUSTER_TRUST_BUNDLE, COMPONENT_FLAGZ,
    COMPONENT_STATUSZ, CONSTRAINED_IMPERSONATION, CONTAINER_STOP_SIGNALS, COORDINATED_LEADER_ELECTION, DEVICE_TAINT_RULES, GANG_SCHEDULING,
    GENERIC_WORKLOAD, HPA_SCALE_TO_ZERO, POD_CERTIFICATE_REQUEST, POD_LOGS_QUERY_SPLIT_STREAMS, POP_FROM_BACKOFF_QUEUE, RESOURCE_POOL_STATUS,
    STORAGE_CAPACITY_SCORING, STORAGE_VERSION_MIGRATOR, TOLERATION_COMPARISONS, VOLUME_LIMIT_SCALING, WORKLOAD_WITH_JOB,
};
pub use self::names::{REMOTE_REQUEST_HEADER_UID, UID_FROM_CERTIFICATE};
use self::{
    gate::{Gate, Stage},
    table::GATES,
};
use crate::{
    metrics::{Collect, Family, Gauge},
    resources::enablement::go_bool,
};

/// Stand for all gates of a stage.
const STAGES: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

static ENABLED: Family<Gauge> =
    Family::new("kubernetes_feature_enabled", "This metric records the data about the stage and enablement of a k8s feature.", &["name", "stage"]);

/// What is told of features.
pub static COLLECTORS: [&dyn Collect; 1] = [&ENABLED];

/// Which features are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    on: BTreeMap<&'static str, bool>,
    /// Gates that somebody set although nothing here depends on them.
    idle: Vec<&'static str>,
}

impl Default for FeatureGates {
    /// As they are where nothing is said.
    fn default() -> Self {
        FeatureGates { on: GATES.iter().map(|gate| (gate.name, gate.is_on_by_default())).collect(), idle: Vec::new() }
    }
}

impl FeatureGates {
    /// Reads `Name=true|false`.
    ///
    /// # Errors
    /// In upstream's words, what is no such thing; and what cannot be as it is said here.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let mut said = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.trim().is_empty()) {
            let Some((name, value)) = entry.split_once('=') else { return Err(format!("missing bool value for {}", entry.trim())) };
            let (name, value) = (name.trim(), value.trim());
            let wrong = || format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax");
            said.insert(name, go_bool(value).ok_or_else(wrong)?);
        }
        if let Some(why) = said.iter().find_map(|(name, value)| refusal(name, *value)) {
            return Err(why);
        }
        let of_stage = |stage: Stage| STAGES.iter().find(|(_, named)| *named == stage).and_then(|(all, _)| said.get(all)).copied();
        let value = |gate: &Gate| said.get(gate.name).copied().or_else(|| of_stage(gate.stage)).filter(|_| gate.can_change());
        let on = GATES.iter().map(|gate| (gate.name, value(gate).unwrap_or_else(|| gate.is_on_by_default()))).collect();
        let idle = GATES.iter().filter(|gate| gate.is_inner() && said.contains_key(gate.name)).map(|gate| gate.name).collect();
        let features = FeatureGates { on, idle };
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

    /// Gates that were set and make no difference here: they say how upstream does inside what is done here in another way.
    pub fn without_effect(&self) -> &[&'static str] {
        &self.idle
    }

    /// Shows them in metrics.
    pub fn publish(&self) {
        for gate in GATES {
            ENABLED.with(&[gate.name, gate.stage.label()]).set(f64::from(u8::from(self.on[gate.name])));
        }
    }
}

/// Why a gate cannot have a value; `None` where it can.
pub fn refusal(name: &str, value: bool) -> Option<String> {
    if STAGES.iter().any(|(all, _)| *all == name) {
        return None;
    }
    match GATES.iter().find(|gate| gate.name == name) {
        Some(gate) => gate.refusal(value),
        None => Some(format!("unrecognized feature gate: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::resources::optional;

    /// What does nothing where nothing is said.
    const USUAL: [&str; 4] = [OF_BUNDLES, "PodGroupWorkloadExists", "PodGroupProtection", "JobValidation"];
    const OF_BUNDLES: &str = "ClusterTrustBundleAttest";

    fn parse(entries: &[&str]) -> Result<FeatureGates, String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        FeatureGates::parse(&entries)
    }

    fn idle(entries: &[&str]) -> Result<Vec<&'static str>, String> {
        parse(entries).map(|gates| gates.idle_plugins().collect())
    }

    #[test]
    fn features_are_switched_alone_and_by_stage() {
        let beside = |name: &'static str| Ok([&USUAL[..], &[name]].concat());
        assert_eq!(idle(&[]), Ok(USUAL.to_vec()));
        assert_eq!(idle(&["PodTopologyLabelsAdmission=false"]), beside("PodTopologyLabels"));
        assert_eq!(idle(&["AllBeta=false", "NodeDeclaredFeatures=true"]), beside("PodTopologyLabels"));
        assert_eq!(idle(&["AllAlpha=true"]), Ok(vec![OF_BUNDLES]));
        assert_eq!(idle(&["GenericWorkload=true"]), Ok(vec![OF_BUNDLES]));
        assert_eq!(idle(&["AllAlpha=true", "AllBeta=true"]), Ok(vec![]));
        assert_eq!(parse(&[]), Ok(FeatureGates::default()));
    }

    #[test]
    fn a_feature_needs_those_it_builds_on() {
        let refused = idle(&["GangScheduling=true"]).expect_err("there are no groups");
        assert_eq!(refused, "GangScheduling is enabled, but depends on features that are disabled: [GenericWorkload]");
        assert!(parse(&["GangScheduling=true", "GenericWorkload=true"]).expect("works").is_on(GANG_SCHEDULING));
        let refused = idle(&["ClusterTrustBundleProjection=true"]).expect_err("there are no bundles");
        assert!(refused.ends_with("depends on features that are disabled: [ClusterTrustBundle]"), "{refused}");
    }

    #[test]
    fn kinds_that_are_off_are_of_features_that_there_are() {
        let known = |feature: &str| GATES.iter().any(|gate| gate.name == feature && !gate.is_on_by_default() && gate.can_change());
        let plurals: Vec<String> = optional(known).iter().map(|row| row.plural.to_string()).collect();
        let all = [
            "storageversionmigrations",
            "podgroups",
            "workloads",
            "leasecandidates",
            "clustertrustbundles",
            "podcertificaterequests",
            "devicetaintrules",
            "resourcepoolstatusrequests",
        ];
        assert_eq!(plurals, all);
        let workloads: Vec<String> = optional(|feature| feature == GENERIC_WORKLOAD).iter().map(|row| row.plural.to_string()).collect();
        assert_eq!(workloads, ["podgroups", "workloads"]);
    }

    #[test]
    fn what_can_be_switched_is_documented() {
        let documentation = include_str!("../../../docs/operations.md");
        for gate in GATES.iter().filter(|gate| gate.can_change() && !gate.is_inner()) {
            let state = if gate.is_on_by_default() { "on" } else { "off" };
            assert!(documentation.contains(&format!("\n| `{}` | {state} | ", gate.name)), "{}", gate.name);
        }
        for row in optional(|_| true) {
            let versions: Vec<String> = row.served.iter().map(|served| format!("`{}/{}`", row.group, served.version)).collect();
            let (start, kind) = (format!("| {} | ", versions.join(", ")), format!("`{}`", row.kind));
            let is_told = documentation.lines().any(|line| line.starts_with(&start) && line.contains(&kind));
            assert!(is_told, "{} {versions:?}", row.kind);
        }
    }

    #[test]
    fn what_is_no_feature_is_refused() {
        assert_eq!(idle(&["Nope=true"]), Err("unrecognized feature gate: Nope".into()));
        assert_eq!(idle(&["AllBeta"]), Err("missing bool value for AllBeta".into()));
        assert!(idle(&["AllBeta=yes"]).expect_err("no truth value").contains("invalid value of AllBeta=yes"));
    }

    #[test]
    fn a_gate_takes_what_holds_here_and_no_more() {
        for taken in ["InPlacePodVerticalScaling=true", "GitRepoVolumeDriver=false", "PodLevelResources=true", "MemoryQoS=false", "AllAlpha=false"] {
            assert_eq!(parse(&[taken]).map(|gates| gates.without_effect().len()), Ok(0), "{taken}");
        }
        for (refused, why) in [
            ("InPlacePodVerticalScaling=false", "cannot set feature gate InPlacePodVerticalScaling to false, feature is locked to true"),
            ("GitRepoVolumeDriver=true", "cannot set feature gate GitRepoVolumeDriver to true, feature is locked to false"),
            ("PodLevelResources=false", "cannot set feature gate PodLevelResources to false: it is always on here"),
            ("MemoryQoS=true", "cannot set feature gate MemoryQoS to true: there is no such feature here"),
        ] {
            assert_eq!(parse(&[refused]), Err(why.into()));
        }
        let inner = parse(&["WatchListClient=false"]).expect("nothing depends on it");
        assert_eq!((inner.without_effect(), inner.is_on("WatchListClient")), (&["WatchListClient"][..], false));
    }

    #[test]
    fn a_stage_changes_what_can_be_changed_alone() {
        let gates = parse(&["AllAlpha=true", "AllBeta=false"]).expect("works");
        assert!(gates.is_on(GENERIC_WORKLOAD) && !gates.is_on("MemoryQoS") && gates.is_on("PodLevelResources") && !gates.is_on("HostnameOverride"));
    }

    #[test]
    fn every_gate_stands_once_in_order_and_needs_known_ones() {
        let names: Vec<&str> = GATES.iter().map(|gate| gate.name).collect();
        assert!(names.is_sorted() && names.len() == names.iter().collect::<BTreeSet<_>>().len());
        assert!(GATES.iter().flat_map(|gate| gate.needs).all(|needed| names.contains(needed)));
        // Those of kube-apiserver v1.36 with all of its libraries; AllAlpha and AllBeta are none.
        assert_eq!(names.len(), 240);
    }
}
