//! One unit per set of peers that rules of this node refer to: keeps the set's entries.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use troupe_addresses::is_unicast;
use troupe_net::iptables::Family;

use super::{
    layout::{PolicyOwner, PolicyTable},
    model::PeerSet,
    plan::peer_rules,
    pod_rules::PlanRules,
    slices::{PeersIndex, PeersKey},
};
use crate::{
    rules::{Contribution, Packed, SetRules},
    runtime::{
        envelope::Reply,
        host::{On, Unit, UnitAddr, UnitContext},
    },
};

/// The entries of one set.
pub struct PeerRules {
    key: PeersKey,
    set: PeerSet,
    index: Arc<PeersIndex>,
    family: Family,
    /// Where no domain name leads.
    inside: Arc<[IpNetwork]>,
    table: UnitAddr<PolicyTable>,
    reported: Option<Arc<Packed>>,
}

impl PeerRules {
    pub fn new(
        (key, set): (PeersKey, PeerSet),
        index: Arc<PeersIndex>,
        family: Family,
        inside: Arc<[IpNetwork]>,
        table: UnitAddr<PolicyTable>,
    ) -> Self {
        PeerRules { key, set, index, family, inside, table, reported: None }
    }

    fn report(&mut self, anyway: bool, cx: &mut UnitContext<'_, Self>) {
        let mut entries = self.index.entries(&self.key, self.set.kind(), self.family);
        if matches!(self.set, PeerSet::Domain(_)) {
            entries.retain(|entry| is_outside(entry, &self.inside));
        }
        let planned = Packed::from(Contribution::of(peer_rules(&self.set, entries, self.family)));
        if !anyway && self.reported.as_deref() == Some(&planned) {
            return;
        }
        let planned = Arc::new(planned);
        self.reported = Some(planned.clone());
        // Sent past the mailbox's bound, as the rules of pods are.
        self.table.wake(SetRules { owner: PolicyOwner::Peers(self.key.1.clone()), plan: Some(planned) }, cx.cause().clone());
    }
}

/// Whether an entry is an address outside of the cluster: who owns a domain name says to which addresses it leads, and must open no way to a pod.
fn is_outside(entry: &str, inside: &[IpNetwork]) -> bool {
    entry.parse::<IpAddr>().is_ok_and(|ip| is_unicast(ip) && !inside.iter().any(|range| range.contains(ip)))
}

impl Unit for PeerRules {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.report(true, cx);
    }

    fn observe(&self) -> Value {
        json!({"namespace": self.key.0, "entries": self.reported.as_ref().map_or(0, |plan| plan.rules.unpack().members.len())})
    }
}

impl On<PlanRules> for PeerRules {
    fn on(&mut self, message: PlanRules, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.report(message.report_anyway, cx);
        Reply::Now(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_name_leads_neither_to_pods_nor_to_the_machine_itself() {
        let inside = ["10.244.0.0/16", "fd00:10:244::/56"].map(|range| range.parse().expect("a range"));
        for (entry, expected) in [("203.0.113.7", true), ("10.0.0.7", true), ("10.244.3.7", false), ("127.0.0.1", false), ("169.254.169.254", false)]
        {
            assert_eq!(is_outside(entry, &inside), expected, "{entry}");
        }
        assert!(is_outside("2001:db8::1", &inside) && !is_outside("fd00:10:244::1", &inside) && !is_outside("203.0.113.0/24", &inside));
    }
}
