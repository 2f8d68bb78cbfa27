//! How many certificates pods of this node have, and how they are.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use troupe_api::metrics::{Collect, Text};

const NAME: &str = "kubelet_podcertificate_states";
const HELP: &str = "Gauge vector reporting the number of pod certificate projected volume sources, faceted by signer_name and state.";

/// By signer and state, as they were when the manager looked last.
struct States(Mutex<BTreeMap<(String, &'static str), usize>>);

static STATES: States = States(Mutex::new(BTreeMap::new()));

pub static COLLECTORS: [&dyn Collect; 1] = [&STATES];

impl Collect for States {
    fn collect(&self, text: &mut Text) {
        let states = self.0.lock();
        if states.is_empty() {
            return;
        }
        text.family(NAME, HELP, "gauge");
        for ((signer, state), count) in &*states {
            text.count(NAME, &[("signer_name", signer.as_str()), ("state", *state)], *count as u64);
        }
    }
}

/// What the manager has seen.
pub fn seen(states: BTreeMap<(String, &'static str), usize>) {
    *STATES.0.lock() = states;
}
