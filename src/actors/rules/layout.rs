//! What tells one table from another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Display},
    hash::Hash,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use troupe_net::{
    conntrack::{FlowDestination, StaleFlows},
    iptables::{ChainId, Family, Line, RuleSet, Table},
};

/// Where the UDP flows of an owner may go: destination → endpoints, with port 0 where all ports of an address count as one.
pub type UdpFlows = BTreeMap<FlowDestination, Arc<BTreeSet<SocketAddr>>>;

/// What one owner wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contribution {
    pub rules: Arc<RuleSet>,
    /// Tracked flows that follow the rules.
    pub udp: UdpFlows,
}

impl Contribution {
    /// Rules that no tracked flow depends on.
    pub fn of(rules: RuleSet) -> Self {
        Contribution { rules: Arc::new(rules), udp: UdpFlows::new() }
    }
}

/// The flows to forget when an owner goes from `old` to `new`: those to endpoints that left, and all to a destination
/// that had no endpoint before.
pub fn stale(old: &UdpFlows, new: &UdpFlows) -> Vec<StaleFlows> {
    let mut stale = Vec::new();
    for (destination, before) in old {
        let now = new.get(destination);
        let left = before.iter().filter(|ip| now.is_none_or(|now| !now.contains(ip)));
        stale.extend(left.map(|ip| StaleFlows { destination: *destination, endpoint: Some(*ip) }));
    }
    let had_none = |destination: &FlowDestination| old.get(destination).is_none_or(|ips| ips.is_empty());
    let gained = new.iter().filter(|(destination, now)| !now.is_empty() && had_none(destination));
    stale.extend(gained.map(|(destination, _)| StaleFlows { destination: *destination, endpoint: None }));
    stale
}

/// Something whose absence shows that somebody took rules away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    Chain(ChainId),
    Rule(ChainId, String),
}

/// How it is noticed that somebody took rules away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Cheap: whoever flushed the tables flushed these, too.
    Probes(Vec<Probe>),
    /// All that stands is read and compared.
    Whole,
}

/// What tells one table from another.
pub trait Layout: Send + Sync + 'static {
    type Owner: Clone + Debug + Display + Ord + Hash + Send + Sync + Unpin + 'static;

    /// What its rules are called in logs.
    const RULES: &'static str;
    /// What its owners are called in the table's status.
    const OWNERS: &'static str;
    /// The tables of the packet filter that it writes to.
    const TABLES: &'static [Table];
    /// Whether its rules refer to sets of addresses.
    const SETS: bool;
    /// How often it is checked that the chains still stand.
    const CHECK: Duration;
    /// How long owners known at the start may take to report before the others' rules go in, and theirs out; `None` waits for all.
    const PATIENCE: Option<Duration>;

    /// Whether a chain is this table's.
    fn is_ours(chain: &ChainId) -> bool;

    /// Whether a set is that of this table for a family: all families' sets have names in one space.
    fn is_our_set(_family: Family, _name: &str) -> bool {
        false
    }

    /// Where a dispatch chain is led to from; `None` for other chains. A dispatch chain stands while any owner has a line in it.
    fn dispatch(chain: &ChainId) -> Option<Line>;

    fn watch() -> Watch;

    /// So many owners' changes wait now that one more has come.
    fn queued(_family: Family, _waiting: usize) {}

    /// So many are left.
    fn taken(_family: Family, _left: usize) {}

    /// Rules were applied, or not, after `took`; all of them when `whole`.
    fn synced(_family: Family, _succeeded: bool, _whole: bool, _took: Duration) {}
}
