//! When a node evicts pods, as upstream's flags write it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use troupe_actors::kubelet::eviction::{
    GracePeriods,
    settings::{EvictionSettings, default_hard},
    signals::Threshold,
};

use super::Settings;

/// What stands for no threshold at all.
const NO_THRESHOLDS: &str = "none";
const TRANSITION: u64 = 300;

/// When a node evicts pods.
#[derive(Clone, Debug)]
pub struct EvictionConfig {
    settings: EvictionSettings,
    pub thresholds: Vec<Threshold>,
    pub pressure_transition_period: Duration,
    pub grace_periods: GracePeriods,
}

impl EvictionConfig {
    /// # Errors
    /// When something of it is no threshold.
    pub fn of(settings: &Settings) -> Result<Self> {
        let pairs = |given: &Option<Vec<String>>, sign: char, flag: &str| {
            given.as_deref().map_or_else(|| Ok(BTreeMap::new()), |given| pairs(given, sign)).with_context(|| format!("--eviction-{flag}"))
        };
        let hard = match &settings.eviction_hard {
            None => default_hard(),
            Some(given) if *given == [NO_THRESHOLDS] => BTreeMap::new(),
            given => pairs(given, '<', "hard")?,
        };
        let all = EvictionSettings {
            hard,
            soft: pairs(&settings.eviction_soft, '<', "soft")?,
            soft_grace_period: pairs(&settings.eviction_soft_grace_period, '=', "soft-grace-period")?,
            minimum_reclaim: pairs(&settings.eviction_minimum_reclaim, '=', "minimum-reclaim")?,
        };
        Ok(EvictionConfig {
            thresholds: all.thresholds().context("thresholds of eviction")?,
            settings: all,
            pressure_transition_period: Duration::from_secs(settings.eviction_pressure_transition_period.unwrap_or(TRANSITION)),
            grace_periods: GracePeriods { most: settings.eviction_max_pod_grace_period.unwrap_or(0) },
        })
    }

    /// The same among other settings.
    pub fn among(&self, others: Settings) -> Settings {
        let EvictionSettings { hard, soft, soft_grace_period, minimum_reclaim } = &self.settings;
        let shown = |all: &BTreeMap<String, String>, sign| Some(shown(all, sign)).filter(|all| !all.is_empty());
        Settings {
            eviction_hard: Some(shown_hard(hard)),
            eviction_soft: shown(soft, '<'),
            eviction_soft_grace_period: shown(soft_grace_period, '='),
            eviction_minimum_reclaim: shown(minimum_reclaim, '='),
            eviction_max_pod_grace_period: Some(self.grace_periods.most),
            eviction_pressure_transition_period: Some(self.pressure_transition_period.as_secs()),
            ..others
        }
    }

    /// Signals that are named although they have the thresholds of others.
    pub fn overridden(&self) -> Vec<&str> {
        self.settings.overridden().into_iter().collect()
    }
}

/// Pairs as upstream's flags have them.
fn pairs(given: &[String], sign: char) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for pair in given.iter().filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once(sign) else { bail!("malformed pair, expect string{sign}string") };
        all.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(all)
}

/// Hard thresholds as the setting has them.
pub(super) fn shown_hard(hard: &BTreeMap<String, String>) -> Vec<String> {
    if hard.is_empty() { vec![NO_THRESHOLDS.to_owned()] } else { shown(hard, '<') }
}

fn shown(all: &BTreeMap<String, String>, sign: char) -> Vec<String> {
    all.iter().map(|(name, value)| format!("{name}{sign}{value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[&str]) -> Option<Vec<String>> {
        Some(all.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn thresholds_are_given_and_recorded_as_upstreams_flags_write_them() {
        let given = Settings {
            eviction_hard: words(&["nodefs.available<1Gi", "pid.available<5%"]),
            eviction_soft: words(&["memory.available<1.5Gi"]),
            eviction_soft_grace_period: words(&["memory.available=1m30s"]),
            eviction_minimum_reclaim: words(&["pid.available=1%"]),
            eviction_max_pod_grace_period: Some(-1),
            eviction_pressure_transition_period: Some(7),
            ..Settings::default()
        };
        let config = EvictionConfig::of(&given).expect("works");
        assert_eq!((config.thresholds.len(), config.thresholds[0].grace.as_secs()), (3, 90));
        assert_eq!(config.among(Settings::default()), given);
        let none = Settings { eviction_hard: words(&["none"]), ..Settings::default() };
        let config = EvictionConfig::of(&none).expect("works");
        assert_eq!((config.thresholds.len(), config.among(Settings::default()).eviction_hard), (0, words(&["none"])));
    }

    #[test]
    fn what_is_no_threshold_is_refused_in_upstreams_words() {
        let refused = |given: Settings| format!("{:#}", EvictionConfig::of(&given).expect_err("refused"));
        let hard = refused(Settings { eviction_hard: words(&["nodefs.available"]), ..Settings::default() });
        assert_eq!(hard, "--eviction-hard: malformed pair, expect string<string");
        let soft = refused(Settings { eviction_soft: words(&["nodefs.available<5%"]), ..Settings::default() });
        assert_eq!(soft, "thresholds of eviction: grace period must be specified for the soft eviction threshold nodefs.available");
    }
}
