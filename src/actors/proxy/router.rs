//! Leads changes of Services and slices to the unit of the Service they concern, those of the node's zone to all, and keeps one unit per Service.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use actix::Message;
use arc_swap::ArcSwap;
use ipnetwork::IpNetwork;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    networking::v1::ServiceCIDR,
};
use serde_json::{Value, json};
use troupe_api::meta::{Cause, ObjectKey};
use troupe_net::iptables::Family;

use super::{
    Proxy, ProxyOptions, base,
    claims::Claims,
    index::SliceIndex,
    layout::ServiceTable,
    plan::NodeView,
    ranges,
    service_rules::{Means, PlanRules, ServiceRules},
    zone_of,
};
use crate::rules::{AwaitOwners, Packed, RuleTable, SetRules, TableOptions};
use crate::runtime::{
    cache::Subscription,
    controller::ReconcileContext,
    envelope::Reply,
    events,
    host::{On, Unit, UnitAddr, UnitContext, WeakUnitAddr},
    unit::Policy,
};

/// A Service or one of its slices changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ServiceTouched(pub ObjectKey);

/// The rule table (re)started and knows nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TableStarted;

/// The range of Services' addresses changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RangeTouched;

/// The zone of this node changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ZoneTouched;

/// The proxy's root unit.
pub struct ServiceRouter {
    options: ProxyOptions,
    family: Family,
    /// Replaced when its zone changes.
    node: Arc<ArcSwap<NodeView>>,
    units: HashMap<ObjectKey, WeakUnitAddr<ServiceRules>>,
    table: Option<UnitAddr<ServiceTable>>,
    /// What all units share: there are as many of them as Services.
    means: Option<Arc<Means>>,
    policy: Option<Arc<Policy>>,
    subscription: Option<Subscription<Service>>,
    ranges: Option<Subscription<ServiceCIDR>>,
    nodes: Option<Subscription<Node>>,
    synced: bool,
}

impl ServiceRouter {
    /// For the Services' addresses of the family of one of the cluster's ranges.
    pub fn new(options: ProxyOptions, cluster_range: IpNetwork) -> Self {
        let node = options.node_view(cluster_range);
        ServiceRouter {
            options,
            family: node.family(),
            node: Arc::new(ArcSwap::from_pointee(node)),
            units: HashMap::new(),
            table: None,
            means: None,
            policy: None,
            subscription: None,
            ranges: None,
            nodes: None,
            synced: false,
        }
    }

    /// Makes every unit report to a table that knows nothing, and tells the table whom to wait for.
    fn report_all(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(table) = &self.table else { return };
        let keys: HashSet<ObjectKey> = self.options.services.keys().into_iter().collect();
        let owners = keys.iter().cloned().chain([ranges::owner()]).collect();
        table.wake(AwaitOwners(owners), cx.cause().clone());
        self.report_range(cx);
        for key in keys {
            match self.unit(&key) {
                Some(unit) => unit.wake(PlanRules { report_anyway: true }, cx.cause().clone()),
                None => self.start_unit(key, cx),
            }
        }
    }

    fn report_range(&self, cx: &UnitContext<'_, Self>) {
        let Some(table) = &self.table else { return };
        let in_force = ranges::in_force(&self.options.ranges.list(""), Some(self.node.load().cluster_range));
        let plan = Some(Arc::new(Packed::from(ranges::plan(&in_force, self.family))));
        table.wake(SetRules { owner: ranges::owner(), plan }, cx.cause().clone());
    }

    /// Takes the node's zone over as it is now; `true` when it was another one.
    fn take_zone(&self) -> bool {
        let (known, zone) = (self.node.load_full(), self.options.zone());
        let changed = known.location.zone != zone;
        if changed {
            tracing::info!(family = self.family.name(), %zone, "the node's zone changed");
            self.node.store(Arc::new(known.in_zone(zone)));
        }
        changed
    }

    /// The living unit of a Service.
    fn unit(&self, key: &ObjectKey) -> Option<UnitAddr<ServiceRules>> {
        self.units.get(key).and_then(WeakUnitAddr::upgrade)
    }

    fn start_unit(&mut self, key: ObjectKey, cx: &mut UnitContext<'_, Self>) {
        let (Some(means), Some(policy)) = (self.means.clone(), self.policy.clone()) else { return };
        let (path, own) = (format!("{}{key}", units(self.family)), key.clone());
        let unit = cx.system().spawn(path, policy, move |_| ServiceRules::new(own.clone(), means.clone()));
        self.units.insert(key, unit.downgrade());
    }

    fn end_unit(&mut self, key: &ObjectKey, cx: &mut UnitContext<'_, Self>) {
        let Some(unit) = self.units.remove(key) else { return };
        cx.system().stop(unit.path());
        let waiting = self.means.as_ref().map(|means| means.claims.set(key, None)).unwrap_or_default();
        for other in waiting {
            cx.address().wake(ServiceTouched(other), cx.cause().clone());
        }
        if let Some(table) = &self.table {
            table.wake(SetRules { owner: key.clone(), plan: None }, cx.cause().clone());
        }
    }
}

