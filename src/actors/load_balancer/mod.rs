//! The unit that announces addresses of load-balanced Services on this node's links: `load-balancer`.
//!
//! In: Services with an address that [`crate::controllers::service_lb`] gave them, their slices, and Nodes. Out: addresses on links,
//! through [`troupe_net::announce`]. One node announces an address; the service proxy does the rest. Where others could take an
//! address over it ends by itself unless this unit renews it: before they see that this node is lost.
//!
//! Before an address is announced its link is asked who has it. One that a stranger answers for, who is no node of the cluster, is left to that:
//! an event of the Service says so, and this Node object, by which the controller knows that the address is nobody's to give. It is asked for
//! again now and then, until nobody answers. What one node says of an address the others look at, too: it is passed over where another one could
//! announce it, and no address is kept from Services for long by one node's word ([`crate::controllers::service_lb`]).

mod elect;
#[cfg(test)]
mod kernel_tests;
mod strangers;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use actix::Message;
use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};
use troupe_api::{
    load_balancing::{ANSWERED_BY_OTHERS, FINALIZER, answered_by_others, assigned_here, may_announce},
    meta::{Clock, ObjectKey},
    projection::MetaProjection,
    service::PatchType,
};
use troupe_api_client::Client;
use troupe_net::{
    announce::{Change, LinkAddresses, LinkView, place, plan},
    netlink::NetlinkError,
};

use self::{elect::Announcing, strangers::Strangers};
use crate::{
    proxy::index::SliceIndex,
    runtime::{
        cache::{Digests, Lister, Subscription},
        controller::ReconcileContext,
        envelope::Reply,
        events::EventRecorder,
        host::{On, Unit, UnitAddr, UnitContext},
        system::System,
        unit::Policy,
    },
};

/// How often what is announced is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How long it stands without that.
const LIFETIME: Duration = Duration::from_secs(20);
/// Longer than what a machine announces stands after it has left the cluster: it is a stranger then, and no Service must lose its address for that.
pub const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// Addresses about which links are asked at the same time.
const AT_ONCE: usize = 32;
/// Of those that other nodes name.
const CHECKED_AT_ONCE: usize = 8;

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
    /// Writes to this Node.
    pub client: Client,
    pub events: EventRecorder,
    /// For how long somebody else has to answer for an address before the Node tells so, see [`TOLD_AFTER`].
    pub told_after: SignedDuration,
    /// Whether it is asked who has an address before that is announced.
    pub asks: bool,
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
    /// Who else answers for addresses, by these; `None` until it is known what an earlier daemon heard.
    strangers: Option<Strangers>,
    last: String,
}

/// What a look comes from.
struct Wanted {
    /// The Services whose addresses this node is to announce, by these.
    addresses: BTreeMap<IpAddr, Arc<Service>>,
    /// The addresses of the other nodes.
    ours: Vec<IpAddr>,
    /// Those of Services that other nodes say strangers answer for.
    named: BTreeSet<IpAddr>,
    /// Others could announce them.
    others: bool,
}

