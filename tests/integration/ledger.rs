//! What a client knows of the objects it writes: the last state that was acknowledged, and those that may have come after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The state of an object: one field that stands for all of it, or nothing where there is no object.
pub type State = Option<String>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    acknowledged: State,
    /// Tried since, without an answer that tells whether it was done.
    unclear: Vec<State>,
}

/// All objects that one client writes; nobody else writes them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    pub acknowledged: usize,
    pub unclear: usize,
}

/// A state that no order of the writes explains.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    name: String,
    found: State,
    known: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}, but should be {}", self.name, self.found, self.known)
    }
}

impl Ledger {
    /// What is acknowledged, if that is certain.
    pub fn known(&self, name: &str) -> Option<State> {
        match self.entries.get(name) {
            None => Some(None),
            Some(entry) => entry.unclear.is_empty().then(|| entry.acknowledged.clone()),
        }
    }

    /// A write was acknowledged: nothing before it matters any more.
    pub fn acknowledge(&mut self, name: &str, state: State) {
        self.entries.insert(name.to_owned(), Entry { acknowledged: state, unclear: Vec::new() });
        self.acknowledged += 1;
    }

    /// A write may have been done.
    pub fn doubt(&mut self, name: &str, state: State) {
        self.entries.entry(name.to_owned()).or_default().unclear.push(state);
        self.unclear += 1;
    }

    /// Whether an object can be in a state.
    pub fn may_be(&self, name: &str, state: &State) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.acknowledged == *state || entry.unclear.contains(state))
    }

    /// An object went from one state to another by itself.
    pub fn went_on(&mut self, name: &str, state: State) {
        self.entries.insert(name.to_owned(), Entry { acknowledged: state, unclear: Vec::new() });
    }

    /// An object was read by its only writer.
    ///
    /// # Errors
    /// When it is in no state that it can be in.
    pub fn observe(&mut self, name: &str, found: State) -> Result<(), Lost> {
        let entry = self.entries.entry(name.to_owned()).or_default();
        if entry.acknowledged != found && !entry.unclear.contains(&found) {
            return Err(Lost { name: name.to_owned(), found, known: format!("{entry:?}") });
        }
        *entry = Entry { acknowledged: found, unclear: Vec::new() };
        Ok(())
    }

    /// Compares everything with what there is now.
    pub fn audit(&self, found: &BTreeMap<String, String>) -> Vec<Lost> {
        let mut copy = self.clone();
        let names: BTreeSet<String> = self.entries.keys().chain(found.keys()).cloned().collect();
        names.into_iter().filter_map(|name| copy.observe(&name, found.get(&name).cloned()).err()).collect()
    }
}

#[test]
fn a_ledger_notices_lost_and_resurrected_objects_and_allows_for_doubt() {
    let some = |text: &str| Some(text.to_owned());
    let mut ledger = Ledger::default();
    ledger.acknowledge("a", some("1"));
    ledger.doubt("a", some("2"));
    ledger.acknowledge("gone", some("1"));
    ledger.acknowledge("gone", None);
    let found = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect();
    assert_eq!(ledger.known("a"), None);
    assert_eq!(ledger.audit(&found(&[("a", "1")])), []);
    assert_eq!(ledger.audit(&found(&[("a", "2")])), []);
    assert_eq!(ledger.audit(&found(&[("a", "3")])).len(), 1, "never written");
    assert_eq!(ledger.audit(&found(&[])).len(), 1, "lost");
    assert_eq!(ledger.audit(&found(&[("a", "1"), ("gone", "1")])).len(), 1, "resurrected");
    assert_eq!(ledger.audit(&found(&[("a", "1"), ("stray", "1")])).len(), 1, "made by nobody");
    ledger.observe("a", some("2")).expect("it may be");
    assert_eq!(ledger.audit(&found(&[("a", "1")])).len(), 1, "it went back");
}
