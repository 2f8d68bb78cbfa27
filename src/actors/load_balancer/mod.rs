//! The unit that announces addresses of load-balanced Services on this node's links: `load-balancer`.
//!
//! In: Services with an address that [`crate::controllers::service_lb`] gave them, their slices, and Nodes. Out: addresses on links,
//! through [`troupe_net::announce`]. One node announces an address; the service proxy does the rest. Where others could take an
//! address over it ends by itself unless this unit renews it: before they see that this node is lost.

mod elect;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use actix::Message;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};
use troupe_api::{
    load_balancing::{FINALIZER, assigned_here},
    meta::ObjectKey,
    projection::MetaProjection,
    stored::StoredObject,
};
use troupe_net::{
    announce::{Change, LinkAddresses, plan},
    netlink::NetlinkError,
};

use self::elect::Announcing;
use crate::{
    proxy::index::SliceIndex,
    runtime::{
        cache::{Digests, Lister, Subscription},
        envelope::Reply,
        host::{On, Unit, UnitAddr, UnitContext},
        system::System,
        unit::Policy,
    },
};

/// How often what is announced is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How long it stands without that.
const LIFETIME: Duration = Duration::from_secs(20);

/// What the unit works with.
#[derive(Clone)]
pub struct AnnouncerOptions {
    pub node_name: String,
    /// This node's address of each family that it has.
    pub node_ips: Vec<IpAddr>,
    pub services: Lister<Service>,
    pub slices: Lister<EndpointSlice>,
    pub nodes: Lister<Node>,
    pub links: Arc<dyn LinkAddresses>,
}

/// Whether a Service may have an address that is announced: it is kept until that is given back. Nothing is decoded for it.
fn is_held(service: &MetaProjection) -> bool {
    service.finalizers.iter().any(|held| **held == *FINALIZER)
}

/// Something changed that matters for who announces.
#[derive(Message)]
#[rtype(result = "()")]
struct Look;

/// See the module.
pub struct Announcer {
    options: AnnouncerOptions,
    announcing: Digests<Node, Announcing>,
    index: Option<Arc<SliceIndex>>,
    subscriptions: Option<(Subscription<Service>, Subscription<Node>)>,
    /// Nothing is withdrawn before all is known.
    synced: bool,
    busy: bool,
    again: bool,
    announced: Vec<IpAddr>,
    last: String,
}

impl Announcer {
    /// The unit's path.
    pub const PATH: &'static str = "load-balancer";

    /// Starts the unit. It waits by itself for its caches.
    pub fn start(options: AnnouncerOptions, system: &System) -> UnitAddr<Announcer> {
        system.spawn(Announcer::PATH, Policy::default(), move |_| Announcer::new(options.clone()))
    }

    fn new(options: AnnouncerOptions) -> Self {
        Announcer {
            announcing: options.nodes.digests(),
            options,
            index: None,
            subscriptions: None,
            synced: false,
            busy: false,
            again: false,
            announced: Vec::new(),
            last: "not looked yet".into(),
        }
    }

    /// The addresses that this node is to announce, and whether others could.
    fn wanted(&self) -> (Vec<IpAddr>, bool) {
        let nodes = self.options.nodes.select_stored("", |_| true);
        let may = |node: &&Arc<StoredObject>| self.announcing.of(node).is_some_and(|node| node.is_allowed);
        let ready: BTreeSet<String> = nodes.iter().filter(may).map(|node| node.key.name.to_string()).collect();
        let balanced = self.options.services.select("", is_held);
        let mut wanted = BTreeSet::new();
        for service in &balanced {
            let addresses = assigned_here(service);
            if addresses.is_empty() {
                continue;
            }
            let key = ObjectKey::new(service.metadata.namespace.as_deref().unwrap_or_default(), service.metadata.name.as_deref().unwrap_or_default());
            let slices = self.index.as_ref().map_or_else(Vec::new, |index| index.of(&key));
            let candidates = elect::candidates(service, &slices, &ready);
            wanted.extend(addresses.into_iter().filter(|address| elect::elect(*address, &candidates) == Some(self.options.node_name.as_str())));
        }
        (wanted.into_iter().collect(), nodes.len() > 1)
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy {
            self.again = true;
            return;
        }
        if !self.synced {
            return;
        }
        let (wanted, others) = self.wanted();
        self.busy = true;
        let (links, machine) = (self.options.links.clone(), self.options.node_ips.clone());
        let work = async move {
            let lifetime = others.then_some(LIFETIME);
            let changes = plan(&links.links().await?, &machine, &wanted);
            for change in &changes {
                links.apply(*change, lifetime).await?;
                match change {
                    Change::Add { address, .. } => tracing::info!(%address, "announcing the address of a Service"),
                    Change::Remove { address, .. } => tracing::info!(%address, "no longer announcing the address of a Service"),
                    Change::Renew { .. } => {}
                }
            }
            Ok(wanted)
        };
        cx.spawn_then(work, |unit, outcome, cx| unit.looked(outcome, cx));
    }

    fn looked(&mut self, outcome: Result<Vec<IpAddr>, NetlinkError>, cx: &mut UnitContext<'_, Self>) {
        self.busy = false;
        match outcome {
            Ok(announced) => {
                self.last = "all stands".into();
                self.announced = announced;
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, source, "addresses of Services are not announced as they should be, will retry");
                self.last = format!("{error}: {source}");
            }
        }
        if std::mem::take(&mut self.again) {
            self.look(cx);
        }
    }
}

impl Unit for Announcer {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (of_slices, of_services, of_nodes) = (cx.address(), cx.address(), cx.address());
        let services = self.options.services.clone();
        let index = SliceIndex::new(&self.options.slices, move |service, change| {
            if services.stored(&service).is_some_and(|stored| is_held(stored.meta())) {
                of_slices.wake(Look, change.cause.clone());
            }
        });
        let services = self.options.services.subscribe(move |change| {
            let held = change.meta_before().into_iter().chain(change.meta_after()).any(is_held);
            if held && change.versions().any(|service| !assigned_here(service).is_empty()) {
                of_services.wake(Look, change.cause.clone());
            }
        });
        let nodes = self.options.nodes.subscribe(move |change| {
            let may = |node: Option<&Arc<Node>>| node.is_some_and(|node| elect::may_announce(node));
            if may(change.before()) != may(change.after()) {
                of_nodes.wake(Look, change.cause.clone());
            }
        });
        let filled = (index.filled(), services.filled(), nodes.filled());
        self.index = Some(Arc::new(index));
        self.subscriptions = Some((services, nodes));
        let synced = async move {
            filled.0.await;
            filled.1.await;
            filled.2.await;
        };
        cx.spawn_then(synced, |unit, (), cx| {
            unit.synced = true;
            unit.look(cx);
        });
        cx.every(RENEW, Self::look);
    }

    fn observe(&self) -> Value {
        let announced: Vec<String> = self.announced.iter().map(ToString::to_string).collect();
        json!({"announced": announced, "last": self.last})
    }
}

impl On<Look> for Announcer {
    fn on(&mut self, _: Look, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.look(cx);
        Reply::Now(())
    }
}
