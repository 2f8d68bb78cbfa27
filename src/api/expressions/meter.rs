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
/// How many nodes of expressions and of the variables that they ask for are within each other.
pub const MOST_DEPTH: usize = 400;
/// What a tentative meter has for all evaluations: more takes longer than an event loop may be held.
const TENTATIVE_COST: u64 = 10_000;
const TENTATIVE_WORK: u64 = 256 << 10;
/// What one step counts for that at most, such as a question to the authorizer: what it really does is counted as work.
const MOST_AT_ONCE: u64 = 1_000;
/// How many values one evaluation compares for what upstream charges. Each one more costs one, since values that share their entries are
/// far larger than what they take of memory.
const FREE_COMPARISONS: u64 = 10_000;
/// The work of each one more.
const COMPARISON_WORK: usize = 64;
/// The memory that one evaluation asks for altogether, in bytes.
const MOST_MEMORY: u64 = 64 << 20;

/// Counts what evaluations cost.
///
/// Costs are upstream's and bounded for each evaluation. Because they leave out much of what is really done (a text's characters are counted
/// for one unit, however many there are), work and memory are bounded beside them, far above what any reasonable expression needs.
#[derive(Debug)]
pub struct Meter {
    limit: u64,
    spent: u64,
    /// What all evaluations cost, and may cost.
    total: u64,
    most_total: u64,
    work: u64,
    most_work: u64,
    memory: u64,
    /// The values that the evaluation compared.
    compared: u64,
    /// Memory of values that outlive their evaluation.
    kept: u64,
    depth: usize,
    /// What is for all evaluations is used up.
    exhausted: bool,
    /// The pattern that was compiled last, with its text.
    pub(in crate::expressions) pattern: Option<(Box<str>, Regex)>,
}

impl Meter {
    /// For evaluations that may cost `limit` each.
    pub fn new(limit: u64) -> Self {
        Meter {
            limit,
            spent: 0,
            total: 0,
            most_total: u64::MAX,
            work: 0,
            most_work: MOST_WORK,
            memory: 0,
            compared: 0,
            kept: 0,
            depth: 0,
            exhausted: false,
            pattern: None,
        }
    }

    /// For evaluations that are tried on an event loop: they end early where they would take long, and are done elsewhere then.
    pub fn tentative(limit: u64) -> Self {
        Meter { most_total: TENTATIVE_COST, most_work: TENTATIVE_WORK, ..Meter::new(limit) }
    }

    /// For other evaluations on behalf of the same request: they share what work is bounded to.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Meter { work: self.work, ..Meter::new(self.limit) }
    }

    /// Whether evaluations ended because there is nothing left for any.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Whether they ended only because they are tried.
    pub fn ends_early(&self) -> bool {
        self.exhausted && self.most_total == TENTATIVE_COST
    }

    /// Nothing of earlier evaluations is kept any more.
    pub fn forget(&mut self) {
        (self.memory, self.kept, self.depth) = (0, 0, 0);
    }

    /// Goes into something that is `depth` nodes deep.
    ///
    /// # Errors
    /// That is too deep altogether.
    pub(super) fn enter(&mut self, depth: usize) -> Result<(), Fault> {
        if self.depth + depth > MOST_DEPTH {
            return Err(Fault::error(format!("expression recursion limit exceeded: {MOST_DEPTH}")));
        }
        self.depth += depth;
        Ok(())
    }

    /// Begins an evaluation within another one; that one goes on by [`Meter::resume`] with what is returned.
    pub(super) fn pause(&mut self) -> (u64, u64) {
        let outside = (self.spent, self.memory);
        self.begin();
        outside
    }

    /// Ends it; its value is kept.
    pub(super) fn resume(&mut self, outside: (u64, u64), depth: usize) {
        self.kept = self.kept.saturating_add(self.memory);
        (self.spent, self.memory) = outside;
        self.depth -= depth;
    }

    /// For evaluations that an event loop waits for, since their estimates say that they are quick.
    pub fn quick(limit: u64) -> Self {
        Meter { most_work: QUICK_WORK, ..Meter::new(limit) }
    }

    /// Begins another evaluation.
    pub fn begin(&mut self) {
        (self.spent, self.memory, self.compared) = (0, 0, 0);
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
        self.total = self.total.saturating_add(cost.min(MOST_AT_ONCE));
        self.exhausted |= self.total > self.most_total;
        if self.exhausted || self.spent > self.limit { Err(Fault::Limit) } else { Ok(()) }
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
        self.exhausted |= self.work > self.most_work;
        if self.exhausted { Err(Fault::Limit) } else { Ok(()) }
    }

    /// Counts that two values are compared, before their entries are.
    ///
    /// # Errors
    /// The limit is reached.
    pub(super) fn compare(&mut self) -> Result<(), Fault> {
        self.compared = self.compared.saturating_add(1);
        if self.compared <= FREE_COMPARISONS {
            return Ok(());
        }
        self.work(COMPARISON_WORK)?;
        self.charge(1)
    }

    /// Counts memory, before it is taken.
    ///
    /// # Errors
    /// It is too much.
    pub fn allocate(&mut self, bytes: usize) -> Result<(), Fault> {
        self.memory = self.memory.saturating_add(bytes as u64);
        self.work(bytes)?;
        if self.memory.saturating_add(self.kept) > MOST_MEMORY { Err(Fault::Limit) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_bounded_over_all_meters_of_a_request() {
        let most = usize::try_from(MOST_WORK).expect("fits");
        let mut first = Meter::new(10);
        assert_eq!(first.charge(11), Err(Fault::Limit));
        assert_eq!(first.work(most), Ok(()));
        let mut next = first.renewed();
        assert_eq!(next.charge(10), Ok(()), "costs begin anew");
        assert_eq!(next.work(1), Err(Fault::Limit));
        assert_eq!(next.renewed().work(1), Err(Fault::Limit));
    }
}