/// What a look did.
struct Looked {
    announced: Vec<IpAddr>,
    strangers: Strangers,
    /// More addresses are to be announced than were looked at, and some of these need no other look.
    more: bool,
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
            strangers: None,
            last: "not looked yet".into(),
        }
    }

    /// What this node is to announce.
    fn wanted(&self) -> Wanted {
        let nodes = self.options.nodes.select_stored("", |_| true);
        let known: Vec<_> = nodes.iter().filter_map(|node| Some((node, self.announcing.of(node)?))).collect();
        let ready: BTreeSet<String> = known.iter().filter(|(_, digest)| digest.is_allowed).map(|(node, _)| node.key.name.to_string()).collect();
        let says: BTreeMap<&str, &BTreeSet<IpAddr>> = known.iter().map(|(node, digest)| (&*node.key.name, &digest.answered)).collect();
        let others: Vec<_> = known.iter().filter(|(node, _)| *node.key.name != *self.options.node_name).collect();
        let ours = others.iter().flat_map(|(_, digest)| digest.ips.iter().copied()).collect();
        let mut named: BTreeSet<IpAddr> = BTreeSet::new();
        if ready.contains(&self.options.node_name) {
            named.extend(others.iter().filter(|(_, digest)| digest.is_allowed).flat_map(|(_, digest)| digest.answered.iter()));
        }
        let balanced = self.options.services.select("", is_held);
        let mut wanted = BTreeMap::new();
        for service in &balanced {
            let addresses = assigned_here(service);
            if addresses.is_empty() {
                continue;
            }
            let key = ObjectKey::new(service.metadata.namespace.as_deref().unwrap_or_default(), service.metadata.name.as_deref().unwrap_or_default());
            let slices = self.index.as_ref().map_or_else(Vec::new, |index| index.of(&key));
            let candidates = elect::candidates(service, &slices, &ready);
            let elected = |address: IpAddr| {
                let says = |node: &str| says.get(node).is_some_and(|answered| answered.contains(&address));
                elect::elect(address, &elect::willing(&candidates, says))
            };
            let own = addresses.into_iter().filter(|address| elected(*address) == Some(self.options.node_name.as_str()));
            wanted.extend(own.map(|address| (address, service.clone())));
        }
        // About those it is asked anyway, or nobody else can answer for them.
        named.retain(|address| !wanted.contains_key(address) && !self.announced.contains(address));
        Wanted { addresses: wanted, ours, named, others: nodes.len() > 1 }
    }

    /// What is known of strangers, at first from an earlier daemon.
    fn strangers(&self) -> Strangers {
        self.strangers.clone().unwrap_or_else(|| {
            let node = self.options.nodes.get(&ObjectKey::cluster(self.options.node_name.as_str()));
            Strangers::known(node.map(|node| answered_by_others(&node.object)).unwrap_or_default())
        })
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy {
            self.again = true;
            return;
        }
        if !self.synced {
            return;
        }
        let (wanted, strangers) = (self.wanted(), self.strangers());
        self.busy = true;
        let work = look(self.options.clone(), wanted, strangers, cx.system().clock().clone());
        cx.spawn_then(work, |unit, outcome, cx| unit.looked(outcome, cx));
    }

    fn looked(&mut self, outcome: Result<Looked, NetlinkError>, cx: &mut UnitContext<'_, Self>) {
        self.busy = false;
        match outcome {
            Ok(looked) => {
                self.last = "all stands".into();
                self.announced = looked.announced;
                self.strangers = Some(looked.strangers);
                self.again |= looked.more;
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

/// Announces what is wanted and nobody else answers for, and tells of the rest.
async fn look(options: AnnouncerOptions, wanted: Wanted, mut strangers: Strangers, clock: Arc<dyn Clock>) -> Result<Looked, NetlinkError> {
    let (links, lifetime) = (&options.links, wanted.others.then_some(LIFETIME));
    let (views, addresses) = (links.links().await?, wanted.addresses.keys().copied().collect::<Vec<_>>());
    let (mut new, others): (Vec<Change>, Vec<Change>) =
        plan(&views, &options.node_ips, &addresses).into_iter().partition(|change| matches!(change, Change::Add { .. }));
    // What stands is renewed before anybody is waited for.
    for change in others {
        links.apply(change, lifetime).await?;
        if let Change::Remove { address, .. } = change {
            tracing::info!(%address, "no longer announcing the address of a Service");
        }
    }
    new.sort_by_key(|change| strangers.has(change.address()));
    let more = new.iter().filter(|change| !strangers.has(change.address())).count() > AT_ONCE;
    let mut missing: BTreeSet<IpAddr> = new.iter().map(|change| change.address()).collect();
    new.truncate(AT_ONCE);
    let asked = new.iter().map(|change| stranger(&options, change.link(), change.address(), &wanted.ours));
    let mut settled = false;
    for (change, stranger) in new.iter().zip(join_all(asked).await) {
        let address = change.address();
        match stranger {
            None => {
                links.apply(*change, lifetime).await?;
                strangers.silent(address, clock.now());
                missing.remove(&address);
                settled = true;
                tracing::info!(%address, "announcing the address of a Service");
            }
            Some(hardware) if strangers.heard(address, (change.link(), hardware.clone()), clock.now()) => {
                tell_stranger(&options, &wanted, address, &hardware);
                settled = true;
            }
            Some(_) => {}
        }
    }
    ask_again(&options, &wanted, &views, &mut strangers, &*clock).await;
    for ((link, hardware), count) in strangers.answering_for_many() {
        tell_link(&options, &views, link, &hardware, count);
    }
    if let Some(lasting) = strangers.untold(options.told_after) {
        let text = (!lasting.is_empty()).then(|| strangers::text(&lasting));
        let patch = json!({"metadata": {"annotations": {ANSWERED_BY_OTHERS: text}}});
        match options.client.all::<Node>().patch(&options.node_name, "", PatchType::Merge, &patch).await {
            Ok(_) => strangers.told(lasting),
            Err(status) => tracing::warn!(%status, "the node cannot tell who else answers for addresses, will retry"),
        }
    }
    let announced = addresses.into_iter().filter(|address| !missing.contains(address)).collect();
    Ok(Looked { announced, strangers, more: more && settled })
}

/// Who else answers for an address, where that is asked.
async fn stranger(options: &AnnouncerOptions, link: u32, address: IpAddr, ours: &[IpAddr]) -> Option<String> {
    if options.asks { options.links.stranger(link, address, ours).await } else { None }
}

/// Says that a machine answers for whatever is asked for on a link, as routers with proxy ARP do.
fn tell_link(options: &AnnouncerOptions, views: &[LinkView], link: u32, hardware: &str, count: usize) {
    let link = views.iter().find(|view| view.index == link).map_or_else(|| link.to_string(), |view| view.name.clone());
    let message = format!(
        "On the link {link} one machine ({hardware}) answers for {count} addresses of Services, which are not announced there. If it is a router \
         with proxy ARP, start the nodes with --load-balancer-conflict-detection=false: they announce without asking then"
    );
    tracing::warn!(link, hardware, count, "{message}");
    if let Some(node) = options.nodes.get(&ObjectKey::cluster(options.node_name.as_str())) {
        options.events.warning(&ReconcileContext::reference(&*node.object), "LoadBalancerLinkAnswersForAll", message);
    }
}

/// Says that an address is somebody else's.
fn tell_stranger(options: &AnnouncerOptions, wanted: &Wanted, address: IpAddr, hardware: &str) {
    tracing::warn!(%address, hardware, "another machine answers for the address of a Service, it is not announced");
    if let Some(service) = wanted.addresses.get(&address) {
        let message = format!("The address {address} is not announced: another machine ({hardware}) on the link answers for it");
        options.events.warning(&ReconcileContext::reference(&**service), "LoadBalancerAddressInUse", message);
    }
}

/// Looks whether strangers still answer, of those that were heard long ago, and whether they do whom other nodes heard.
async fn ask_again(options: &AnnouncerOptions, wanted: &Wanted, views: &[LinkView], strangers: &mut Strangers, clock: &dyn Clock) {
    let again = strangers.due(clock.now()).into_iter().take(AT_ONCE);
    let due: Vec<IpAddr> = again.chain(strangers.unchecked(&wanted.named, clock.now()).into_iter().take(CHECKED_AT_ONCE)).collect();
    let asked = due.iter().map(|address| {
        let link = place(views, &options.node_ips, *address);
        async move { Some((link?, stranger(options, link?, *address, &wanted.ours).await?)) }
    });
    let answers = join_all(asked).await;
    for (address, answer) in due.into_iter().zip(answers) {
        match answer {
            Some(machine) => {
                strangers.heard(address, machine, clock.now());
            }
            None => strangers.silent(address, clock.now()),
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
            let may = |node: Option<&Arc<Node>>| node.is_some_and(|node| may_announce(node));
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
        json!({"announced": announced, "answeredByOthers": self.strangers.as_ref().map(Strangers::text), "last": self.last})
    }
}

impl On<Look> for Announcer {
    fn on(&mut self, _: Look, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.look(cx);
        Reply::Now(())
    }
}
