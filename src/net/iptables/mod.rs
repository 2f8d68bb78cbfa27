//! The packet filter's seam: whole transactions in, the kernel's state out.
//!
//! [`Iptables`] (rules) and [`IpSets`] (sets of addresses that rules match) are implemented by [`HostIptables`] (the machine's
//! `iptables-restore`, `iptables-save` and `ipset`) and by [`FakeIptables`] (memory, with the same failure rules). [`RuleSet`], [`Patch`] and [`Observed`] are the pure
//! vocabulary: what should stand, how to get there, what does stand.

mod changes;
mod diff;
mod fake;
mod host;
mod line;
mod looks;
mod patch;
mod ruleset;
mod saved;
mod set_steps;
mod sets;
mod turns;

use async_trait::async_trait;

pub use fake::FakeIptables;
pub use host::HostIptables;
pub use line::{ChainId, End, Line};
pub use looks::Looks;
pub use patch::Patch;
pub use ruleset::RuleSet;
pub use saved::Observed;
pub use sets::{Member, SetKind, net_entries, port_entry};

/// The family of addresses that rules are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    #[default]
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(ip: std::net::IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Whether an address is of this family.
    pub fn has(self, ip: std::net::IpAddr) -> bool {
        Family::of(ip) == self
    }

    /// As Kubernetes calls it.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The family of that name.
    pub fn named(name: &str) -> Option<Self> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }

    /// As `ipset` calls it.
    pub fn set_name(self) -> &'static str {
        match self {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        }
    }

    /// The prefix of one address.
    pub fn host_prefix(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// The tables we write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Filter,
    Nat,
    Mangle,
    /// Before connections are known.
    Raw,
}

impl Table {
    pub const ALL: [Table; 4] = [Table::Filter, Table::Nat, Table::Mangle, Table::Raw];

    pub fn name(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
            Table::Mangle => "mangle",
            Table::Raw => "raw",
        }
    }
}

/// Why a step on the packet filter failed.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    #[error("{program} could not be started")]
    Start { program: &'static str, source: std::io::Error },
    #[error("{program} failed: {stderr}")]
    Failed { program: &'static str, stderr: String },
    #[error("the network namespace {path} could not be entered")]
    Namespace { path: String, source: std::io::Error },
    #[error("the packet filter worker ended early")]
    Worker,
}

/// What may be done to sets of addresses. Every call is one process (or one step on the fake).
#[async_trait]
pub trait IpSets: Send + Sync + 'static {
    /// Takes lines of `ipset restore`. What is there already, or gone already, is no failure. Lines before a bad one stay done.
    async fn restore_sets(&self, text: String) -> Result<(), IptablesError>;

    /// All sets with their entries, in `ipset save`'s form.
    async fn save_sets(&self) -> Result<String, IptablesError>;

    /// One set with its entries, in `ipset save`'s form; `None` where there is none of that name.
    async fn save_set(&self, name: &str) -> Result<Option<String>, IptablesError>;

    /// Removes sets that no rule refers to any more.
    async fn destroy_sets(&self, names: Vec<String>) -> Result<(), IptablesError>;

    /// A number that is another one once a set was changed, or one of all sets where none is named; much cheaper than to read them. `None` where
    /// there is no such set, or it cannot be told.
    async fn fingerprint(&self, set: Option<&str>) -> Option<u64>;
}

/// Whether all chains and lines of `rules` stand, asked for one by one: much cheaper than [`Iptables::save`] where there are very many others.
/// What else is in these chains is not seen.
///
/// # Errors
/// When the packet filter cannot be asked.
pub async fn stand(iptables: &dyn Iptables, rules: &RuleSet) -> Result<bool, IptablesError> {
    let own = rules.chains.iter().flat_map(|(id, rules)| rules.iter().map(move |rule| (id, rule)));
    let lines = rules.lines.iter().map(|line| (&line.chain, &line.rule));
    let all: Vec<(&ChainId, &String)> = own.chain(lines).collect();
    for (id, rule) in all {
        if !iptables.rule_exists(id.table, &id.name, rule).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What may be done to the packet filter. Every call is one process (or one step on the fake).
#[async_trait]
pub trait Iptables: Send + Sync + 'static {
    /// Applies restore text to the tables it names, leaving everything it does not mention (`--noflush`, counters kept).
    /// Either a table's whole block takes effect or none of it.
    async fn restore(&self, text: String) -> Result<(), IptablesError>;

    /// The table's chains and rules, in `iptables-save`'s form.
    async fn save(&self, table: Table) -> Result<String, IptablesError>;

    /// Whether a chain stands; much cheaper than [`Iptables::save`].
    async fn chain_exists(&self, table: Table, chain: &str) -> Result<bool, IptablesError>;

    /// Whether a rule stands in a chain; much cheaper than [`Iptables::save`].
    async fn rule_exists(&self, table: Table, chain: &str, rule: &str) -> Result<bool, IptablesError>;

    /// A number that is another one once anything was changed, by whomever; much cheaper than anything else here. `None` where it cannot be told:
    /// the kernel counts the changes of nftables alone.
    async fn generation(&self) -> Option<u64>;
}
