//! Compiled expressions that select devices, kept by their text.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use troupe_api::device_selectors::DeviceSelector;

use super::verdicts::{SelectorId, Verdicts};

/// How many are kept. Classes and claims of a cluster use few.
const MOST: usize = 1024;

/// A compiled expression.
#[derive(Debug)]
pub struct Selector {
    /// The same for the same text.
    pub id: SelectorId,
    pub expression: DeviceSelector,
}

/// An expression, or what is wrong with it.
pub type Compiled = Result<Arc<Selector>, Arc<str>>;

/// See the module.
#[derive(Default)]
pub struct Selectors {
    compiled: Mutex<HashMap<Box<str>, Compiled>>,
    /// What they said.
    pub verdicts: Arc<Verdicts>,
}

impl Selectors {
    /// Compiles an expression unless that was done before.
    pub fn get(&self, text: &str) -> Compiled {
        if let Some(known) = self.compiled.lock().get(text) {
            return known.clone();
        }
        let compiled = DeviceSelector::compile(text).map(|expression| Arc::new(Selector { id: id_of(text), expression })).map_err(Arc::from);
        let mut kept = self.compiled.lock();
        // What is used is soon there again.
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(text.into(), compiled.clone());
        compiled
    }
}

fn id_of(text: &str) -> SelectorId {
    let mut id = SelectorId::default();
    id.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    id
}
