//! Compiled expressions that select devices, kept by their text.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use troupe_api::device_selectors::DeviceSelector;

/// How many are kept. Classes and claims of a cluster use few.
const MOST: usize = 1024;

/// An expression, or what is wrong with it.
pub type Compiled = Result<Arc<DeviceSelector>, Arc<str>>;

/// See the module.
#[derive(Default)]
pub struct Selectors(Mutex<HashMap<Box<str>, Compiled>>);

impl Selectors {
    /// Compiles an expression unless that was done before.
    pub fn get(&self, text: &str) -> Compiled {
        if let Some(known) = self.0.lock().get(text) {
            return known.clone();
        }
        let compiled = DeviceSelector::compile(text).map(Arc::new).map_err(Arc::from);
        let mut kept = self.0.lock();
        // What is used is soon there again.
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(text.into(), compiled.clone());
        compiled
    }
}
