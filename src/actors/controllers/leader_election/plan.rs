//! One step of an election: what is to be done by the lease and its candidates as they are (`pkg/controlplane/controller/leaderelection`). Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::{
        v1::LeaseSpec,
        v1beta1::{LeaseCandidate, LeaseCandidateSpec},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use troupe_api::meta::semver::SemanticVersion;

use crate::runtime::leader::OLDEST_EMULATION_VERSION;

/// So long candidates have to answer, and so long an answer counts.
const ELECTION: SignedDuration = SignedDuration::from_secs(5);
/// Candidates that have not told for so long are gone.
const VALID: SignedDuration = SignedDuration::from_mins(30);
/// Seconds that a lease holds when its holder is chosen.
const HOLDS: i32 = 5;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Candidates that are gone.
    pub expired: Vec<Arc<LeaseCandidate>>,
    pub step: Step,
}

/// The next step of the election.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The leader is the best one, or candidates have yet to answer.
    Rest,
    /// Asks candidates whether they are there.
    Ask(Vec<Arc<LeaseCandidate>>),
    /// What the lease says.
    Write(Box<LeaseSpec>),
    /// Why nobody can be chosen.
    Refuse(String),
}

/// Whether a candidate was asked and has not answered.
pub fn is_asked(candidate: &LeaseCandidateSpec) -> bool {
    candidate.ping_time.as_ref().is_some_and(|asked| candidate.renew_time.as_ref().is_some_and(|renewed| renewed.0 < asked.0))
}

/// Plans for a lease and all that stand for it.
pub fn plan(lease: Option<&LeaseSpec>, candidates: &[Arc<LeaseCandidate>], now: Timestamp) -> Plan {
    let (expired, valid): (Vec<_>, Vec<_>) = candidates.iter().cloned().partition(|candidate| has_told(candidate, VALID, now).is_none());
    let step = if valid.is_empty() { Step::Rest } else { step(lease, &valid, now).unwrap_or_else(Step::Refuse) };
    Plan { expired, step }
}

fn step(lease: Option<&LeaseSpec>, candidates: &[Arc<LeaseCandidate>], now: Timestamp) -> Result<Step, String> {
    if !is_needed(lease, candidates, now)? {
        return Ok(Step::Rest);
    }
    let answered = |candidate: &&Arc<LeaseCandidate>| has_told(candidate, ELECTION, now).is_some();
    let pending: Vec<&Arc<LeaseCandidate>> = candidates.iter().filter(|candidate| !answered(candidate)).collect();
    // Who did not answer in time takes no part until it does.
    let waits = pending.iter().any(|candidate| is_asked(&candidate.spec) && was_asked_lately(&candidate.spec, now));
    let unasked: Vec<Arc<LeaseCandidate>> = pending.into_iter().filter(|candidate| !is_asked(&candidate.spec)).cloned().collect();
    if !unasked.is_empty() {
        return Ok(Step::Ask(unasked));
    }
    if waits {
        return Ok(Step::Rest);
    }
    let there: Vec<Arc<LeaseCandidate>> = candidates.iter().filter(answered).cloned().collect();
    if there.is_empty() {
        return Err("no available candidates".into());
    }
    let strategy = strategy(&there)?;
    let chosen = if strategy == OLDEST_EMULATION_VERSION { Some(name_of(best(&there).ok_or("no candidate has valid versions")?)) } else { None };
    let wanted = written(lease, strategy, chosen, now);
    Ok(if lease == Some(&wanted) { Step::Rest } else { Step::Write(Box::new(wanted)) })
}

/// When a candidate last told that it is there, if that is no longer ago than this.
fn has_told(candidate: &LeaseCandidate, within: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    candidate.spec.renew_time.as_ref().map(|renewed| renewed.0).filter(|renewed| now.duration_since(*renewed) < within)
}

fn was_asked_lately(candidate: &LeaseCandidateSpec, now: Timestamp) -> bool {
    candidate.ping_time.as_ref().is_some_and(|asked| now.duration_since(asked.0) < ELECTION)
}

