//! Thresholds as they are configured: upstream's notation, defaults and words. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use thiserror::Error;
use troupe_api::{expressions::go_duration, meta::Quantity};

use super::signals::{Amount, Signal, Threshold};

/// What a configuration says of eviction, by signal, as a `KubeletConfiguration` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionSettings {
    /// `evictionHard`: below such amounts pods are evicted at once.
    pub hard: BTreeMap<String, String>,
    /// `evictionSoft`: below such amounts pods are evicted after a time.
    pub soft: BTreeMap<String, String>,
    /// `evictionSoftGracePeriod`: that time, such as `1m30s`.
    pub soft_grace_period: BTreeMap<String, String>,
    /// `evictionMinimumReclaim`: how much more than that has to be free before it ends.
    pub minimum_reclaim: BTreeMap<String, String>,
}

/// Why something is no threshold.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ThresholdError {
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    #[error("eviction percentage threshold {0} must be >= 0%: {1}")]
    Negative(&'static str, String),
    #[error("eviction percentage threshold {0} must be <= 100%: {1}")]
    Beyond(&'static str, String),
    #[error("eviction threshold {0} must be positive: {1}")]
    NotPositive(&'static str, String),
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGracePeriod(&'static str),
    #[error("invalid eviction grace period specified: {0}, must be a positive value")]
    GracePeriod(String),
    #[error("eviction percentage minimum reclaim {0} must be positive: {1}")]
    ReclaimPercentage(&'static str, String),
    #[error("negative eviction minimum reclaim specified for {0}")]
    Reclaim(&'static str),
    /// It is no percentage, quantity or duration.
    #[error("{0}")]
    Malformed(String),
}

/// Upstream's `DefaultEvictionHard`.
pub fn default_hard() -> BTreeMap<String, String> {
    let all = [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ];
    all.map(|(signal, amount)| (signal.to_owned(), amount.to_owned())).into()
}

impl Default for EvictionSettings {
    /// Upstream's.
    fn default() -> Self {
        EvictionSettings { hard: default_hard(), soft: BTreeMap::new(), soft_grace_period: BTreeMap::new(), minimum_reclaim: BTreeMap::new() }
    }
}

impl EvictionSettings {
    /// The thresholds, in the order of their signals, hard ones first.
    ///
    /// # Errors
    /// When something of it is none, in upstream's words.
    pub fn thresholds(&self) -> Result<Vec<Threshold>, ThresholdError> {
        let mut all: Vec<Threshold> = statements(&self.hard)?.into_iter().map(|(signal, least)| Threshold::hard(signal, least)).collect();
        let soft = statements(&self.soft)?;
        let (periods, reclaims) = (grace_periods(&self.soft_grace_period)?, minimum_reclaims(&self.minimum_reclaim)?);
        for (signal, least) in soft {
            let grace = *periods.get(&signal).ok_or(ThresholdError::NoGracePeriod(signal.name()))?;
            all.push(Threshold { signal, least, grace, reclaim: None });
        }
        for threshold in &mut all {
            threshold.reclaim = reclaims.get(&threshold.signal).copied();
        }
        all.sort_by_key(|threshold| (threshold.signal, !threshold.is_hard()));
        Ok(all)
    }

    /// Signals that have the thresholds of others whatever is said of them here.
    pub fn overridden(&self) -> BTreeSet<&str> {
        let said = self.hard.keys().chain(self.soft.keys()).chain(self.minimum_reclaim.keys());
        said.map(String::as_str).filter(|name| signal(name).is_ok_and(Signal::follows_another)).collect()
    }
}

/// The same thresholds, and that of the memory that pods may have together beside each hard one of the machine's, as upstream adds it where
/// pods' memory is limited.
pub fn with_allocatable(thresholds: Vec<Threshold>) -> Vec<Threshold> {
    let hard = thresholds.iter().filter(|threshold| threshold.signal == Signal::MemoryAvailable && threshold.is_hard());
    let added: Vec<Threshold> = hard.map(|threshold| Threshold { signal: Signal::AllocatableMemoryAvailable, ..*threshold }).collect();
    thresholds.into_iter().chain(added).collect()
}

fn signal(name: &str) -> Result<Signal, ThresholdError> {
    Signal::ALL.into_iter().find(|signal| signal.name() == name).ok_or_else(|| ThresholdError::Signal(name.to_owned()))
}

fn statements(given: &BTreeMap<String, String>) -> Result<Vec<(Signal, Amount)>, ThresholdError> {
    let mut all = Vec::new();
    for (name, text) in given {
        let signal = signal(name)?;
        if text.ends_with('%') {
            // Of these it says nothing.
            if text == "0%" || text == "100%" {
                continue;
            }
            let percent = percentage(text)?;
            if percent < 0.0 {
                return Err(ThresholdError::Negative(signal.name(), text.clone()));
            }
            if percent > 100.0 {
                return Err(ThresholdError::Beyond(signal.name(), text.clone()));
            }
            all.push((signal, Amount::Percent(percent)));
            continue;
        }
        let quantity = quantity(text)?;
        if quantity.sign() <= 0 {
            return Err(ThresholdError::NotPositive(signal.name(), quantity.to_string()));
        }
        all.push((signal, Amount::Absolute(quantity.value().unsigned_abs())));
    }
    Ok(all)
}

fn grace_periods(given: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, Duration>, ThresholdError> {
    let mut all = BTreeMap::new();
    for (name, text) in given {
        let signal = signal(name)?;
        let nanoseconds = go_duration(text).map_err(ThresholdError::Malformed)?;
        let period = u64::try_from(nanoseconds).map_err(|_| ThresholdError::GracePeriod(text.clone()))?;
        all.insert(signal, Duration::from_nanos(period));
    }
    Ok(all)
}

fn minimum_reclaims(given: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, Amount>, ThresholdError> {
    let mut all = BTreeMap::new();
    for (name, text) in given {
        let signal = signal(name)?;
        let amount = if text.ends_with('%') {
            let percent = percentage(text)?;
            if percent <= 0.0 {
                return Err(ThresholdError::ReclaimPercentage(signal.name(), text.clone()));
            }
            Amount::Percent(percent)
        } else {
            let quantity = quantity(text)?;
            let amount = u64::try_from(quantity.value()).ok().filter(|_| quantity.sign() >= 0);
            Amount::Absolute(amount.ok_or(ThresholdError::Reclaim(signal.name()))?)
        };
        all.insert(signal, amount);
    }
    Ok(all)
}

fn percentage(text: &str) -> Result<f64, ThresholdError> {
    let number = text.trim_end_matches('%');
    let parsed = number.parse::<f64>().ok().filter(|percent| percent.is_finite());
    parsed.ok_or_else(|| ThresholdError::Malformed(format!("strconv.ParseFloat: parsing {number:?}: invalid syntax")))
}

fn quantity(text: &str) -> Result<Quantity, ThresholdError> {
    Quantity::parse(text).map_err(|error| ThresholdError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn settings(hard: &[(&str, &str)], soft: &[(&str, &str)], grace: &[(&str, &str)], reclaim: &[(&str, &str)]) -> EvictionSettings {
        EvictionSettings { hard: map(hard), soft: map(soft), soft_grace_period: map(grace), minimum_reclaim: map(reclaim) }
    }

    #[test]
    fn soft_thresholds_have_their_grace_period_and_both_what_is_to_be_reclaimed() {
        let settings = settings(
            &[("memory.available", "100Mi"), ("pid.available", "5%"), ("nodefs.available", "0%")],
            &[("memory.available", "1.5Gi")],
            &[("memory.available", "1m30s")],
            &[("memory.available", "500Mi"), ("pid.available", "2.5%")],
        );
        let reclaim = Some(Amount::Absolute(500 << 20));
        let expected = [
            Threshold { reclaim, ..Threshold::hard(Signal::MemoryAvailable, Amount::Absolute(100 << 20)) },
            Threshold { signal: Signal::MemoryAvailable, least: Amount::Absolute(3 << 29), grace: Duration::from_secs(90), reclaim },
            Threshold { reclaim: Some(Amount::Percent(2.5)), ..Threshold::hard(Signal::PidAvailable, Amount::Percent(5.0)) },
        ];
        assert_eq!(settings.thresholds().expect("thresholds"), expected);
        let with = with_allocatable(settings.thresholds().expect("thresholds"));
        assert_eq!(with.last(), Some(&Threshold { signal: Signal::AllocatableMemoryAvailable, ..expected[0] }), "hard ones alone: {with:?}");
        assert_eq!(with.len(), 4);
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let refused = |settings: EvictionSettings| settings.thresholds().expect_err("refused").to_string();
        for (hard, why) in [
            ([("memory.free", "1Gi")], "unsupported eviction signal memory.free"),
            ([("nodefs.available", "-5%")], "eviction percentage threshold nodefs.available must be >= 0%: -5%"),
            ([("nodefs.available", "101%")], "eviction percentage threshold nodefs.available must be <= 100%: 101%"),
            ([("nodefs.available", "x%")], "strconv.ParseFloat: parsing \"x\": invalid syntax"),
            ([("memory.available", "0")], "eviction threshold memory.available must be positive: 0"),
            ([("memory.available", "-1Gi")], "eviction threshold memory.available must be positive: -1Gi"),
            ([("memory.available", "much")], "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ] {
            assert_eq!(refused(settings(&hard, &[], &[], &[])), why);
        }
        let soft = [("memory.available", "1Gi")];
        assert_eq!(refused(settings(&[], &soft, &[], &[])), "grace period must be specified for the soft eviction threshold memory.available");
        assert_eq!(
            refused(settings(&[], &soft, &[("memory.available", "-1s")], &[])),
            "invalid eviction grace period specified: -1s, must be a positive value"
        );
        assert_eq!(
            refused(settings(&[], &[], &[], &[("imagefs.available", "0%")])),
            "eviction percentage minimum reclaim imagefs.available must be positive: 0%"
        );
        assert_eq!(
            refused(settings(&[], &[], &[], &[("imagefs.available", "-1Gi")])),
            "negative eviction minimum reclaim specified for imagefs.available"
        );
    }

    #[test]
    fn the_file_system_of_containers_has_the_thresholds_of_another() {
        let settings = settings(&[("containerfs.available", "1%"), ("nodefs.available", "7%")], &[], &[], &[]);
        assert_eq!(settings.overridden().into_iter().collect::<Vec<_>>(), ["containerfs.available"]);
        assert!(EvictionSettings::default().overridden().is_empty());
        assert_eq!(EvictionSettings::default().thresholds().map(|all| all.len()), Ok(5));
    }
}
