//! One unit per pod of this node: turns the policies of its namespace and of the cluster into its rules whenever any of them, or the pod, changes.

use std::sync::Arc;

use actix::Message;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use super::{
    layout::{PolicyOwner, PolicyTable},
    plan::pod_rules,
    view::View,
};
use crate::{
    rules::{Contribution, Packed, SetRules},
    runtime::{
        envelope::Reply,
        host::{On, Unit, UnitAddr, UnitContext},
    },
};

/// Something that this unit's rules depend on changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PlanRules {
    /// Also when nothing changed: the table has forgotten.
    pub report_anyway: bool,
}

/// The rules of one pod.
pub struct PodRules {
    key: ObjectKey,
    view: Arc<View>,
    family: Family,
    table: UnitAddr<PolicyTable>,
    reported: Option<Arc<Packed>>,
    plans: u64,
}

impl PodRules {
    pub fn new(key: ObjectKey, view: Arc<View>, family: Family, table: UnitAddr<PolicyTable>) -> Self {
        PodRules { key, view, family, table, reported: None, plans: 0 }
    }

    fn report(&mut self, anyway: bool, cx: &mut UnitContext<'_, Self>) {
        // A pod that is gone is the router's to report.
        let Some(pod) = self.view.pod(&self.key) else { return };
        let planned = Packed::from(Contribution::of(pod_rules(&pod, &self.view.deciding(&self.key.namespace), self.family)));
        self.plans += 1;
        if !anyway && self.reported.as_deref() == Some(&planned) {
            return;
        }
        let planned = Arc::new(planned);
        self.reported = Some(planned.clone());
        // Sent past the mailbox's bound: it replaces whatever the table had for this pod, and the router repeats it when the table restarts.
        self.table.wake(SetRules { owner: PolicyOwner::Pod(self.key.clone()), plan: Some(planned) }, cx.cause().clone());
    }
}

impl Unit for PodRules {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.report(true, cx);
    }

    fn observe(&self) -> Value {
        let rules = self.reported.as_ref().map(|plan| plan.rules.unpack());
        let policies = self.view.pod(&self.key).map(|pod| {
            let all = self.view.deciding(&self.key.namespace);
            let cluster = all.cluster_policies(&pod).into_iter().map(|policy| policy.name.to_string());
            let own = all.policies.iter().filter(|policy| policy.selects(&pod)).map(|policy| policy.key.name.to_string());
            (own.collect::<Vec<_>>(), cluster.collect::<Vec<_>>())
        });
        let (policies, cluster) = policies.unzip();
        json!({
            "plans": self.plans,
            "policies": policies,
            "clusterPolicies": cluster,
            "chains": rules.as_ref().map_or(0, |rules| rules.chains.len()),
            "rules": rules.as_ref().map_or(0, |rules| rules.chains.values().map(Vec::len).sum::<usize>()),
        })
    }
}

impl On<PlanRules> for PodRules {
    fn on(&mut self, message: PlanRules, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.report(message.report_anyway, cx);
        Reply::Now(())
    }
}
