//! What is done for one ServiceCIDR. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::ServiceCIDR;

/// Upstream's: a range with it is kept until no address needs it.
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// So long API servers may still give out addresses of a range that is being deleted.
pub const GRACE: SignedDuration = SignedDuration::from_secs(10);

const READY: (&str, &str, &str) = ("True", "", "Kubernetes Service CIDR is ready");
const IN_USE: (&str, &str, &str) =
    ("False", "Terminating", "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR");

/// The wanted condition Ready: status, reason and message.
pub type Ready = (&'static str, &'static str, &'static str);

/// A step. After each one is looked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Keep,
    AddFinalizer,
    RemoveFinalizer,
    Tell(Ready),
    /// Look again then.
    Wait(SignedDuration),
}

/// Decides about a range among all there are, by the addresses that Services have.
pub fn plan(range: &ServiceCIDR, all: &[ServiceCIDR], addresses: impl FnOnce() -> Vec<IpAddr>, now: Timestamp) -> Plan {
    let has_finalizer = range.metadata.finalizers.iter().flatten().any(|held| held == FINALIZER);
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        return if has_finalizer { tell(range, READY) } else { Plan::AddFinalizer };
    };
    if !has_finalizer {
        return Plan::Keep;
    }
    if !can_go(range, all, addresses) {
        return tell(range, IN_USE);
    }
    let left = GRACE - now.duration_since(deleted.0);
    if left.is_positive() { Plan::Wait(left) } else { Plan::RemoveFinalizer }
}

fn tell(range: &ServiceCIDR, ready: Ready) -> Plan {
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let told = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let same = told.is_some_and(|told| (told.status.as_str(), told.reason.as_str(), told.message.as_str()) == ready);
    if same { Plan::Keep } else { Plan::Tell(ready) }
}

/// Whether no address is orphaned: another has all of the range, or no address is in this one alone.
fn can_go(range: &ServiceCIDR, all: &[ServiceCIDR], addresses: impl FnOnce() -> Vec<IpAddr>) -> bool {
    let others: Vec<IpNetwork> = all.iter().filter(|other| other.metadata.name != range.metadata.name).flat_map(ranges).collect();
    let own: Vec<IpNetwork> = ranges(range).collect();
    let inside = |inner: &IpNetwork, outer: &IpNetwork| outer.prefix() <= inner.prefix() && outer.contains(inner.network());
    if own.iter().all(|range| others.iter().any(|other| inside(range, other))) {
        return true;
    }
    let is_alone = |address: &IpAddr| own.iter().any(|range| range.contains(*address)) && !others.iter().any(|other| other.contains(*address));
    !addresses().iter().any(is_alone)
}

/// The ranges of an object.
pub fn ranges(of: &ServiceCIDR) -> impl Iterator<Item = IpNetwork> {
    of.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|text| text.parse().ok())
}

/// Whether two objects' ranges meet.
pub fn overlap(one: &ServiceCIDR, other: &ServiceCIDR) -> bool {
    let theirs: BTreeSet<IpNetwork> = ranges(other).collect();
    ranges(one).any(|range| theirs.iter().any(|other| range.contains(other.network()) || other.contains(range.network())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(name: &str, cidr: &str) -> ServiceCIDR {
        let metadata = json!({"name": name, "finalizers": [FINALIZER]});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"cidrs": [cidr]}})).expect("a range")
    }

    fn told(mut range: ServiceCIDR, (status, reason, message): Ready) -> ServiceCIDR {
        let condition =
            json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        range.status = Some(serde_json::from_value(json!({"conditions": [condition]})).expect("a status"));
        range
    }

    fn deleted(mut range: ServiceCIDR, second: i64) -> ServiceCIDR {
        let time = Timestamp::from_second(second).expect("a time").to_string();
        range.metadata.deletion_timestamp = serde_json::from_value(json!(time)).expect("a time");
        range
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_new_range_gets_its_finalizer_and_then_is_ready() {
        let mut new = range("a", "10.96.0.0/24");
        new.metadata.finalizers = None;
        assert_eq!(plan(&new, &[], Vec::new, at(0)), Plan::AddFinalizer);
        assert_eq!(plan(&range("a", "10.96.0.0/24"), &[], Vec::new, at(0)), Plan::Tell(READY));
        assert_eq!(plan(&told(range("a", "10.96.0.0/24"), READY), &[], Vec::new, at(0)), Plan::Keep);
    }

    #[test]
    fn a_range_goes_when_no_address_needs_it_and_all_servers_know() {
        let going = deleted(range("a", "10.96.0.0/24"), 100);
        let used = || vec!["10.96.0.7".parse().expect("an address")];
        assert_eq!(plan(&going, std::slice::from_ref(&going), used, at(200)), Plan::Tell(IN_USE));
        assert_eq!(plan(&told(going.clone(), IN_USE), std::slice::from_ref(&going), used, at(200)), Plan::Keep);
        assert_eq!(plan(&going, std::slice::from_ref(&going), Vec::new, at(104)), Plan::Wait(SignedDuration::from_secs(6)));
        assert_eq!(plan(&going, std::slice::from_ref(&going), Vec::new, at(110)), Plan::RemoveFinalizer);
        let wider = range("b", "10.96.0.0/16");
        assert_eq!(plan(&going, &[going.clone(), wider], used, at(110)), Plan::RemoveFinalizer, "another has all of it");
        let half = range("b", "10.96.0.0/25");
        assert_eq!(plan(&going, &[going.clone(), half], used, at(110)), Plan::RemoveFinalizer, "another has the address");
    }

    #[test]
    fn ranges_meet_where_one_has_the_others_beginning() {
        assert!(overlap(&range("a", "10.96.0.0/16"), &range("b", "10.96.4.0/24")));
        assert!(!overlap(&range("a", "10.96.0.0/24"), &range("b", "10.96.1.0/24")));
    }
}
