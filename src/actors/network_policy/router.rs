//! Leads changes of policies, pods and peers to the units they concern, and keeps one unit per pod of this node and per set of peers in use.

mod admission;
mod following;
mod naming;
mod replanning;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use troupe_api::meta::{Cause, ObjectKey};

use super::{
    Followed, NetworkPolicies, NetworkPolicyOptions,
    cluster::ClusterNetworkPolicy,
    inside::Inside,
    layout::{PolicyOwner, PolicyTable, base},
    messages::{ClusterPolicyTouched, NamespaceTouched, PeersTouched, PodTouched, PolicyTouched, TableStarted},
    model::PeerSet,
    peer_rules::PeerRules,
    plan::closed,
    pod_rules::{PlanRules, PodRules},
    slices::{PeersIndex, PeersKey},
    uses::Uses,
    view::View,
};
use crate::{
    rules::{AwaitOwners, Contribution, Packed, RuleTable, SetRules, TableOptions},
    runtime::{
        cache::Subscription,
        envelope::Reply,
        host::{On, Unit, UnitAddr, UnitContext},
        unit::Policy,
    },
};

/// How far the router knows its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Policies are not known yet.
    Starting,
    /// There has been no policy: nothing else is followed.
    Idle,
    /// Pods and peers are not known yet.
    Filling,
    Synced,
}

/// The root unit.
pub struct PolicyRouter {
    options: NetworkPolicyOptions,
    view: Arc<View>,
    uses: Uses,
    pods: HashMap<ObjectKey, UnitAddr<PodRules>>,
    peers: BTreeMap<Arc<str>, UnitAddr<PeerRules>>,
    table: Option<UnitAddr<PolicyTable>>,
    index: Option<Arc<PeersIndex>>,
    followed: Option<Followed>,
    /// Where no domain name leads; there is one when a policy has had any name.
    inside: Option<Arc<Inside>>,
    policies: Option<Subscription<NetworkPolicy>>,
    cluster_policies: Option<Subscription<ClusterNetworkPolicy>>,
    local: Option<Subscription<Pod>>,
    namespaces: Option<Subscription<Namespace>>,
    phase: Phase,
    /// Who waits until it knows its world.
    waiting: Vec<oneshot::Sender<()>>,
}

impl PolicyRouter {
    pub fn new(options: NetworkPolicyOptions) -> Self {
        PolicyRouter {
            options,
            view: Arc::default(),
            uses: Uses::default(),
            pods: HashMap::new(),
            peers: BTreeMap::new(),
            table: None,
            index: None,
            followed: None,
            inside: None,
            policies: None,
            cluster_policies: None,
            local: None,
            namespaces: None,
            phase: Phase::Starting,
            waiting: Vec::new(),
        }
    }

    fn start_table(&mut self, cx: &mut UnitContext<'_, Self>) {
        let router = cx.address();
        let options = TableOptions {
            iptables: self.options.iptables.clone(),
            sets: Some(self.options.sets.clone()),
            conntrack: None,
            base: base(self.options.family),
            family: self.options.family,
            tell_started: Arc::new(move || router.wake(TableStarted, Cause::default())),
        };
        let path = format!("{}/rule-table", NetworkPolicies::path(self.options.family));
        self.table = Some(cx.system().spawn(path, Policy::default(), move |_| RuleTable::new(options.clone())));
    }

    /// Makes every unit report to a table that knows nothing, and tells the table whom to wait for.
    fn report_all(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(table) = self.table.clone() else { return };
        let pods = self.keys_of_pods("");
        let sets = self.uses.all();
        let owners = pods.iter().cloned().map(PolicyOwner::Pod).chain(sets.keys().cloned().map(PolicyOwner::Peers));
        table.wake(AwaitOwners(owners.collect::<HashSet<_>>()), cx.cause().clone());
        for key in pods {
            self.wake_pod(&key, true, cx);
        }
        for (id, (namespace, set)) in sets {
            match self.peers.get(&id) {
                Some(unit) => unit.wake(PlanRules { report_anyway: true }, cx.cause().clone()),
                None => self.start_peers((namespace, id), set, cx),
            }
        }
    }

    fn answer(&mut self) {
        for told in self.waiting.drain(..) {
            // Who asked may have stopped waiting.
            let _ = told.send(());
        }
    }

    fn wake_pod(&mut self, key: &ObjectKey, report_anyway: bool, cx: &mut UnitContext<'_, Self>) {
        match self.pods.get(key) {
            Some(unit) if unit.connected() => {
                unit.lift_quarantine();
                unit.wake(PlanRules { report_anyway }, cx.cause().clone());
            }
            _ => self.start_pod(key, cx),
        }
    }

