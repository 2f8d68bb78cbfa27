//! What is counted of API services, under upstream's names.

use std::{collections::BTreeMap, sync::Mutex, sync::PoisonError};

use troupe_api::metrics::{Collect, Counter, Family, Text};

static LOST: Family<Counter> = Family::new(
    "aggregator_unavailable_apiservice_total",
    "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
    &["name", "reason"],
);

/// Names are those of objects, which come and go: a family would keep them all.
static FOUND: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());

struct Unavailable;

static UNAVAILABLE: Unavailable = Unavailable;

/// What is counted here.
pub static COLLECTORS: [&dyn Collect; 2] = [&UNAVAILABLE, &LOST];

/// A check found this.
pub fn found(name: &str, is_available: bool) {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), is_available);
}

/// There is no such API service any more.
pub fn forget(name: &str) {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    LOST.forget(&|labels| labels.get("name") == Some(name));
}

/// One became unavailable.
pub fn lost(name: &str, reason: &str) {
    LOST.with(&[name, reason]).increment();
}

impl Collect for Unavailable {
    fn collect(&self, text: &mut Text) {
        const NAME: &str = "aggregator_unavailable_apiservice";
        text.family(NAME, "Gauge of APIServices which are marked as unavailable broken down by APIService name.", "gauge");
        for (name, is_available) in FOUND.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            text.count(NAME, &[("name", name)], u64::from(!is_available));
        }
    }
}
