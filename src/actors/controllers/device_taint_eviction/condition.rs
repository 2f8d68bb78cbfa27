//! What is said of a rule in its status, and when. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::resource::v1beta2::DeviceTaintRule,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

use super::plan::EFFECT;

/// The condition of a rule.
pub const TYPE: &str = "EvictionInProgress";
/// The shortest time between two updates of it while nothing but counts changes (`ruleStatusPeriod`).
pub const PERIOD: Duration = Duration::from_secs(10);

/// What there is of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods that have to go, or would have to, and how many namespaces they are of.
    pub pods: usize,
    pub namespaces: usize,
    /// Devices that it means: such as drivers publish, and such as claims have.
    pub published: usize,
    pub allocated: usize,
    /// Pods that went because of it since this process leads.
    pub evicted: u64,
}

/// What is said of a rule by now.
pub fn known(rule: &DeviceTaintRule) -> Option<&Condition> {
    rule.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == TYPE)
}

/// How long nothing else is said of a rule; `None` if it may be now.
pub fn rest(rule: &DeviceTaintRule, now: Timestamp) -> Option<Duration> {
    let known = known(rule).filter(|known| known.observed_generation.unwrap_or(0) == rule.metadata.generation.unwrap_or(0))?;
    let since = Duration::try_from(now.duration_since(known.last_transition_time.0)).unwrap_or_default();
    PERIOD.checked_sub(since).filter(|rest| !rest.is_zero())
}

/// What is to be said of a rule; `None` if that is said already.
pub fn condition(rule: &DeviceTaintRule, counts: &Counts, now: Timestamp) -> Option<Condition> {
    let effect = rule.spec.taint.effect.as_str();
    let is_going = effect == EFFECT && counts.pods > 0;
    let (reason, mut message) = match effect {
        EFFECT if is_going => {
            ("PodsPendingEviction", format!("{} {}.", pods(counts.pods, ["needs", "need"], "to be evicted"), namespaces(counts.namespaces)))
        }
        EFFECT if counts.evicted > 0 => ("Completed", String::new()),
        EFFECT => ("NotStarted", String::new()),
        "None" => ("NoEffect", pretended(counts)),
        _ => ("OtherEffect", "Eviction only happens for the NoExecute effect.".to_owned()),
    };
    if counts.evicted > 0 {
        let gap = if message.is_empty() { "" } else { " " };
        let noun = if counts.evicted == 1 { "pod" } else { "pods" };
        message += &format!("{gap}{} {noun} evicted since starting the controller.", counts.evicted);
    }
    let observed = rule.metadata.generation.unwrap_or(0);
    let status = if is_going { "True" } else { "False" };
    let is_said = |known: &Condition| {
        known.status == status && known.reason == reason && known.message == message && known.observed_generation.unwrap_or(0) == observed
    };
    if known(rule).is_some_and(is_said) {
        return None;
    }
    Some(Condition {
        type_: TYPE.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(observed),
        last_transition_time: Time(now),
    })
}

/// What would be if the effect were another one.
fn pretended(counts: &Counts) -> String {
    let devices = |count: usize, which: &str| format!("{count} {which} {} selected.", if count == 1 { "device" } else { "devices" });
    format!(
        "{} {} {} {} if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
        devices(counts.published, "published"),
        devices(counts.allocated, "allocated"),
        pods(counts.pods, ["would", "would"], "be evicted"),
        namespaces(counts.namespaces),
    )
}

fn pods(count: usize, [one, many]: [&str; 2], what: &str) -> String {
    if count == 1 { format!("1 pod {one} {what} in") } else { format!("{count} pods {many} {what} in") }
}

fn namespaces(count: usize) -> String {
    if count == 1 { "1 namespace".to_owned() } else { format!("{count} different namespaces") }
}
