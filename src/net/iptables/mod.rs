//! The packet filter's seam: whole transactions in, the kernel's state out.
//!
//! [`Iptables`] is implemented by [`HostIptables`] (the machine's `iptables-restore` and `iptables-save`) and by
//! [`FakeIptables`] (memory, with the same failure rules). [`RuleSet`], [`Patch`] and [`Observed`] are the pure
//! vocabulary: what should stand, how to get there, what does stand.

mod diff;
mod fake;
mod host;
mod line;
mod patch;
mod ruleset;
mod saved;

use async_trait::async_trait;

pub use fake::FakeIptables;
pub use host::HostIptables;
pub use line::{ChainId, End, Line};
pub use patch::Patch;
pub use ruleset::RuleSet;
pub use saved::Observed;

/// The tables we write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Filter,
    Nat,
}

impl Table {
    pub const ALL: [Table; 2] = [Table::Filter, Table::Nat];

    pub fn name(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
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
}
