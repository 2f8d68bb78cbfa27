//! Lists: those of documents, and those that were made.

use super::{List, Val, from_json};
use crate::expressions::{meter::Fault, types::Identity};

impl<'a> List<'a> {
    pub fn made(entries: Vec<Val<'a>>) -> Self {
        List::Made { entries: entries.into(), identity: &Identity::Place }
    }

    pub fn len(&self) -> usize {
        match self {
            List::Document { entries, .. } => entries.len(),
            List::Made { entries, .. } => entries.len(),
        }
    }

    /// Whether an expression made it, of whatever values.
    pub fn is_made(&self) -> bool {
        matches!(self, List::Made { .. })
    }

    pub fn identity(&self) -> &'a Identity {
        match self {
            List::Document { identity, .. } | List::Made { identity, .. } => identity,
        }
    }

    /// The entry at a place.
    ///
    /// # Errors
    /// There is none, or the document holds something else than was declared.
    pub fn get(&self, at: usize) -> Result<Val<'a>, Fault> {
        match self {
            List::Document { entries, of, .. } => entries.get(at).map(|entry| from_json(entry, of)),
            List::Made { entries, .. } => entries.get(at).cloned().map(Ok),
        }
        .unwrap_or_else(|| Err(Fault::error(format!("index out of bounds: {at}"))))
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Result<Val<'a>, Fault>> + '_ {
        (0..self.len()).map(|at| self.get(at))
    }
}
