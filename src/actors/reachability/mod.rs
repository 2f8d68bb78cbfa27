//! The unit that finds out whether this node's pods reach those of other nodes: `reachability`.
//!
//! ```text
//! Nodes ──► peers (a sample) ──► Echo ──► Book (`book.rs`) ──► plan ──► NetworkUnavailable, Events
//! ```
//!
//! Twice in a heartbeat it asks the pods' bridges of up to [`MOST`] other nodes for an echo, from its own bridge's address: question and answer
//! take the ways of pods' packets, there and back. Which nodes it asks hangs on its own name, and stays while they stay; of thousands each
//! is asked by some.
//!
//! A node that is not Ready is not asked: what is dead is no matter of the network. One that is Ready and was not heard for twenty questions
//! (ten heartbeats; a node that dies is not Ready any more after five) counts as out of reach, and is told of in an event. Only when more than
//! half of those that are asked are out of reach, the fault is taken for this node's: `NetworkUnavailable` is True then, so that no pods are placed
//! here, and False when half of them are reached again. A node alone says nothing.

pub mod book;
#[cfg(test)]
mod kernel_tests;
pub mod peers;
pub mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use actix::Message;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference};
use serde_json::{Value, json};
use troupe_api::{
    meta::{ObjectKey, time::format_time},
    service::PatchType,
};
use troupe_api_client::Client;
use troupe_net::{
    echo::Echo,
    iptables::Family,
    overlay::{Routing, Via},
};

use self::{
    book::{Book, Round},
    peers::{Peer, Sight},
    plan::{Note, Verdict, condition, judge, note_of},
};
use crate::{
    overlay::{self, NodePlaces},
    runtime::{
        cache::{Digests, Lister, Subscription},
        envelope::Reply,
        events::EventRecorder,
        host::{On, Unit, UnitAddr, UnitContext},
        system::System,
        unit::Policy,
    },
};

/// So many other nodes are asked.
pub const MOST: usize = 16;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// The kernel's routes are looked at every so many rounds.
const LOOK: u32 = 12;

/// What the unit works with.
#[derive(Clone)]
pub struct ReachabilityOptions {
    pub node_name: Arc<str>,
    /// The families of pods' addresses, and who knows the ways of each.
    pub families: Vec<(Family, Arc<dyn Routing>)>,
    pub nodes: Lister<Node>,
    pub client: Client,
    pub events: EventRecorder,
    pub echo: Arc<dyn Echo>,
    /// How often nodes of this cluster say that they live.
    pub heartbeat: Duration,
    /// Whether the pod network is somebody else's, who says then whether it is available.
    pub is_foreign: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Nodes changed.
#[derive(Message)]
#[rtype(result = "()")]
struct Look;

/// What a round brought.
struct Found {
    round: Round,
    /// The ways to ranges of pods, where they were looked at.
    ways: Option<BTreeMap<IpNetwork, Via>>,
    trouble: Option<String>,
}

/// See the module.
pub struct Reachability {
    options: ReachabilityOptions,
    places: Digests<Node, NodePlaces>,
    subscription: Option<Subscription<Node>>,
    /// The nodes have changed since they were looked at.
    stale: bool,
    sight: Sight,
    book: Book,
    ways: BTreeMap<IpNetwork, Via>,
    rounds: u32,
    verdict: Verdict,
    trouble: Option<String>,
}

impl Reachability {
    /// The unit's path.
    pub const PATH: &'static str = "reachability";

    fn new(options: ReachabilityOptions) -> Self {
        Reachability {
            places: options.nodes.digests(),
            options,
            subscription: None,
            stale: true,
            sight: Sight::default(),
            book: Book::default(),
            ways: BTreeMap::new(),
            rounds: 0,
            verdict: Verdict::Undecided,
            trouble: None,
        }
    }

    /// Starts the unit. It waits by itself for the nodes to be known.
    pub fn start(options: ReachabilityOptions, system: &System) -> UnitAddr<Reachability> {
        system.spawn(Reachability::PATH, Policy::default(), move |_| Reachability::new(options.clone()))
    }

    /// Half a heartbeat, more or less, so that nodes do not ask all at once.
    fn rest(&self, cx: &mut UnitContext<'_, Self>) {
        let pause = self.options.heartbeat.mul_f64(0.4 + 0.2 * cx.system().jitter());
        cx.after(pause, Self::ask);
    }

    fn ask(&mut self, cx: &mut UnitContext<'_, Self>) {
        if (self.options.is_foreign)() {
            self.book = Book::default();
            self.verdict = Verdict::Undecided;
            self.trouble = Some("the pod network is somebody else's".into());
            return self.rest(cx);
        }
        if std::mem::take(&mut self.stale) {
            let families: Vec<Family> = self.options.families.iter().map(|(family, _)| *family).collect();
            let nodes = self.options.nodes.select_stored("", |_| true);
            let nodes: Vec<Arc<NodePlaces>> = nodes.iter().filter_map(|stored| self.places.of(stored)).collect();
            self.sight = peers::sight(&nodes, &self.options.node_name, &families, MOST);
            self.rounds = 0;
        }
        let looks = !self.sight.peers.is_empty() && self.rounds.is_multiple_of(LOOK);
        self.rounds = self.rounds.wrapping_add(1);
        let (echo, questions) = (self.options.echo.clone(), self.sight.questions());
        let families = self.options.families.clone();
        let work = async move {
            let mut found = answers(echo.as_ref(), questions).await;
            if looks {
                found.ways = ways(&families).await;
            }
            found
        };
        cx.spawn_then(work, |unit, found, cx| unit.asked(found, cx));
    }

