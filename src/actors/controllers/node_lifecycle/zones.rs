//! How many nodes of which zones are well, and how fast nodes may be emptied then. Pure.
//!
//! Where many nodes seem lost at once, the fault is likely to be elsewhere: eviction slows down, or stops. Where all of
//! them are, nobody is evicted at all, because it is probably us who are cut off.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;

/// Nodes of a zone are tainted for eviction this far apart (upstream's `--node-eviction-rate` of 0.1 a second).
const PACE: Duration = Duration::from_secs(10);
/// The same in a large zone in trouble (`--secondary-node-eviction-rate`); in a small one none is.
const SLOW_PACE: Duration = Duration::from_secs(100);
/// A zone with more nodes than this is large (`--large-cluster-size-threshold`).
const LARGE: usize = 50;
/// A zone is in trouble when this part of it, in hundredths, is not ready (`--unhealthy-zone-threshold`), and at least three nodes.
const TROUBLE_PERCENT: usize = 55;
const TROUBLE: usize = 3;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// Region and zone of a node.
pub fn zone(node: &Node) -> String {
    let label = |names: [&str; 2]| {
        let labels = node.metadata.labels.as_ref();
        names.iter().find_map(|name| labels?.get(*name)).map(String::as_str).unwrap_or_default().to_owned()
    };
    let region = label(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]);
    let zone = label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]);
    format!("{region}:{zone}")
}

/// The zone in which a node is counted: none, an empty text, for one that asks not to be.
pub fn counted_zone(node: &Node) -> String {
    let is_excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    if is_excluded { String::new() } else { zone(node) }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    ready: usize,
    others: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Trouble,
    Lost,
}

impl Counts {
    fn state(self) -> State {
        match self {
            Counts { ready: 0, others } if others > 0 => State::Lost,
            Counts { ready, others } if others >= TROUBLE && others * 100 >= (others + ready) * TROUBLE_PERCENT => State::Trouble,
            _ => State::Normal,
        }
    }
}

/// The nodes of all zones, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    zones: BTreeMap<String, Counts>,
}

impl Census {
    /// Counts a node in its [`counted_zone`], unless that is empty.
    pub fn count(&mut self, zone: &str, ready: bool) {
        if zone.is_empty() {
            return;
        }
        let counts = self.zones.entry(zone.to_owned()).or_default();
        if ready { counts.ready += 1 } else { counts.others += 1 }
    }

    /// The zones that have nodes.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.zones.keys().map(String::as_str)
    }

    /// No node anywhere is well.
    pub fn all_lost(&self) -> bool {
        !self.zones.is_empty() && self.zones.values().all(|counts| counts.state() == State::Lost)
    }

    /// The time between two nodes of a zone; `None` when none may be emptied.
    fn pace(&self, zone: &str) -> Option<Duration> {
        let counts = self.zones.get(zone).copied().unwrap_or_default();
        match counts.state() {
            _ if self.all_lost() => None,
            State::Trouble if counts.ready + counts.others <= LARGE => None,
            State::Trouble => Some(SLOW_PACE),
            State::Normal | State::Lost => Some(PACE),
        }
    }
}

/// Whose turn it is to be emptied: one node of a zone at a time.
#[derive(Debug, Default)]
pub struct Turns {
    last: HashMap<String, Instant>,
}

impl Turns {
    /// Takes a turn in a zone; `false` when there is none now.
    pub fn take(&mut self, zone: &str, census: &Census, now: Instant) -> bool {
        let Some(pace) = census.pace(zone) else { return false };
        let due = self.last.get(zone).is_none_or(|last| now.saturating_duration_since(*last) >= pace);
        if due {
            self.last.insert(zone.to_owned(), now);
        }
        due
    }

    /// A turn that was taken came to nothing.
    pub fn give_back(&mut self, zone: &str) {
        self.last.remove(zone);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(zone: &str, excluded: bool) -> Node {
        let mut labels = json!({"topology.kubernetes.io/zone": zone});
        if excluded {
            labels[EXCLUDED] = "".into();
        }
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": labels}})).expect("a node")
    }

    fn census(zones: &[(&str, usize, usize)]) -> Census {
        let mut census = Census::default();
        for (zone, ready, others) in zones {
            (0..*ready).for_each(|_| census.count(&counted_zone(&node(zone, false)), true));
            (0..*others).for_each(|_| census.count(&counted_zone(&node(zone, false)), false));
        }
        census
    }

    #[test]
    fn when_all_nodes_are_lost_none_is_emptied() {
        let lost = census(&[("a", 0, 1), ("b", 0, 3)]);
        assert!(lost.all_lost());
        assert!(!Turns::default().take(":a", &lost, Instant::now()));
        let mut one_left = lost;
        one_left.count(&counted_zone(&node("c", false)), true);
        assert!(!one_left.all_lost());
        assert!(Turns::default().take(":a", &one_left, Instant::now()), "a zone that is lost as a whole is emptied");
        assert!(!Census::default().all_lost());
    }

    #[test]
    fn a_zone_in_trouble_is_emptied_slowly_or_not_at_all() {
        assert_eq!(census(&[("a", 2, 2)]).pace(":a"), Some(PACE), "two nodes are no trouble");
        assert_eq!(census(&[("a", 2, 3)]).pace(":a"), None);
        assert_eq!(census(&[("a", 22, 29)]).pace(":a"), Some(SLOW_PACE));
        assert_eq!(census(&[("a", 3, 3)]).pace(":a"), Some(PACE), "half of it is not enough");
    }

    #[test]
    fn nodes_of_a_zone_take_turns_and_zones_do_not_wait_for_each_other() {
        let (census, mut turns, start) = (census(&[("a", 5, 2), ("b", 5, 1)]), Turns::default(), Instant::now());
        assert!(turns.take(":a", &census, start));
        assert!(!turns.take(":a", &census, start + PACE / 2));
        assert!(turns.take(":b", &census, start + PACE / 2));
        assert!(turns.take(":a", &census, start + PACE));
        turns.give_back(":a");
        assert!(turns.take(":a", &census, start + PACE), "a turn that came to nothing is nobody's");
    }

    #[test]
    fn nodes_that_ask_for_it_are_not_counted() {
        let mut census = census(&[("a", 0, 2)]);
        census.count(&counted_zone(&node("a", true)), true);
        assert!(census.all_lost());
    }
}
