//! What evaluation may cost.

use regex::Regex;

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In the words of `cel-go`.
    Error(Box<str>),
    /// A limit is reached. Nothing that an expression says can hide it.
    Limit,
}

impl Fault {
    pub fn error(what: impl Into<Box<str>>) -> Self {
        Fault::Error(what.into())
    }

    /// In the words of `cel-go`.
    pub fn text(&self) -> &str {
        match self {
            Fault::Error(text) => text,
            Fault::Limit => "operation cancelled: actual cost limit exceeded",
        }
    }
}

/// The work of all evaluations that a meter is for, in bytes that are looked at.
const MOST_WORK: u64 = 1 << 29;
/// The same where an event loop waits for them.
const QUICK_WORK: u64 = 4 << 20;
/// The memory that one evaluation asks for altogether, in bytes.
const MOST_MEMORY: u64 = 64 << 20;

/// Counts what evaluations cost.
///
/// Costs are upstream's and bounded for each evaluation. Because they leave out much of what is really done (a text's characters are counted
/// for one unit, however many there are), work and memory are bounded beside them, far above what any reasonable expression needs.
#[derive(Debug)]
pub struct Meter {
    limit: u64,
    most_work: u64,
    spent: u64,
    work: u64,
    memory: u64,
    /// The pattern that was compiled last, with its text.
    pub(in crate::expressions) pattern: Option<(Box<str>, Regex)>,
}

impl Meter {
    /// For evaluations that may cost `limit` each.
    pub fn new(limit: u64) -> Self {
        Meter { limit, most_work: MOST_WORK, spent: 0, work: 0, memory: 0, pattern: None }
    }

    /// For evaluations that an event loop waits for, since their estimates say that they are quick.
    pub fn quick(limit: u64) -> Self {
        Meter { most_work: QUICK_WORK, ..Meter::new(limit) }
    }

    /// Begins another evaluation.
    pub fn begin(&mut self) {
        (self.spent, self.memory) = (0, 0);
    }

    /// What the evaluation cost so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Charges costs.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn charge(&mut self, cost: u64) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(Fault::Limit) } else { Ok(()) }
    }

    /// Takes back costs that `cel-go` does not count.
    pub fn refund(&mut self, cost: u64) {
        self.spent = self.spent.saturating_sub(cost);
    }

    /// Counts bytes that are looked at.
    ///
    /// # Errors
    /// They are too many.
    pub fn work(&mut self, bytes: usize) -> Result<(), Fault> {
        self.work = self.work.saturating_add(bytes as u64);
        if self.work > self.most_work { Err(Fault::Limit) } else { Ok(()) }
    }

    /// Counts memory, before it is taken.
    ///
    /// # Errors
    /// It is too much.
    pub fn allocate(&mut self, bytes: usize) -> Result<(), Fault> {
        self.memory = self.memory.saturating_add(bytes as u64);
        self.work(bytes)?;
        if self.memory > MOST_MEMORY { Err(Fault::Limit) } else { Ok(()) }
    }
}
