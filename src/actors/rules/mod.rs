//! The rule table: what units want of the packet filter, keyed by who wants it.
//!
//! ```text
//! a unit per object: plan ─► SetRules ─► RuleTable: queue, ledger ─► sets, one iptables transaction, sets
//! ```
//!
//! A [`Layout`] says whose rules a table has: who its owners are, what always stands, which chains and sets are its own. The table is the
//! only writer of those, and knows nothing of what they mean. Each layout's table goes its own way: owners of one that never report hold
//! nobody else up. At start nothing is flushed: the kernel's state is read, and the difference applied once every owner that was named has reported.

pub mod backend;
mod collecting;
pub mod journey;
pub mod layout;
pub mod ledger;
pub mod matching;
pub mod packed;
pub mod queue;
pub mod simulate;
mod squeeze;
pub mod table;
pub mod walk;

pub use self::{
    layout::{Contribution, Layout, Probe},
    ledger::{Changes, Ledger},
    packed::{Packed, PackedRules},
    table::{AwaitInstalled, AwaitOwners, NotInstalled, RuleTable, SetRules, TableOptions},
};
