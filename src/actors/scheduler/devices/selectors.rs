//! Expressions that select devices, and programs of them. A program is made when the first device is judged, is kept by its text, and is made
//! again when it was given up: how much may be kept does not depend on how many expressions there are.

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use troupe_api::device_selectors::{DeviceSelector, MOST_COST};

use super::verdicts::{SelectorId, Verdicts};

/// What the programs that were used last may take, in bytes, before those that were not used since are given up: at most twice that is kept.
const MOST: usize = 32 << 20;
/// What a program takes beside what it takes for each byte of its text.
const OF_ENTRY: usize = 1024;
const OF_BYTE: usize = 64;
/// What each byte of a text costs to compile, in units of what evaluations cost, of which about ten million take a second.
const COST_OF_BYTE: u64 = 10;

/// An expression as a class or a claim has it.
pub struct Selector {
    text: String,
    id: OnceCell<SelectorId>,
}

/// What an expression was compiled to, or what is wrong with it.
pub type Program = Result<Arc<DeviceSelector>, Arc<str>>;

impl Selector {
    pub fn new(text: &str) -> Self {
        Selector { text: text.to_owned(), id: OnceCell::new() }
    }

    /// The same for the same text.
    pub fn id(&self) -> SelectorId {
        *self.id.get_or_init(|| {
            let mut id = SelectorId::default();
            id.copy_from_slice(&Sha256::digest(self.text.as_bytes())[..16]);
            id
        })
    }

    /// What it costs to compile it, in units of what evaluations cost; never more than one of those may.
    pub fn cost(&self) -> u64 {
        (self.text.len() as u64).saturating_mul(COST_OF_BYTE).min(MOST_COST)
    }

    /// What its program takes, in bytes, by and large.
    fn size(&self) -> usize {
        OF_ENTRY + self.text.len().saturating_mul(OF_BYTE)
    }
}

/// Programs by their texts.
#[derive(Default)]
struct Kept {
    recent: HashMap<SelectorId, Program>,
    /// Those that were not used since there were too many recent ones.
    earlier: HashMap<SelectorId, Program>,
    /// What the recent ones take, in bytes.
    size: usize,
}

/// See the module.
#[derive(Default)]
pub struct Selectors {
    kept: Mutex<Kept>,
    /// What they said.
    pub verdicts: Arc<Verdicts>,
}

impl Selectors {
    /// The program of an expression, and what it cost to make it, which is nothing where it was made before; `None` if it would cost more
    /// than `most`.
    pub fn program(&self, selector: &Selector, most: u64) -> Option<(Program, u64)> {
        let known = self.kept.lock().get(selector);
        if let Some(known) = known {
            return Some((known, 0));
        }
        let cost = selector.cost();
        if cost > most {
            return None;
        }
        let program: Program = DeviceSelector::compile(&selector.text).map(Arc::new).map_err(Arc::from);
        self.kept.lock().set(selector, program.clone());
        Some((program, cost))
    }
}

impl Kept {
    fn get(&mut self, selector: &Selector) -> Option<Program> {
        if let Some(known) = self.recent.get(&selector.id()) {
            return Some(known.clone());
        }
        let known = self.earlier.remove(&selector.id())?;
        self.set(selector, known.clone());
        Some(known)
    }

    fn set(&mut self, selector: &Selector, program: Program) {
        if self.size + selector.size() > MOST {
            self.earlier = std::mem::take(&mut self.recent);
            self.size = 0;
        }
        if self.recent.insert(selector.id(), program).is_none() {
            self.size += selector.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_made_once_where_there_is_time_for_it() {
        let (selectors, short, wrong) = (Selectors::default(), Selector::new("device.driver == 'd'"), Selector::new("device.nothing == 1"));
        assert!(selectors.program(&short, short.cost() - 1).is_none(), "there is no time");
        let (made, cost) = selectors.program(&short, short.cost()).expect("there is time");
        assert!(made.is_ok() && cost == short.cost());
        let again = Selector::new("device.driver == 'd'");
        let (known, cost) = selectors.program(&again, 0).expect("it is there");
        assert_eq!((known.is_ok(), cost, again.id()), (true, 0, short.id()));
        let why = selectors.program(&wrong, MOST_COST).expect("there is time").0.expect_err("it is wrong");
        assert!(why.starts_with("compilation failed: "), "{why}");
        assert!(selectors.program(&wrong, 0).is_some_and(|(known, _)| known.is_err()), "that is known");
    }

    #[test]
    fn what_is_used_stays_while_others_come_and_go() {
        let (mut kept, program) = (Kept::default(), Program::Err("wrong".into()));
        let used = Selector::new("used");
        kept.set(&used, program.clone());
        for number in 0..300 {
            kept.set(&Selector::new(&format!("{number:010000}")), program.clone());
            assert!(number % 20 > 0 || kept.get(&used).is_some(), "after {number} others");
            assert!(kept.size <= MOST && kept.recent.len() + kept.earlier.len() <= 110);
        }
        assert!(kept.get(&Selector::new(&format!("{:010000}", 0))).is_none(), "nobody asked for it");
    }
}
