//! How much a document may hold: the one place that says how deep trees of users may be, and what they may cost.
//!
//! Trees are walked, cloned, compared and dropped by recursion, on threads whose stacks are small. So nothing deeper than
//! [`MAX_DEPTH`] gets in: decoders refuse it, and whatever makes a tree deeper afterwards (a patch) is checked again.

use serde_json::Value;

/// How many lists and objects may stand within each other in what a client sends or makes by a patch.
pub const MAX_DEPTH: usize = 100;

/// How deep what is stored may be: the server adds managedFields. Readers of JSON stop at 127, and lists, watches and
/// audit events wrap objects a few times.
pub const MAX_STORED_DEPTH: usize = 116;

/// The bytes of a stored object at most. etcd takes requests of 1.5 MiB, key and envelope included.
pub const MAX_STORED: usize = (3 << 19) - 1024;

/// What every document may cost as a tree, whatever its size.
const ALWAYS: usize = 64 << 10;
/// What it may cost for each byte as long as it is short. Go's decoder has no such limit, so usual documents must never meet
/// it: terse schemas of custom resources come to 30 bytes for each of their own.
const PER_BYTE: usize = 40;
/// Where a short document's allowance ends.
const SHORT: usize = 16 << 20;
/// What long documents get beyond that for each byte.
const PER_BYTE_BEYOND: usize = 16;

/// An item of a list: its slot while it is parsed and in the final tree.
pub const ITEM: usize = 56;
/// An object that holds something: a map's smallest node, and the list of fields it is made from.
pub const OBJECT: usize = 700;
/// A further field of an object, without its name's text.
pub const FIELD: usize = 160;
/// A text's own allocation, without its bytes.
pub const TEXT: usize = 16;

/// Why a document is refused whatever its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Go's words for it.
    #[error("exceeded max depth")]
    Depth,
    #[error("the document is too large in memory: too many values for its size")]
    Cost,
    /// The words of upstream's YAML library.
    #[error("document contains excessive aliasing")]
    Aliasing,
}

/// Counts what a document costs while it is read.
#[derive(Clone, Debug)]
pub struct Meter {
    left: usize,
    /// Lists and objects that are open.
    depth: usize,
    exceeded: Option<Excess>,
}

impl Meter {
    /// A meter for a document of `length` bytes.
    pub fn new(length: usize) -> Self {
        let left = ALWAYS + length.saturating_mul(PER_BYTE).min(SHORT) + length.saturating_mul(PER_BYTE_BEYOND);
        Meter { left, depth: 0, exceeded: None }
    }

    /// What went beyond its limit, if anything did.
    pub fn exceeded(&self) -> Option<Excess> {
        self.exceeded
    }

    /// What may still be spent.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Spends `cost` bytes.
    pub fn charge(&mut self, cost: usize) -> Result<(), Excess> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.refuse(Excess::Cost)),
        }
    }

    /// A list or object begins.
    pub fn open(&mut self) -> Result<(), Excess> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.refuse(Excess::Depth)) } else { Ok(()) }
    }

    /// The list or object that began last ends.
    pub fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Remembers why the document is refused.
    pub fn refuse(&mut self, why: Excess) -> Excess {
        *self.exceeded.get_or_insert(why)
    }
}

/// Whether lists and objects stand within each other deeper than `limit`. Looks no deeper than that.
pub fn is_deeper(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|item| is_deeper(item, limit - 1)),
        Value::Object(fields) => limit == 0 || fields.values().any(|field| is_deeper(field, limit - 1)),
        _ => false,
    }
}

/// What a copy of a tree costs, by the same measure as a [`Meter`]'s.
pub fn tree_cost(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(|item| ITEM + tree_cost(item)).sum(),
        Value::Object(fields) => {
            let first = if fields.is_empty() { 0 } else { OBJECT - FIELD };
            first + fields.iter().map(|(name, value)| FIELD + TEXT + name.len() + tree_cost(value)).sum::<usize>()
        }
        Value::String(text) => TEXT + text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_counts_lists_and_objects() {
        assert!(!is_deeper(&json!("x"), 0));
        assert!(is_deeper(&json!([]), 0));
        assert!(!is_deeper(&json!({"a": [1], "b": 2}), 2));
        assert!(is_deeper(&json!({"a": [{}], "b": 2}), 2));
    }

    #[test]
    fn a_meter_tells_what_was_exceeded_first() {
        let mut meter = Meter::new(0);
        assert_eq!(meter.charge(ALWAYS), Ok(()));
        assert_eq!(meter.charge(1), Err(Excess::Cost));
        for _ in 0..MAX_DEPTH {
            assert_eq!(meter.open(), Ok(()));
        }
        assert!(meter.open().is_err());
        assert_eq!(meter.exceeded(), Some(Excess::Cost));
    }

    #[test]
    fn no_document_may_cost_more_than_64_times_its_size() {
        for length in [100_000, 1 << 20, 3 << 20] {
            assert!(Meter::new(length).left() <= 64 * length);
        }
        assert!(Meter::new(3 << 20).left() <= 22 * (3 << 20));
    }
}
