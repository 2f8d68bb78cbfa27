//! What no Service claims: packets to an address and port of the cluster's Service range that nothing translates are refused on the node.
//! They would leave it by the default route otherwise, and clients wait. Pure.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{End, Family, RuleSet, Table};

use super::{names::SERVICES, plan::unreachable};
use crate::rules::Contribution;

/// The name of the ServiceCIDR that the API server makes of its own range. Others are without effect.
pub const OWN_RANGE: &str = "kubernetes";

/// Whose rules these are in the table: no Service's, whose keys have a namespace.
pub fn owner() -> ObjectKey {
    ObjectKey::cluster(OWN_RANGE)
}

/// The refusals for the ranges of a family.
pub fn plan(cidr: Option<&Arc<ServiceCIDR>>, family: Family) -> Contribution {
    let mut rules = RuleSet::default();
    let cidrs = cidr.and_then(|cidr| cidr.spec.as_ref()?.cidrs.clone()).unwrap_or_default();
    for cidr in cidrs.iter().filter_map(|cidr| cidr.parse::<IpNetwork>().ok()).filter(|cidr| family.has(cidr.ip())) {
        let range = format!("-d {}/{}", cidr.network(), cidr.prefix());
        let why = "-m comment --comment \"no service has this address and port\"";
        // Behind the rules of all Services; a translated packet has left the range.
        rules.line(Table::Filter, SERVICES, End::Tail, format!("{range} -p tcp {why} -j REJECT --reject-with tcp-reset"));
        rules.line(Table::Filter, SERVICES, End::Tail, format!("{range} ! -p tcp {why} -j REJECT --reject-with {}", unreachable(family)));
    }
    Contribution::of(rules)
}
