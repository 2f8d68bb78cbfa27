//! What no Service claims: packets to an address and port of the cluster's Service ranges that nothing translates are refused on the node.
//! They would leave it by the default route otherwise, and clients wait. The ranges are those of ServiceCIDRs. Pure.

use std::{collections::BTreeSet, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{End, Family, RuleSet, Table};

use super::{names::SERVICES, plan::unreachable};
use crate::rules::Contribution;

/// The name of the ServiceCIDR that the API server makes of its own range.
pub const OWN_RANGE: &str = "kubernetes";

/// Whose rules these are in the table: no Service's, whose keys have a namespace.
pub fn owner() -> ObjectKey {
    ObjectKey::cluster(OWN_RANGE)
}

/// The ServiceCIDRs among all there are whose addresses are Services' alone: the API server's own, and those that are Ready. One that meets the
/// `pods`' range is not: a mistake in it would cut pods off.
pub fn in_force(all: &[Arc<ServiceCIDR>], pods: Option<IpNetwork>) -> Vec<Arc<ServiceCIDR>> {
    let meets = |range: IpNetwork| pods.is_some_and(|pods| pods.contains(range.network()) || range.contains(pods.network()));
    let counts = |range: &&Arc<ServiceCIDR>| {
        let is_own = range.metadata.name.as_deref() == Some(OWN_RANGE);
        is_own || is_ready(range) && !networks(range).any(meets)
    };
    all.iter().filter(counts).cloned().collect()
}

fn is_ready(range: &ServiceCIDR) -> bool {
    let mut conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn networks(range: &ServiceCIDR) -> impl Iterator<Item = IpNetwork> {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|cidr| cidr.parse().ok())
}

/// The refusals for the ranges of a family.
pub fn plan<'a>(all: impl IntoIterator<Item = &'a Arc<ServiceCIDR>>, family: Family) -> Contribution {
    let mut rules = RuleSet::default();
    let cidrs: BTreeSet<IpNetwork> = all.into_iter().flat_map(|range| networks(range)).filter(|cidr| family.has(cidr.ip())).collect();
    for cidr in cidrs {
        let range = format!("-d {}/{}", cidr.network(), cidr.prefix());
        let why = "-m comment --comment \"no service has this address and port\"";
        // Behind the rules of all Services; a translated packet has left the range.
        rules.line(Table::Filter, SERVICES, End::Tail, format!("{range} -p tcp {why} -j REJECT --reject-with tcp-reset"));
        rules.line(Table::Filter, SERVICES, End::Tail, format!("{range} ! -p tcp {why} -j REJECT --reject-with {}", unreachable(family)));
    }
    Contribution::of(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(name: &str, cidr: &str, ready: &str) -> Arc<ServiceCIDR> {
        let condition = json!({"type": "Ready", "status": ready, "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let range = json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}, "status": {"conditions": [condition]}});
        Arc::new(serde_json::from_value(range).expect("a range"))
    }

    #[test]
    fn ranges_count_when_they_are_ready_and_cut_no_pod_off() {
        let all = [
            range(OWN_RANGE, "10.96.0.0/16", "False"),
            range("more", "10.97.0.0/24", "True"),
            range("going", "10.98.0.0/24", "False"),
            range("mistake", "10.0.0.0/8", "True"),
        ];
        let names = |pods: &str| -> Vec<String> {
            let pods = Some(pods.parse().expect("a range"));
            in_force(&all, pods).iter().filter_map(|range| range.metadata.name.clone()).collect()
        };
        assert_eq!(names("10.244.0.0/16"), [OWN_RANGE, "more"]);
        assert_eq!(names("fd00:10:244::/56"), [OWN_RANGE, "more", "mistake"]);
        let rules = plan(&in_force(&all, Some("10.244.0.0/16".parse().expect("a range"))), Family::V4).rules;
        assert_eq!(rules.lines.len(), 4, "each is refused for TCP and for the rest");
        assert!(plan(&all, Family::V6).rules.lines.is_empty());
    }
}
