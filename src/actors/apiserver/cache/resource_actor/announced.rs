//! What writers say of their writes before the store's watch brings those: what caused them. Pure.

use std::collections::HashMap;

use bytes::Bytes;
use troupe_api::meta::Cause;

/// Causes by the key and the value that is written; a deletion writes nothing.
#[derive(Default)]
pub struct Announced(HashMap<Bytes, Vec<(Bytes, Cause)>>);

impl Announced {
    pub fn note(&mut self, key: Bytes, value: Bytes, cause: Cause) {
        self.0.entry(key).or_default().push((value, cause));
    }

    /// What caused a write, which is forgotten.
    pub fn take(&mut self, key: &Bytes, value: &Bytes) -> Option<Cause> {
        let writers = self.0.get_mut(key)?;
        let at = writers.iter().position(|(announced, _)| announced == value);
        let cause = at.map(|at| writers.swap_remove(at).1);
        if writers.is_empty() {
            self.0.remove(key);
        }
        cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_has_its_own_cause_once() {
        let (key, one, other) = (Bytes::from_static(b"k"), Bytes::from_static(b"1"), Bytes::from_static(b"2"));
        let cause = |trace| Cause { trace, ..Cause::default() };
        let mut announced = Announced::default();
        announced.note(key.clone(), one.clone(), cause(7));
        announced.note(key.clone(), other.clone(), cause(8));
        assert_eq!(announced.take(&key, &other).map(|cause| cause.trace), Some(8));
        assert!(announced.take(&key, &other).is_none() && announced.take(&other, &one).is_none());
        assert_eq!(announced.take(&key, &one).map(|cause| cause.trace), Some(7));
        assert!(announced.0.is_empty());
    }
}
