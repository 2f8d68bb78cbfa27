//! When the changes were made that endpoints reflect: `endpoints.kubernetes.io/last-change-trigger-time`, by which others measure how long a
//! change takes until the network shows it.
//!
//! In: a Service and the pods that it selects, at each look. Out: when the earliest change since the look before was made. It is told with what
//! is written anyway, and is no reason to write.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use parking_lot::Mutex;
use troupe_api::meta::ObjectKey;

use super::pods::EndpointPod;

/// When the newest change was made that the object reflects.
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen at the last look at each Service. Whoever begins knows of none.
#[derive(Debug, Default)]
pub struct TriggerTimes(Mutex<HashMap<ObjectKey, Seen>>);

/// The times of a Service and of its pods, these by name.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    created: Option<Timestamp>,
    pods: HashMap<Arc<str>, Timestamp>,
}

impl TriggerTimes {
    /// Notes what is there, and says when the earliest change since the last look was made; of a Service that was not known, when that was
    /// made. One look at a Service at a time.
    pub fn look(&self, key: &ObjectKey, service: &Service, pods: &[Arc<EndpointPod>]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let before = self.0.lock().remove(key);
        let (seen, triggered) = look(before.as_ref(), created, pods);
        self.0.lock().insert(key.clone(), seen);
        triggered
    }

    /// A Service is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

fn look(before: Option<&Seen>, created: Option<Timestamp>, pods: &[Arc<EndpointPod>]) -> (Seen, Option<Timestamp>) {
    let times = pods.iter().filter_map(|pod| Some((pod.meta.name.clone(), pod.readiness_changed?)));
    let seen = Seen { created, pods: times.collect() };
    let Some(before) = before else { return (seen, created) };
    let newer = seen.pods.iter().filter(|(name, time)| before.pods.get(*name).is_none_or(|known| *time > known)).map(|(_, time)| *time);
    let made = created.filter(|_| created > before.created);
    let earliest = newer.chain(made).min();
    (seen, earliest)
}

/// Tells the time in an object that is to be written. Where none is known an older one is taken away: it is not this change's.
pub fn tell(metadata: &mut ObjectMeta, triggered: Option<Timestamp>) {
    if let Some(time) = triggered {
        metadata.annotations.get_or_insert_default().insert(LAST_CHANGE.into(), time.to_string());
        return;
    }
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_CHANGE);
    }
    metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::digest_of;

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}Z").parse().expect("a time")
    }

    fn pod(name: &str, changed: Option<&str>) -> Arc<EndpointPod> {
        let changed = changed.map(|time| at(time).to_string());
        let conditions = json!([{"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "True", "lastTransitionTime": changed}]);
        digest_of(&serde_json::from_value::<Pod>(json!({"metadata": {"name": name}, "status": {"conditions": conditions}})).expect("a pod"))
    }

    fn service(created: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "creationTimestamp": at(created).to_string()}})).expect("a service")
    }

    #[test]
    fn the_earliest_change_since_the_last_look_counts() {
        let (times, key) = (TriggerTimes::default(), ObjectKey::new("n", "s"));
        let look = |service: &Service, pods: &[Arc<EndpointPod>]| times.look(&key, service, pods);
        let made = service("01:00:00");
        let (old, new, newer) = (pod("a", Some("00:30:00")), pod("b", Some("02:00:00")), pod("c", Some("03:00:00")));
        assert_eq!(look(&made, std::slice::from_ref(&old)), Some(at("01:00:00")), "a new Service's own time counts");
        assert_eq!(look(&made, std::slice::from_ref(&old)), None, "nothing changed");
        assert_eq!(look(&made, &[old.clone(), newer.clone(), new.clone()]), Some(at("02:00:00")));
        assert_eq!(look(&made, &[old.clone(), new.clone()]), None, "of a pod that goes no time is known");
        assert_eq!(look(&made, &[pod("a", Some("00:29:00")), new.clone()]), None, "time goes on");
        assert_eq!(look(&made, &[old.clone(), new.clone(), pod("d", None)]), Some(at("00:30:00")), "that it went back is remembered");
        assert_eq!(look(&service("04:00:00"), &[old.clone(), new.clone()]), Some(at("04:00:00")), "it was made anew");
        times.forget(&key);
        assert_eq!(look(&made, &[old, new, newer]), Some(at("01:00:00")));
    }

    #[test]
    fn an_object_tells_of_the_change_that_is_written_and_of_no_other() {
        let mut metadata = ObjectMeta::default();
        tell(&mut metadata, Some(at("01:00:00")));
        assert_eq!(metadata.annotations.as_ref().and_then(|told| told.get(LAST_CHANGE)).map(String::as_str), Some("2026-01-01T01:00:00Z"));
        tell(&mut metadata, None);
        assert_eq!(metadata, ObjectMeta::default());
    }
}
