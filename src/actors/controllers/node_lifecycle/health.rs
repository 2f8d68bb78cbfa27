//! What has been seen of a node, and when, by this controller's own clock. Pure.
//!
//! The times in leases and conditions are only compared with each other. So a node does not look silent because its clock
//! differs, because a clock jumped, or because the API server was away: what counts is since when nothing new came.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::NodeCondition};

/// The signs of life that a node's own status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSigns {
    /// Whether the kubelet ever told whether it is ready.
    reported: bool,
    heartbeat: Option<Timestamp>,
}

impl NodeSigns {
    /// By its Ready condition.
    pub fn of(ready: Option<&NodeCondition>) -> Self {
        NodeSigns { reported: ready.is_some(), heartbeat: ready.and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0) }
    }
}

/// The newest signs of life that a node has left in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    reported: bool,
    heartbeat: Option<Timestamp>,
    renewed: Option<Timestamp>,
}

impl Signs {
    pub fn of(node: NodeSigns, lease: Option<&Lease>) -> Self {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
        Signs { reported: node.reported, heartbeat: node.heartbeat, renewed }
    }
}

/// The health of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    signs: Signs,
    /// When something new was last seen.
    heard: Instant,
}

impl Health {
    /// A node seen for the first time, which is a sign of life; one that never reported is given the time since its creation.
    pub fn first(signs: Signs, age: Duration, now: Instant) -> Self {
        let silent_for = if signs.reported || signs.renewed.is_some() { Duration::ZERO } else { age };
        Health { signs, heard: now.checked_sub(silent_for).unwrap_or(now) }
    }

    /// Looks again.
    pub fn see(&mut self, signs: Signs, now: Instant) {
        let status_is_new = signs.reported != self.signs.reported || (signs.reported && signs.heartbeat != self.signs.heartbeat);
        if status_is_new || signs.renewed > self.signs.renewed {
            self.heard = now;
        }
        self.signs = Signs { renewed: signs.renewed.max(self.signs.renewed), ..signs };
    }

    /// Gives the node a whole grace period again.
    pub fn forgive(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether nothing new came for longer than the grace period: `grace`, or `startup` for a node that never reported.
    pub fn is_silent(&self, grace: Duration, startup: Duration, now: Instant) -> bool {
        let grace = if self.signs.reported { grace } else { startup };
        now.saturating_duration_since(self.heard) > grace
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GRACE: Duration = Duration::from_secs(50);
    const STARTUP: Duration = Duration::from_secs(60);

    fn signs(heartbeat: Option<i64>, renewed: i64) -> Signs {
        let time = |second: i64| Timestamp::from_second(second).expect("a time").to_string();
        let ready = heartbeat.map(|second| json!({"type": "Ready", "status": "True", "lastHeartbeatTime": time(second)}));
        let ready: Option<NodeCondition> = ready.map(|ready| serde_json::from_value(ready).expect("a condition"));
        let lease: Lease = serde_json::from_value(json!({"metadata": {}, "spec": {"renewTime": time(renewed)}})).expect("a lease");
        Signs::of(NodeSigns::of(ready.as_ref()), (renewed > 0).then_some(&lease))
    }

    fn is_silent(health: &Health, now: Instant) -> bool {
        health.is_silent(GRACE, STARTUP, now)
    }

    #[test]
    fn an_old_lease_is_no_silence_until_it_was_watched_for_the_grace_period() {
        let start = Instant::now();
        // The API server was away for an hour: the lease is as old, for whoever looks at clocks.
        let mut health = Health::first(signs(Some(1), 1), Duration::from_secs(3600), start);
        assert!(!is_silent(&health, start + GRACE));
        health.see(signs(Some(1), 1), start + GRACE);
        assert!(is_silent(&health, start + GRACE + Duration::from_secs(1)));
    }

    #[test]
    fn a_renewed_lease_and_a_new_heartbeat_are_signs_of_life_whatever_their_times_say() {
        let start = Instant::now();
        let mut health = Health::first(signs(Some(1000), 1000), Duration::ZERO, start);
        let later = start + Duration::from_secs(40);
        health.see(signs(Some(1000), 1001), later);
        assert!(!is_silent(&health, later + GRACE));
        // The node's clock went back.
        health.see(signs(Some(5), 1001), later + GRACE);
        assert!(!is_silent(&health, later + GRACE * 2));
        // An older lease, of a cache that lags, is none.
        health.see(signs(Some(5), 900), later + GRACE * 2);
        assert!(is_silent(&health, later + GRACE * 2 + Duration::from_secs(1)));
    }

    #[test]
    fn a_node_that_never_reported_is_silent_from_its_creation_on() {
        let now = Instant::now() + Duration::from_secs(1000);
        assert!(is_silent(&Health::first(signs(None, 0), Duration::from_secs(61), now), now));
        assert!(!is_silent(&Health::first(signs(None, 0), Duration::from_secs(59), now), now));
        assert!(!is_silent(&Health::first(signs(None, 1), Duration::from_secs(61), now), now), "its lease is alive");
    }
}
