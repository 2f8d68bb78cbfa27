//! What is planned anew when something changed, and in which order.
//!
//! Rules name sets of peers that units of their own fill. A set has its entries before rules name it, and loses them behind all rules: else what
//! a policy allows would be refused for a moment, and what it denies would pass.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use troupe_api::meta::{Cause, ObjectKey};

use super::PolicyRouter;
use crate::{
    network_policy::{layout::PolicyOwner, model::PodView, peer_rules::PeerRules, pod_rules::PlanRules},
    runtime::host::{On, UnitAddr, UnitContext},
};

/// How long units may take to plan before others go on without them: one that fails must hold nobody up.
const PLANNING: Duration = Duration::from_millis(100);

impl PolicyRouter {
    /// The keys of the pods of this node that policies can select, of one namespace unless it is empty.
    pub(super) fn keys_of_pods(&self, namespace: &str) -> Vec<ObjectKey> {
        self.view.local_pods(namespace).iter().map(|pod| pod.key.clone()).collect()
    }

    /// Notes which sets a policy needs here, where these are the pods of its namespace; gives those about which that changed.
    pub(super) fn weigh(&mut self, key: &ObjectKey, pods: &[Arc<PodView>]) -> Vec<Arc<str>> {
        let in_use = self.view.policy(key).filter(|policy| pods.iter().any(|pod| policy.selects(pod)));
        self.uses.set(key, in_use.map(|policy| policy.peer_sets()))
    }

    /// The same for all policies of a namespace, or all there are.
    pub(super) fn weigh_all(&mut self, namespace: &str) -> Vec<Arc<str>> {
        let pods = self.view.local_pods(namespace);
        let policies = if namespace.is_empty() { self.view.policies() } else { self.view.policies_of(namespace) };
        policies.iter().flat_map(|policy| self.weigh(&policy.key, &pods)).collect()
    }

    pub(super) fn weigh_cluster_policy(&mut self, key: &ObjectKey) -> Vec<Arc<str>> {
        let in_use = self.view.cluster_policy(key).filter(|policy| self.view.is_about_a_pod(policy));
        self.uses.set(key, in_use.map(|policy| policy.peer_sets()))
    }

    pub(super) fn weigh_cluster_policies(&mut self) -> Vec<Arc<str>> {
        let policies = self.view.cluster_policies();
        policies.iter().flat_map(|policy| self.weigh_cluster_policy(&ObjectKey::cluster(policy.name.clone()))).collect()
    }

    /// A pod of this node came, changed or went.
    pub(super) fn pod_changed(&mut self, key: &ObjectKey, cx: &mut UnitContext<'_, Self>) {
        let mut touched = self.weigh_all(&key.namespace);
        touched.extend(self.weigh_cluster_policies());
        if self.view.pod(key).is_none() {
            self.end_pod(key, cx);
            return self.replan(Vec::new(), touched, cx);
        }
        if self.pods.contains_key(key) {
            return self.replan(vec![key.clone()], touched, cx);
        }
        // It plans when it starts, and who admits the pod asks it.
        self.begin_peers(&touched, cx);
        self.start_pod(key, cx);
        self.end_peers(&touched, cx);
    }

    /// Lets pods plan anew where something changed, among it whether these sets are needed.
    pub(super) fn replan(&mut self, pods: Vec<ObjectKey>, touched: Vec<Arc<str>>, cx: &mut UnitContext<'_, Self>) {
        let begun = self.begin_peers(&touched, cx);
        if begun.is_empty() {
            return self.wake_pods(&pods, touched, cx);
        }
        // They have told the table of their entries when they answer.
        let filled = planned(begun, cx.cause().clone());
        cx.spawn_then(filled, move |unit, (), cx| unit.wake_pods(&pods, touched, cx));
    }

    /// Lets pods plan anew, and ends the sets among these that nobody needs any more once they have.
    fn wake_pods(&mut self, pods: &[ObjectKey], touched: Vec<Arc<str>>, cx: &mut UnitContext<'_, Self>) {
        for key in pods {
            // It may have gone meanwhile.
            if self.view.pod(key).is_some() {
                self.wake_pod(key, false, cx);
            }
        }
        if touched.iter().all(|id| self.uses.has(id)) {
            return;
        }
        let units: Vec<_> = pods.iter().filter_map(|key| self.pods.get(key).cloned()).collect();
        if units.is_empty() {
            return self.end_peers(&touched, cx);
        }
        let renewed = planned(units, cx.cause().clone());
        cx.spawn_then(renewed, move |unit, (), cx| unit.end_peers(&touched, cx));
    }

    /// Starts units of those sets that are needed and have none; gives these.
    fn begin_peers(&mut self, touched: &[Arc<str>], cx: &mut UnitContext<'_, Self>) -> Vec<UnitAddr<PeerRules>> {
        let mut begun = Vec::new();
        for id in touched.iter().filter(|id| !self.peers.contains_key(*id)).cloned().collect::<Vec<_>>() {
            if let Some((namespace, set)) = self.uses.get(&id) {
                self.start_peers((namespace, id.clone()), set, cx);
                begun.extend(self.peers.get(&id).cloned());
            }
        }
        begun
    }

    /// Ends the units of those sets that nobody needs.
    fn end_peers(&mut self, touched: &[Arc<str>], cx: &mut UnitContext<'_, Self>) {
        for id in touched.iter().filter(|id| !self.uses.has(id)).cloned().collect::<Vec<_>>() {
            if let Some(unit) = self.peers.remove(&id) {
                cx.system().stop(unit.path());
                self.forget(PolicyOwner::Peers(id), cx);
            }
        }
    }
}

/// Resolves when units have planned, and the table has heard of it.
async fn planned<U: On<PlanRules>>(units: Vec<UnitAddr<U>>, cause: Cause) {
    let asked = units.iter().map(|unit| unit.ask(PlanRules { report_anyway: false }, cause.clone()));
    if tokio::time::timeout(PLANNING, join_all(asked)).await.is_err() {
        tracing::warn!(units = units.len(), "rules of network policies are not planned in time, others go on without them");
    }
}
