//! The rules of network policies in a rule table.
//!
//! They are in the mangle table: that of filters is shared with others, whose rules (the service proxy's for marked packets, a machine's own
//! firewall) accept packets for good, and may come to stand before ours at any time. Forwarded packets come by here first, with the address
//! and port that a Service was translated to. What a pod sends its own node is not forwarded: of that, administrators' rules alone decide.

use std::{fmt, sync::Arc, time::Duration};

use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{ChainId, End, Family, Line, RuleSet, Table};

use super::names::{self, EGRESS, INGRESS, INPUT, NODE, POLICY};
use crate::rules::{Layout, RuleTable, layout::Watch};

/// The table of the packet filter.
pub const TABLE: Table = Table::Mangle;

/// Whose rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyOwner {
    /// What a pod of this node may send and be sent.
    Pod(ObjectKey),
    /// A set of addresses that such rules refer to, by its id.
    Peers(Arc<str>),
}

impl fmt::Display for PolicyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyOwner::Pod(key) => write!(f, "pod {key}"),
            PolicyOwner::Peers(id) => write!(f, "peers {id}"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct PolicyLayout;

/// The table of policies.
pub type PolicyTable = RuleTable<PolicyLayout>;

impl Layout for PolicyLayout {
    type Owner = PolicyOwner;

    const RULES: &'static str = "rules of network policies";
    const OWNERS: &'static str = "owners";
    const TABLES: &'static [Table] = &[TABLE];
    const SETS: bool = true;
    const CHECK: Duration = Duration::from_secs(10);
    // A pod whose unit has not reported keeps the rules it has.
    const PATIENCE: Option<Duration> = None;

    fn is_ours(chain: &ChainId) -> bool {
        chain.table == TABLE && names::is_ours(&chain.name)
    }

    fn is_our_set(family: Family, name: &str) -> bool {
        names::is_our_set(family, name)
    }

    fn dispatch(chain: &ChainId) -> Option<Line> {
        let (parent, end, range) = names::dispatched(&chain.name)?;
        let from = ChainId::new(chain.table, parent);
        Some(Line { chain: from, rule: format!("{end} {range} -j {}", chain.name), end: End::Head })
    }

    // One chain missing in the middle would open a pod.
    fn watch() -> Watch {
        Watch::Whole
    }
}

/// What links of IPv6 live on, which no policy is about: who is in which group, where a router is, who has an address (RFC 4861, RFC 2710, RFC
/// 3810). Packets between two pods of one bridge come by here, too.
const LINK_MESSAGES: [u8; 7] = [130, 131, 132, 133, 135, 136, 143];

/// The chains that stand whether there are policies or not.
pub fn base(family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    rules.share(TABLE, EGRESS);
    rules.share(TABLE, INGRESS);
    rules.share(TABLE, NODE);
    for chain in [POLICY, INPUT] {
        for kind in LINK_MESSAGES.into_iter().filter(|_| family == Family::V6) {
            rules.push(TABLE, chain, format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"));
        }
        // Replies pass: connections are judged when they begin.
        rules.push(TABLE, chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
    }
    rules.push(TABLE, POLICY, format!("-j {EGRESS}"));
    rules.push(TABLE, POLICY, format!("-j {INGRESS}"));
    rules.push(TABLE, INPUT, format!("-j {NODE}"));
    for (hook, chain) in [("FORWARD", POLICY), ("INPUT", INPUT)] {
        rules.line(TABLE, hook, End::Head, format!("-m comment --comment \"troupe network policies\" -j {chain}"));
    }
    rules
}