/// What the paths of Services' units begin with; behind it are their namespaces and names.
fn units(family: Family) -> String {
    format!("{}/services/", Proxy::path(family))
}

/// The Service of a unit's path.
fn service_of(path: &str, family: Family) -> Option<ObjectKey> {
    let (namespace, name) = path.strip_prefix(units(family).as_str())?.split_once('/')?;
    Some(ObjectKey::new(namespace, name))
}

/// A Service that its unit fails on again and again keeps its last rules, and must not take the others along.
fn policy(means: &Arc<Means>) -> Policy {
    let (means, family) = (means.clone(), means.node.load().family());
    Policy::per_object_at(move |path, why| {
        let service = service_of(path, family).and_then(|key| means.services.get_once(&key));
        if let (Some(recorder), Some(service)) = (&means.events, service) {
            let about = ReconcileContext::reference(&*service);
            recorder.warning(&about, events::QUARANTINED, events::quarantine_message("the service proxy", why));
        }
    })
}

impl Unit for ServiceRouter {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let router = cx.address();
        let asker = router.clone();
        let tell_started: Arc<dyn Fn() + Send + Sync> = Arc::new(move || asker.wake(TableStarted, by_itself()));
        let options = TableOptions {
            iptables: (self.options.iptables)(self.family),
            sets: None,
            conntrack: Some(self.options.conntrack.clone()),
            base: base::rules(self.options.localhost_node_ports, self.family),
            family: self.family,
            tell_started,
        };
        let path = format!("{}/rule-table", Proxy::path(self.family));
        let table = cx.system().spawn(path, Policy::default(), move |_| RuleTable::new(options.clone()));
        self.table = Some(table.clone());
        let slice_router = router.clone();
        let index = SliceIndex::new(&self.options.slices, move |service, change| slice_router.wake(ServiceTouched(service), change.cause.clone()));
        let slices = index.filled();
        let (services, events) = (self.options.services.clone(), self.options.events.clone());
        let waker = router.downgrade();
        let touch = Box::new(move |service: ObjectKey, cause: &Cause| {
            if let Some(router) = waker.upgrade() {
                router.wake(ServiceTouched(service), cause.clone());
            }
        });
        let (node, claims) = (self.node.clone(), Claims::default());
        let means = Arc::new(Means { services, slices: Arc::new(index), node, table, claims, touch, events });
        self.policy = Some(Arc::new(policy(&means)));
        self.means = Some(means);
        let subscription = self.options.services.subscribe(move |change| router.wake(ServiceTouched(change.key.clone()), change.cause.clone()));
        let services = subscription.filled();
        self.subscription = Some(subscription);
        let router = cx.address();
        let ranges = self.options.ranges.subscribe(move |change| router.wake(RangeTouched, change.cause.clone()));
        let known = ranges.filled();
        self.ranges = Some(ranges);
        let (router, own) = (cx.address(), self.options.node_key());
        let nodes = self.options.nodes.subscribe(move |change| {
            if change.key == own && change.meta_before().map(zone_of) != change.meta_after().map(zone_of) {
                router.wake(ZoneTouched, change.cause.clone());
            }
        });
        let located = nodes.filled();
        self.nodes = Some(nodes);
        let synced = async move {
            services.await;
            slices.await;
            known.await;
            located.await;
        };
        cx.spawn_then(synced, |unit, (), cx| {
            unit.synced = true;
            unit.take_zone();
            unit.report_all(cx);
        });
    }

    fn observe(&self) -> Value {
        json!({"family": self.family.name(), "zone": self.node.load().location.zone, "synced": self.synced, "services": self.units.len()})
    }
}

impl On<ServiceTouched> for ServiceRouter {
    fn on(&mut self, ServiceTouched(key): ServiceTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if !self.synced {
            return Reply::Now(());
        }
        let exists = self.options.services.contains(&key);
        match self.unit(&key) {
            Some(unit) if exists => {
                unit.lift_quarantine();
                unit.wake(PlanRules { report_anyway: false }, cx.cause().clone());
            }
            None if exists => self.start_unit(key, cx),
            _ => self.end_unit(&key, cx),
        }
        Reply::Now(())
    }
}

impl On<RangeTouched> for ServiceRouter {
    fn on(&mut self, _: RangeTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if self.synced {
            self.report_range(cx);
        }
        Reply::Now(())
    }
}

impl On<ZoneTouched> for ServiceRouter {
    fn on(&mut self, _: ZoneTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if self.synced && self.take_zone() {
            for unit in self.units.values().filter_map(WeakUnitAddr::upgrade) {
                unit.wake(PlanRules { report_anyway: false }, cx.cause().clone());
            }
        }
        Reply::Now(())
    }
}

impl On<TableStarted> for ServiceRouter {
    fn on(&mut self, _: TableStarted, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if self.synced {
            self.report_all(cx);
        }
        Reply::Now(())
    }
}

/// The cause of work nobody asked for.
fn by_itself() -> Cause {
    Cause::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_units_path_is_known() {
        for family in Family::ALL {
            let key = ObjectKey::new("ns", "web");
            assert_eq!(service_of(&format!("{}{key}", units(family)), family), Some(key));
        }
        assert_eq!(service_of("proxy/rule-table", Family::V4), None);
    }
}
