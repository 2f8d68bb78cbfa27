//! One unit per set of peers that rules of this node refer to: keeps the set's entries.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use troupe_net::iptables::Family;

use super::{
    inside::{Inside, Knowledge},
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

/// Time between two words on where a name leads: whoever owns it can have it lead to ever new addresses.
const PAUSE: Duration = Duration::from_secs(60);

/// When somebody was told last, and of how many nobody was since.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    untold: usize,
}

impl Told {
    /// Takes `new` ones in. Where it is time to tell of them: how many there are since the last word.
    fn add(&mut self, new: usize, now: Instant) -> Option<usize> {
        self.untold += new;
        if self.untold == 0 || self.at.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The entries of one set.
pub struct PeerRules {
    key: PeersKey,
    set: PeerSet,
    index: Arc<PeersIndex>,
    family: Family,
    /// Where no domain name leads; there is one for domain names.
    inside: Option<Arc<Inside>>,
    table: UnitAddr<PolicyTable>,
    reported: Option<Arc<Packed>>,
    /// What the DNS servers tell and no packet is let through to, with why.
    withheld: BTreeMap<String, String>,
    told: Told,
}

impl PeerRules {
    pub fn new(
        (key, set): (PeersKey, PeerSet),
        index: Arc<PeersIndex>,
        family: Family,
        inside: Option<Arc<Inside>>,
        table: UnitAddr<PolicyTable>,
    ) -> Self {
        PeerRules { key, set, index, family, inside, table, reported: None, withheld: BTreeMap::new(), told: Told::default() }
    }

    fn report(&mut self, anyway: bool, cx: &mut UnitContext<'_, Self>) {
        let mut entries = self.index.entries(&self.key, self.set.kind(), self.family);
        if let Some(inside) = self.inside.clone() {
            match inside.knowledge() {
                // What stands in the kernel from an earlier daemon stays until then.
                Knowledge::Waiting => return,
                Knowledge::Late => entries.clear(),
                Knowledge::Whole => self.withhold(&mut entries, |ip| inside.refuses(ip), cx.system().instant()),
            }
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

    /// Takes away what a domain name must not lead to, and says of one that is new, with how many there are, once a minute at most.
    fn withhold(&mut self, entries: &mut Vec<String>, refuses: impl Fn(IpAddr) -> Option<String>, now: Instant) {
        let withheld = withheld(entries, refuses);
        let new: Vec<_> = withheld.iter().filter(|(address, _)| !self.withheld.contains_key(*address)).collect();
        if let PeerSet::Domain(name) = &self.set
            && let Some((address, why)) = new.first().copied().or_else(|| withheld.iter().next())
            && let Some(addresses) = self.told.add(new.len(), now)
        {
            tracing::warn!(%name, address, why, addresses, "a domain name leads into the cluster, its policies do not let that through");
        }
        self.withheld = withheld;
    }
}

/// Takes away what a domain name must not lead to; gives it with why: who owns a name says to which addresses it leads, and must open no way into the
/// cluster.
fn withheld(entries: &mut Vec<String>, refuses: impl Fn(IpAddr) -> Option<String>) -> BTreeMap<String, String> {
    let mut withheld = BTreeMap::new();
    entries.retain(|entry| {
        let why = match entry.parse::<IpAddr>() {
            Ok(ip) => refuses(ip),
            Err(_) => Some("it is no address".to_owned()),
        };
        let passes = why.is_none();
        withheld.extend(why.map(|why| (entry.clone(), why)));
        passes
    });
    withheld
}

impl Unit for PeerRules {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.report(true, cx);
    }

    fn observe(&self) -> Value {
        let entries = self.reported.as_ref().map_or(0, |plan| plan.rules.unpack().members.len());
        json!({"namespace": self.key.0, "entries": entries, "withheld": self.withheld})
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
    use troupe_net::dns::cluster_addresses::{ClusterAddresses, Source, SourceKind};

    use super::*;

    #[test]
    fn whoever_leads_a_name_to_ever_new_addresses_fills_no_log() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let after = |second: u64| begun + Duration::from_secs(second);
        assert_eq!((told.add(0, begun), told.add(2, begun)), (None, Some(2)));
        assert!((1..60).all(|second| told.add(3, after(second)).is_none()));
        assert_eq!(told.add(0, after(60)), Some(59 * 3), "those that came meanwhile");
        assert_eq!((told.add(0, after(500)), told.add(1, after(500))), (None, Some(1)));
    }

    #[test]
    fn a_domain_name_leads_nowhere_into_the_cluster() {
        let mut known = ClusterAddresses::default();
        known.set(Source::new(SourceKind::Pods, ""), ["10.244.0.0/16", "fd00:10:244::/56"]);
        known.set(Source::new(SourceKind::Node, "one"), ["198.51.102.2"]);
        known.set(Source::new(SourceKind::ServiceRange, "kubernetes"), ["10.96.0.0/16"]);
        let told = [
            "203.0.113.7",
            "198.51.102.2",
            "10.96.0.1",
            "10.244.3.7",
            "127.0.0.1",
            "169.254.169.254",
            "2001:db8::1",
            "fd00:10:244::1",
            "203.0.113.0/24",
        ];
        let mut entries: Vec<String> = told.map(str::to_owned).to_vec();
        let taken = withheld(&mut entries, |ip| known.refuses(ip));
        assert_eq!(entries, ["203.0.113.7", "2001:db8::1"]);
        assert_eq!(taken.len(), told.len() - 2);
        assert_eq!(taken["198.51.102.2"], "it is one of node one and its pods");
    }
}