    fn start_pod(&mut self, key: &ObjectKey, cx: &mut UnitContext<'_, Self>) {
        let Some(table) = self.table.clone() else { return };
        let (view, family, own) = (self.view.clone(), self.options.family, key.clone());
        let (shut, told, known) = (key.clone(), table.clone(), view.clone());
        // Rules that cannot be planned must not leave the pod open, nor the others waiting.
        let policy = Policy::per_object(move |why| {
            tracing::error!(pod = %shut, why, "the rules of network policies cannot be planned, the pod is closed");
            let plan = known.pod(&shut).map(|pod| Arc::new(Packed::from(Contribution::of(closed(&pod, family)))));
            told.wake(SetRules { owner: PolicyOwner::Pod(shut.clone()), plan }, Cause::default());
        });
        let path = format!("{}/pods/{key}", NetworkPolicies::path(self.options.family));
        let unit = cx.system().spawn(path, policy, move |_| PodRules::new(own.clone(), view.clone(), family, table.clone()));
        self.pods.insert(key.clone(), unit);
    }

    fn end_pod(&mut self, key: &ObjectKey, cx: &mut UnitContext<'_, Self>) {
        let Some(unit) = self.pods.remove(key) else { return };
        cx.system().stop(unit.path());
        self.forget(PolicyOwner::Pod(key.clone()), cx);
    }

    fn forget(&self, owner: PolicyOwner, cx: &UnitContext<'_, Self>) {
        if let Some(table) = &self.table {
            table.wake(SetRules { owner, plan: None }, cx.cause().clone());
        }
    }

    fn start_peers(&mut self, key: PeersKey, set: PeerSet, cx: &mut UnitContext<'_, Self>) {
        let (Some(table), Some(index)) = (self.table.clone(), self.index.clone()) else { return };
        let inside = if matches!(set, PeerSet::Domain(_)) {
            let Some(inside) = self.follow_inside(cx) else { return };
            Some(inside)
        } else {
            None
        };
        let (family, id) = (self.options.family, key.1.clone());
        let policy = Policy::per_object(|why| tracing::error!(why, "the peers of network policies cannot be told"));
        let path = format!("{}/peers/{id}", NetworkPolicies::path(self.options.family));
        let unit = cx
            .system()
            .spawn(path, policy, move |_| PeerRules::new((key.clone(), set.clone()), index.clone(), family, inside.clone(), table.clone()));
        self.peers.insert(id, unit);
    }
}

impl Unit for PolicyRouter {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.start_table(cx);
        let known = self.hear_of_policies(cx);
        cx.spawn_then(known, |unit, (), cx| {
            if unit.view.has_policies() {
                return unit.follow(cx);
            }
            unit.phase = Phase::Idle;
            // What an earlier daemon left is of policies that are gone.
            unit.report_all(cx);
            unit.answer();
        });
    }

    fn observe(&self) -> Value {
        json!({
            "phase": format!("{:?}", self.phase),
            "policies": self.view.policies().len(),
            "clusterPolicies": self.view.cluster_policies().len(),
            "pods": self.pods.len(),
            "peers": self.peers.len(),
            "unable": self.options.unable,
        })
    }
}

impl On<PolicyTouched> for PolicyRouter {
    fn on(&mut self, policy: PolicyTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        match self.phase {
            Phase::Idle if self.view.has_policies() => self.follow(cx),
            Phase::Synced => {
                let pods = self.view.local_pods(&policy.key.namespace);
                let touched = self.weigh(&policy.key, &pods);
                let about = pods.into_iter().filter(|pod| policy.is_about(pod)).map(|pod| pod.key.clone());
                self.replan(about.collect(), touched, cx);
            }
            _ => {}
        }
        Reply::Now(())
    }
}

impl On<ClusterPolicyTouched> for PolicyRouter {
    fn on(&mut self, ClusterPolicyTouched(key): ClusterPolicyTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        match self.phase {
            Phase::Idle if self.view.has_policies() => self.follow(cx),
            Phase::Synced => {
                let touched = self.weigh_cluster_policy(&key);
                self.replan(self.keys_of_pods(""), touched, cx);
            }
            _ => {}
        }
        Reply::Now(())
    }
}

impl On<NamespaceTouched> for PolicyRouter {
    fn on(&mut self, NamespaceTouched(name): NamespaceTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if self.phase == Phase::Synced && self.view.has_cluster_policies() {
            let touched = self.weigh_cluster_policies();
            self.replan(self.keys_of_pods(&name), touched, cx);
        }
        Reply::Now(())
    }
}

impl On<PodTouched> for PolicyRouter {
    fn on(&mut self, PodTouched(key): PodTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if self.phase == Phase::Synced {
            self.pod_changed(&key, cx);
        }
        Reply::Now(())
    }
}

impl On<PeersTouched> for PolicyRouter {
    fn on(&mut self, PeersTouched((_, id)): PeersTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some(unit) = self.peers.get(&id) {
            unit.lift_quarantine();
            unit.wake(PlanRules { report_anyway: false }, cx.cause().clone());
        }
        Reply::Now(())
    }
}

impl On<TableStarted> for PolicyRouter {
    fn on(&mut self, _: TableStarted, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if matches!(self.phase, Phase::Idle | Phase::Synced) {
            self.report_all(cx);
        }
        Reply::Now(())
    }
}
