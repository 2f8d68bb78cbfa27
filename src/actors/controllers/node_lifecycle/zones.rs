//! How many nodes of which zones are well, and how fast nodes may be emptied then. Pure.
//!
//! Where many nodes seem lost at once, the fault is likely to be elsewhere: eviction slows down, or stops. Where all of
//! them are, nobody is evicted at all, because it is probably us who are cut off.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;

/// A zone is in trouble when no fewer nodes than this are not ready.
const TROUBLE: usize = 3;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// How fast nodes may be emptied. The default is upstream's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacing {
    /// Nodes of a zone that are tainted for eviction in a second (`--node-eviction-rate`); with 0 none is.
    pub rate: f64,
    /// The same in a large zone in trouble (`--secondary-node-eviction-rate`); in a small one none is.
    pub secondary_rate: f64,
    /// A zone with more nodes than this is large (`--large-cluster-size-threshold`).
    pub large: usize,
    /// A zone is in trouble when this part of it, of 1, is not ready (`--unhealthy-zone-threshold`), and at least three nodes.
    pub unhealthy: f64,
}

impl Default for Pacing {
    fn default() -> Self {
        Pacing { rate: 0.1, secondary_rate: 0.01, large: 50, unhealthy: 0.55 }
    }
}

/// The time between two nodes, at a rate of nodes in a second.
fn apart(rate: f64) -> Option<Duration> {
    (rate > 0.0).then(|| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX))
}

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
    fn is_lost(self) -> bool {
        self.ready == 0 && self.others > 0
    }

    fn state(self, unhealthy: f64) -> State {
        #[allow(clippy::cast_precision_loss, reason = "there are fewer nodes than that")]
        let part = || self.others as f64 / (self.others + self.ready) as f64;
        match self {
            _ if self.is_lost() => State::Lost,
            Counts { others: TROUBLE.., .. } if part() >= unhealthy => State::Trouble,
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
        !self.zones.is_empty() && self.zones.values().all(|counts| counts.is_lost())
    }

    /// The time between two nodes of a zone; `None` when none may be emptied.
    fn pace(&self, zone: &str, pacing: &Pacing) -> Option<Duration> {
        let counts = self.zones.get(zone).copied().unwrap_or_default();
        match counts.state(pacing.unhealthy) {
            _ if self.all_lost() => None,
            State::Trouble if counts.ready + counts.others <= pacing.large => None,
            State::Trouble => apart(pacing.secondary_rate),
            State::Normal | State::Lost => apart(pacing.rate),
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
    pub fn take(&mut self, zone: &str, census: &Census, pacing: &Pacing, now: Instant) -> bool {
        let Some(pace) = census.pace(zone, pacing) else { return false };
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

    const PACE: Duration = Duration::from_secs(10);

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
        assert!(!Turns::default().take(":a", &lost, &Pacing::default(), Instant::now()));
        let mut one_left = lost;
        one_left.count(&counted_zone(&node("c", false)), true);
        assert!(!one_left.all_lost());
        assert!(Turns::default().take(":a", &one_left, &Pacing::default(), Instant::now()), "a zone that is lost as a whole is emptied");
        assert!(!Census::default().all_lost());
    }

    #[test]
    fn a_zone_in_trouble_is_emptied_slowly_or_not_at_all() {
        let pace = |ready, others| census(&[("a", ready, others)]).pace(":a", &Pacing::default());
        let slow = Duration::from_secs(100);
        assert_eq!(pace(2, 2), Some(PACE), "two nodes are no trouble");
        assert_eq!(pace(2, 3), None);
        assert_eq!(pace(22, 29), Some(slow));
        assert_eq!(pace(3, 3), Some(PACE), "half of it is not enough");
        assert_eq!((pace(27, 33), pace(28, 33)), (Some(slow), Some(PACE)), "55 percent of it are enough");
    }

    #[test]
    fn how_fast_nodes_are_emptied_can_be_chosen() {
        let chosen = Pacing { rate: 2.0, secondary_rate: 0.5, large: 4, unhealthy: 0.9 };
        let pace = |ready, others, pacing: &Pacing| census(&[("a", ready, others)]).pace(":a", pacing);
        assert_eq!(pace(2, 3, &chosen), Some(Duration::from_millis(500)), "it is not yet in trouble");
        let timid = Pacing { unhealthy: 0.5, ..chosen };
        assert_eq!((pace(2, 3, &timid), pace(1, 3, &timid)), (Some(Duration::from_secs(2)), None), "the smaller one has four nodes");
        assert_eq!(pace(5, 1, &Pacing { rate: 0.0, ..chosen }), None, "without a rate none is");
    }

    #[test]
    fn nodes_of_a_zone_take_turns_and_zones_do_not_wait_for_each_other() {
        let (census, mut turns, start) = (census(&[("a", 5, 2), ("b", 5, 1)]), Turns::default(), Instant::now());
        let mut take = |zone: &str, now| turns.take(zone, &census, &Pacing::default(), now);
        assert!(take(":a", start) && !take(":a", start + PACE / 2) && take(":b", start + PACE / 2) && take(":a", start + PACE));
        turns.give_back(":a");
        assert!(turns.take(":a", &census, &Pacing::default(), start + PACE), "a turn that came to nothing is nobody's");
    }

    #[test]
    fn nodes_that_ask_for_it_are_not_counted() {
        let mut census = census(&[("a", 0, 2)]);
        census.count(&counted_zone(&node("a", true)), true);
        assert!(census.all_lost());
    }
}