    fn asked(&mut self, found: Found, cx: &mut UnitContext<'_, Self>) {
        self.trouble = found.trouble;
        self.ways = found.ways.unwrap_or_else(|| std::mem::take(&mut self.ways));
        let now = cx.system().clock().now();
        for change in self.book.note(&self.sight.peers, &found.round, now) {
            let via = self.ways.get(&change.peer.place.pods).copied();
            self.tell(note_of(&change, via));
        }
        self.verdict = judge(&self.book);
        let own = self.options.nodes.get(&ObjectKey::cluster(&*self.options.node_name)).map(|cached| cached.object);
        let before = own.iter().filter_map(|node| node.status.as_ref()).flat_map(|status| status.conditions.iter().flatten());
        let before = before.into_iter().find(|condition| condition.type_ == plan::NETWORK_UNAVAILABLE);
        // A node that is not registered yet has nowhere to say it.
        if let Some(condition) = condition(&self.verdict, before, now).filter(|_| own.is_some()) {
            self.write(condition, cx);
        }
        self.rest(cx);
    }

    fn write(&self, condition: NodeCondition, cx: &mut UnitContext<'_, Self>) {
        let (api, name) = (self.options.client.all::<Node>(), self.options.node_name.clone());
        let note = plan::note_of_condition(&condition, &name);
        let work = async move {
            let patch = json!({"status": {"conditions": [condition]}});
            api.patch(&name, "status", PatchType::StrategicMerge, &patch).await
        };
        cx.spawn_then(work, move |unit, written, _| match written {
            Ok(_) => unit.tell(note),
            // The next round sees that it is not there.
            Err(error) => tracing::warn!(%error, "whether the network is available is not written, will retry"),
        });
    }

    fn tell(&self, note: Note) {
        let name = self.options.node_name.to_string();
        // Upstream's kubelet puts the name in the place of the uid, and describe finds a node's events by it.
        let about = ObjectReference { kind: Some("Node".into()), name: Some(name.clone()), uid: Some(name), ..ObjectReference::default() };
        if note.warning {
            tracing::warn!(reason = note.reason, "{}", note.message);
            self.options.events.warning(&about, note.reason, note.message);
        } else {
            tracing::info!(reason = note.reason, "{}", note.message);
            self.options.events.normal(&about, note.reason, note.message);
        }
    }

    /// What is known of one way, for `troupe status`.
    fn shown(&self, peer: &Peer) -> Value {
        let track = self.book.of(peer);
        json!({
            "node": &*peer.name,
            "family": peer.family.name(),
            "via": self.ways.get(&peer.place.pods).map(|via| plan::backend(*via)),
            "rttMicros": track.and_then(|track| track.rtt).map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            "unreachableSince": track.and_then(|track| track.unreachable_since()).map(format_time),
        })
    }
}

/// Asks each family's peers; those of a family whom nobody can ask have no part in the round.
async fn answers(echo: &dyn Echo, questions: Vec<(IpAddr, Vec<IpAddr>)>) -> Found {
    let mut found = Found { round: Round::default(), ways: None, trouble: None };
    for (source, targets) in questions {
        match echo.ask(source, &targets, PATIENCE).await {
            Ok(answered) => {
                found.round.asked.extend(targets);
                found.round.answered.extend(answered);
            }
            // The bridge is not there yet, or raw sockets are not allowed: that says nothing of the others.
            Err(error) => found.trouble = Some(format!("nobody can be asked from {source}: {error}")),
        }
    }
    found
}

/// The ways of all families; `None` where the kernel does not tell.
async fn ways(families: &[(Family, Arc<dyn Routing>)]) -> Option<BTreeMap<IpNetwork, Via>> {
    let mut all = BTreeMap::new();
    for (_, routing) in families {
        match routing.observe().await {
            Ok(observed) => all.extend(observed.routes),
            Err(error) => {
                tracing::debug!(%error, "the ways to other nodes' pods are not known");
                return None;
            }
        }
    }
    Some(all)
}

impl Unit for Reachability {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let address = cx.address();
        let families: Vec<Family> = self.options.families.iter().map(|(family, _)| *family).collect();
        let subscription = self.options.nodes.subscribe(move |change| {
            let seen = |node: Option<&Arc<Node>>| node.map(|node| (overlay::is_ready(node), peers::places(node, &families)));
            if seen(change.before()) != seen(change.after()) {
                address.wake(Look, change.cause.clone());
            }
        });
        cx.spawn_then(subscription.filled(), |unit, (), cx| unit.rest(cx));
        self.subscription = Some(subscription);
    }

    fn observe(&self) -> Value {
        let mesh: Vec<Value> = self.sight.peers.iter().map(|peer| self.shown(peer)).collect();
        json!({
            "node": &*self.options.node_name,
            "otherNodes": self.sight.others,
            "verdict": self.verdict.to_string(),
            "mesh": mesh,
            "trouble": self.trouble,
        })
    }
}

impl On<Look> for Reachability {
    fn on(&mut self, _: Look, _: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.stale = true;
        Reply::Now(())
    }
}
