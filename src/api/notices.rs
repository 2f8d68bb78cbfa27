//! What is said about a call beside its reply: warnings to the client, annotations of its audit event.
//!
//! All that work on a call share one of these. What they said stands also when the call is refused, or computed again
//! after a lost race.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;

/// See the module. Clones share what is said.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// In the order in which they were said.
    warnings: Vec<String>,
    /// The same ones, to look them up.
    known: HashSet<String>,
    annotations: BTreeMap<String, String>,
    /// The audit event has what was asked.
    records_requests: bool,
}

/// More warnings than this find no room in a head, however short they are.
const MOST: usize = 1000;

impl Notices {
    /// Adds a text for a `Warning` header; each is sent once.
    pub fn warn(&self, text: impl Into<String>) {
        let (mut said, text) = (self.0.lock(), text.into());
        if said.warnings.len() < MOST && said.known.insert(text.clone()) {
            said.warnings.push(text);
        }
    }

    /// Adds an annotation to the audit event. Who says it last is right: only the last attempt of a write counts.
    pub fn annotate(&self, name: impl Into<String>, text: impl Into<String>) {
        self.0.lock().annotations.insert(name.into(), text.into());
    }

    /// What was asked stands in the audit event (level `Request` or higher), so that annotations may tell of it too.
    pub fn record_requests(&self) {
        self.0.lock().records_requests = true;
    }

    /// Whether annotations may tell what is in the request, or what became of it.
    pub fn records_requests(&self) -> bool {
        self.0.lock().records_requests
    }

    /// The warnings so far, in their order.
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().warnings.clone()
    }

    /// The audit event's annotations so far.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.0.lock().annotations.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_sent_once_in_the_order_of_the_first_time_and_none_beyond_the_most() {
        let notices = Notices::default();
        for text in ["b", "a", "b"] {
            notices.clone().warn(text);
        }
        assert_eq!(notices.warnings(), ["b", "a"]);
        (0..2 * MOST).for_each(|number| notices.warn(number.to_string()));
        let warnings = notices.warnings();
        assert_eq!((warnings.len(), warnings.last().map(String::as_str)), (MOST, Some("997")));
    }
}
