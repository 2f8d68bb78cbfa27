//! Names of chains, and lines in chains of others.

use crate::iptables::Table;

/// A chain of one table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    pub table: Table,
    pub name: String,
}

impl ChainId {
    pub fn new(table: Table, name: impl Into<String>) -> Self {
        ChainId { table, name: name.into() }
    }
}

/// Where a line goes in a chain that others write to as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Head,
    Tail,
}

/// One rule in a shared chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub chain: ChainId,
    /// The rule in `iptables-save`'s form, without `-A CHAIN`.
    pub rule: String,
    pub end: End,
}
