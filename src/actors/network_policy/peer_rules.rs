//! One unit per set of peers that rules of this node refer to: keeps the set's entries.

use std::sync::Arc;

use serde_json::{Value, json};
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
    table: UnitAddr<PolicyTable>,
    reported: Option<Arc<Packed>>,
}

impl PeerRules {
    pub fn new(key: PeersKey, set: PeerSet, index: Arc<PeersIndex>, family: Family, table: UnitAddr<PolicyTable>) -> Self {
        PeerRules { key, set, index, family, table, reported: None }
    }

    fn report(&mut self, anyway: bool, cx: &mut UnitContext<'_, Self>) {
        let entries = self.index.entries(&self.key, self.set.kind(), self.family);
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
