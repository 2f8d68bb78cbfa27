//! What the controller of nodes counts, under upstream's names.

use troupe_api::metrics::{Collect, Counter, Family};

static EVICTIONS: Family<Counter> = Family::new(
    "node_collector_evictions_total",
    "Number of Node evictions that happened since current instance of NodeController started.",
    &["zone"],
);

/// What the controller of nodes counts.
pub static COLLECTORS: [&dyn Collect; 1] = [&EVICTIONS];

/// There are nodes in a zone: its count begins with none.
pub(super) fn known(zone: &str) {
    EVICTIONS.with(&[&label(zone)]);
}

/// A node of a zone was marked to be emptied.
pub(super) fn evicted(zone: &str) {
    EVICTIONS.with(&[&label(zone)]).increment();
}

/// Region and zone as upstream writes them in one label; none of a node that has neither.
fn label(zone: &str) -> String {
    let (region, zone) = zone.split_once(':').unwrap_or_default();
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

#[cfg(test)]
mod tests {
    use troupe_api::metrics::render;

    use super::*;

    #[test]
    fn evictions_count_by_region_and_zone() {
        known("far:counted-b");
        evicted("far:counted-a");
        evicted("far:counted-a");
        let page = render(&COLLECTORS);
        let page = std::str::from_utf8(&page).expect("text");
        assert!(page.contains("# TYPE node_collector_evictions_total counter\n"), "{page}");
        assert!(page.contains("node_collector_evictions_total{zone=\"far:\0:counted-a\"} 2\n"), "{page}");
        assert!(page.contains("node_collector_evictions_total{zone=\"far:\0:counted-b\"} 0\n"), "{page}");
        assert_eq!(label(":"), "");
    }
}
