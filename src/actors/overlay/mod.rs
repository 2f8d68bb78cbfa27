//! The unit that keeps this node's way to the pods of other nodes: `overlay`.
//!
//! In: Node objects. Out: steps on the kernel's routes, through [`troupe_net::overlay`]. The kernel is looked at again now
//! and then, because links come and go without telling, and others touch routes.

mod places;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use actix::Message;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use troupe_net::{
    iptables::Family,
    netlink::NetlinkError,
    overlay::{Place, Routing, plan},
};

use self::places::places;
pub use self::places::{NodePlaces, is_ready, place};
use crate::runtime::{
    cache::{Digests, Lister, Subscription},
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    system::System,
    unit::Policy,
};

/// How often the kernel is looked at although nothing changed.
const CHECK: Duration = Duration::from_secs(15);

/// What the unit works with.
#[derive(Clone)]
pub struct OverlayOptions {
    pub node_name: Arc<str>,
    pub family: Family,
    pub nodes: Lister<Node>,
    pub routing: Arc<dyn Routing>,
}

/// Nodes changed, or it is time to look.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look;

/// See the module.
pub struct Overlay {
    options: OverlayOptions,
    places: Digests<Node, NodePlaces>,
    subscription: Option<Subscription<Node>>,
    busy: bool,
    again: bool,
    peers: usize,
    last: String,
}

impl Overlay {
    /// The unit's path.
    pub const PATH: &'static str = "overlay";
    const PATH_IPV6: &'static str = "overlay-ipv6";

    fn path(family: Family) -> &'static str {
        match family {
            Family::V4 => Overlay::PATH,
            Family::V6 => Overlay::PATH_IPV6,
        }
    }

    fn new(options: OverlayOptions) -> Self {
        Overlay { places: options.nodes.digests(), options, subscription: None, busy: false, again: false, peers: 0, last: "not looked yet".into() }
    }

    /// Starts the unit. It waits by itself for the nodes to be known.
    pub fn start(options: OverlayOptions, system: &System) -> UnitAddr<Overlay> {
        system.spawn(Overlay::path(options.family), Policy::default(), move |_| Overlay::new(options.clone()))
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy {
            self.again = true;
            return;
        }
        if !self.options.nodes.is_synced() {
            return;
        }
        self.busy = true;
        let (options, known) = (self.options.clone(), self.places.clone());
        let work = async move {
            let nodes = known.read(&options.nodes.select_stored("", |_| true)).await;
            let (me, others) = places(&nodes, &options.node_name, options.family);
            let taken = match me {
                Some(me) => take_steps(me, &others, &*options.routing).await.map(Some),
                None => Ok(None),
            };
            (others.len(), taken)
        };
        cx.spawn_then(work, |unit, (peers, taken), cx| {
            unit.peers = peers;
            unit.looked(&taken, cx);
        });
    }

    /// `taken` is how many steps were; `None` where this node has no place.
    fn looked(&mut self, taken: &Result<Option<usize>, NetlinkError>, cx: &mut UnitContext<'_, Self>) {
        self.busy = false;
        match taken {
            Ok(None) => self.last = "this node has no address or no pod range yet".into(),
            Ok(Some(0)) => self.last = "all routes stand".into(),
            Ok(Some(count)) => self.last = format!("{count} steps taken"),
            Err(error) => {
                let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, source, "the way to other nodes is not right, will retry");
                self.last = format!("{error}: {source}");
                cx.after(Duration::from_secs(2), Self::look);
            }
        }
        if std::mem::take(&mut self.again) {
            self.look(cx);
        }
    }
}

/// Brings the kernel's routes to what they should be; gives in how many steps.
async fn take_steps(me: Place, others: &[Place], routing: &dyn Routing) -> Result<usize, NetlinkError> {
    let steps = plan(me, others, &routing.observe().await?);
    for step in &steps {
        routing.apply(step).await?;
        tracing::info!(?step, "way to other nodes changed");
    }
    Ok(steps.len())
}

impl Unit for Overlay {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (address, family) = (cx.address(), self.options.family);
        let subscription = self.options.nodes.subscribe(move |change| {
            let address_or_range = |node: Option<&Arc<Node>>| node.and_then(|node| places::place(node, family));
            if address_or_range(change.before()) != address_or_range(change.after()) {
                address.wake(Look, change.cause.clone());
            }
        });
        cx.spawn_then(subscription.filled(), |unit, (), cx| unit.look(cx));
        self.subscription = Some(subscription);
        cx.every(CHECK, Self::look);
    }

    fn observe(&self) -> Value {
        json!({"family": self.options.family.name(), "otherNodes": self.peers, "last": self.last})
    }
}

impl On<Look> for Overlay {
    fn on(&mut self, _: Look, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.look(cx);
        Reply::Now(())
    }
}