/// Whether the lease may have to get another holder.
fn is_needed(lease: Option<&LeaseSpec>, candidates: &[Arc<LeaseCandidate>], now: Timestamp) -> Result<bool, String> {
    let Some(lease) = lease.filter(|lease| !has_run_out(lease, now) && !holder(lease).is_empty()) else { return Ok(true) };
    // Now and then all are asked, so that those that are there are not taken for gone.
    if candidates.iter().any(|candidate| has_told(candidate, VALID / 2, now).is_none()) {
        return Ok(true);
    }
    if strategy(candidates)? != OLDEST_EMULATION_VERSION {
        return Ok(false);
    }
    Ok(best(candidates).is_some_and(|best| name_of(best) != holder(lease)))
}

fn has_run_out(lease: &LeaseSpec, now: Timestamp) -> bool {
    let (Some(renewed), Some(seconds)) = (&lease.renew_time, lease.lease_duration_seconds) else { return true };
    now.duration_since(renewed.0) > SignedDuration::from_secs(seconds.into())
}

fn holder(lease: &LeaseSpec) -> &str {
    lease.holder_identity.as_deref().unwrap_or_default()
}

fn name_of(candidate: &LeaseCandidate) -> &str {
    candidate.metadata.name.as_deref().unwrap_or_default()
}

/// The lease as it is to be, where `chosen` should hold it; nobody is chosen here by other strategies than this one's.
fn written(lease: Option<&LeaseSpec>, strategy: &str, chosen: Option<&str>, now: Timestamp) -> LeaseSpec {
    let known = lease.cloned().unwrap_or_default();
    let mut wanted = LeaseSpec { strategy: Some(strategy.to_owned()), ..known.clone() };
    let is_free = lease.is_none() || holder(&known).is_empty() || (has_run_out(&known, now) && chosen.is_some_and(|chosen| chosen != holder(&known)));
    if is_free && (chosen.is_some() || lease.is_none()) {
        wanted.holder_identity = chosen.map(str::to_owned);
        wanted.preferred_holder = None;
        wanted.renew_time = Some(MicroTime(now));
        wanted.lease_duration_seconds = Some(HOLDS);
        wanted.acquire_time = None;
    } else if let Some(chosen) = chosen.filter(|chosen| *chosen != holder(&known)) {
        wanted.preferred_holder = Some(chosen.to_owned());
    }
    wanted
}

/// The strategy of the candidates with the newest program.
fn strategy(candidates: &[Arc<LeaseCandidate>]) -> Result<&str, String> {
    let binary = |candidate: &LeaseCandidate| SemanticVersion::parse(&candidate.spec.binary_version);
    let newest = candidates.iter().map(|candidate| binary(candidate)).max().flatten();
    let mut newest = candidates.iter().filter(|candidate| binary(candidate) == newest);
    let Some(first) = newest.next() else { return Err("no candidates".into()) };
    match newest.find(|other| other.spec.strategy != first.spec.strategy) {
        None => Ok(first.spec.strategy.as_str()),
        Some(other) => Err(format!(
            "candidates {:?}, {:?} at same binary version but received differing strategies {}, {}",
            name_of(first),
            name_of(other),
            first.spec.strategy,
            other.spec.strategy
        )),
    }
}

/// The candidate of the oldest emulated version, of the oldest program among those, that stands longest.
fn best(candidates: &[Arc<LeaseCandidate>]) -> Option<&LeaseCandidate> {
    let rank = |candidate: &LeaseCandidate| {
        let emulated = SemanticVersion::parse(candidate.spec.emulation_version.as_deref()?)?;
        let binary = SemanticVersion::parse(&candidate.spec.binary_version)?;
        Some((emulated, binary, candidate.metadata.creation_timestamp.as_ref().map(|created| created.0)))
    };
    let valid = candidates.iter().filter_map(|candidate| Some((rank(candidate)?, &**candidate)));
    valid.min_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, candidate)| candidate)
}
