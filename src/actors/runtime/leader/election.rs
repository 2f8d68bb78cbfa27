//! What a candidate makes of a lease: client-go's rules. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Others wait this long after the last sign of a leader.
    pub lease: Duration,
    /// A leader that could not renew for this long stops leading. Shorter than `lease`.
    pub renew: Duration,
    /// Pause between tries.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// What a candidate has seen of the lease.
#[derive(Debug, Default)]
pub struct Observed {
    spec: LeaseSpec,
    /// When `spec` was first seen, by our own clock: others' clocks may be wrong.
    since: Option<Instant>,
}

impl Observed {
    /// Takes in the lease as it was read at `now`.
    pub fn see(&mut self, spec: &LeaseSpec, now: Instant) {
        if self.since.is_none() || self.spec != *spec {
            self.spec = spec.clone();
            self.since = Some(now);
        }
    }

    /// Who leads, as far as is known; empty for nobody.
    pub fn holder(&self) -> &str {
        self.spec.holder_identity.as_deref().unwrap_or("")
    }

    /// Whether another than `identity` holds a lease that has not run out.
    pub fn is_taken(&self, identity: &str, terms: &Terms, now: Instant) -> bool {
        let fresh = self.since.is_some_and(|since| since + terms.lease > now);
        !self.holder().is_empty() && self.holder() != identity && fresh
    }
}

/// The lease by which `identity` takes or keeps the lead, written over `old`.
pub fn claim(old: Option<&LeaseSpec>, identity: &str, terms: &Terms, wall: Timestamp) -> LeaseSpec {
    let keeps = old.is_some_and(|old| old.holder_identity.as_deref() == Some(identity));
    let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(terms.lease.as_secs()).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(wall)),
        acquire_time: old.and_then(|old| old.acquire_time.clone()).filter(|_| keeps).or(Some(MicroTime(wall))),
        lease_transitions: Some(match old {
            None => 0,
            Some(_) if keeps => transitions,
            Some(_) => transitions + 1,
        }),
        ..old.cloned().unwrap_or_default()
    }
}

/// What a candidate does with a lease whose holder others choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was chosen.
    Lead,
    /// It was chosen, and somebody else would do better now.
    GiveUp,
    Wait,
}

/// What is to be done with the lease as it is.
pub fn standing(lease: Option<&LeaseSpec>, identity: &str) -> Standing {
    let Some(lease) = lease.filter(|lease| lease.holder_identity.as_deref() == Some(identity)) else { return Standing::Wait };
    let is_nobody_else = |preferred: &str| preferred.is_empty() || preferred == identity;
    if lease.preferred_holder.as_deref().is_none_or(is_nobody_else) { Standing::Lead } else { Standing::GiveUp }
}

/// The lease of a leader that gives up.
pub fn waive(old: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(wall)),
        acquire_time: Some(MicroTime(wall)),
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(who: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(who.into()),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).expect("a time"))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_until_its_holder_was_silent_for_its_duration() {
        let (terms, begun) = (Terms::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut observed = Observed::default();
        assert!(!observed.is_taken("me", &terms, begun), "nothing is known of anybody");
        observed.see(&held_by("other", 1), begun);
        observed.see(&held_by("other", 1), at(10));
        assert!(observed.is_taken("me", &terms, at(14)));
        assert!(!observed.is_taken("me", &terms, at(15)), "seen first at the beginning, unchanged since");
        observed.see(&held_by("other", 9), at(14));
        assert!(observed.is_taken("me", &terms, at(20)), "renewed");
        assert!(!observed.is_taken("other", &terms, at(20)), "one's own");
        observed.see(&held_by("", 20), at(20));
        assert!(!observed.is_taken("me", &terms, at(20)), "given up");
    }

    #[test]
    fn who_is_chosen_leads_until_somebody_else_is_preferred() {
        assert_eq!((standing(None, "me"), standing(Some(&held_by("other", 1)), "me")), (Standing::Wait, Standing::Wait));
        assert_eq!(standing(Some(&held_by("me", 1)), "me"), Standing::Lead);
        let preferred = |who: &str| LeaseSpec { preferred_holder: Some(who.into()), ..held_by("me", 1) };
        assert_eq!(["other", "me", ""].map(|who| standing(Some(&preferred(who)), "me")), [Standing::GiveUp, Standing::Lead, Standing::Lead]);
    }

    #[test]
    fn a_new_holder_counts_as_a_transition_and_a_renewal_does_not() {
        let wall = Timestamp::from_second(100).expect("a time");
        let terms = Terms::default();
        let first = claim(None, "me", &terms, wall);
        assert_eq!((first.lease_transitions, first.lease_duration_seconds), (Some(0), Some(15)));
        let later = Timestamp::from_second(102).expect("a time");
        let renewed = claim(Some(&first), "me", &terms, later);
        assert_eq!((renewed.acquire_time.clone(), renewed.renew_time.clone()), (Some(MicroTime(wall)), Some(MicroTime(later))));
        assert_eq!(renewed.lease_transitions, Some(0));
        let taken = claim(Some(&held_by("other", 1)), "me", &terms, later);
        assert_eq!((taken.lease_transitions, taken.acquire_time.clone()), (Some(4), Some(MicroTime(later))));
        let waived = waive(&taken, later);
        assert_eq!((waived.holder_identity.as_deref(), waived.lease_duration_seconds, waived.lease_transitions), (Some(""), Some(1), Some(4)));
        assert_eq!(claim(Some(&waived), "me", &terms, later).lease_transitions, Some(5));
    }
}
