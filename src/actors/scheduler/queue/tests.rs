use std::time::{Duration, Instant};

use proptest::prelude::*;
use troupe_api::meta::ObjectKey;

use super::*;
use crate::scheduler::plugins::default_plugins;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("n", name)
}

#[test]
fn higher_priority_goes_first_and_equals_in_order_of_arrival() {
    let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0)] {
        queue.upsert(key(name), priority, now);
    }
    let order: Vec<String> = std::iter::from_fn(|| queue.pop(now)).map(|key| key.name.to_string()).collect();
    assert_eq!(order, ["b", "a", "c"]);
}

#[test]
fn an_unschedulable_pod_wakes_only_for_changes_that_may_help() {
    let (mut queue, now, plugins) = (SchedulingQueue::default(), Instant::now(), default_plugins());
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.unschedulable(&popped, vec!["NodeName"], &plugins, now);
    queue.cluster_changed(ClusterChange::PodRemoved, &plugins, now);
    assert_eq!(queue.depth().unschedulable, 1);
    queue.cluster_changed(ClusterChange::NodeAdded, &plugins, now);
    assert_eq!(queue.depth(), QueueDepth { active: 0, backoff: 1, unschedulable: 0 });
    assert_eq!(queue.pop(now), None);
    assert_eq!(queue.pop(now + Duration::from_secs(1)), Some(key("a")));
}

#[test]
fn a_pod_that_is_set_aside_waits_until_it_is_released() {
    let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.set_aside(&popped, now + Duration::from_secs(300));
    queue.upsert(key("a"), 0, now);
    assert_eq!(queue.pop(now + Duration::from_secs(299)), None, "a change alone does not help");
    queue.release(&popped);
    assert_eq!(queue.pop(now), Some(popped));
    assert_eq!(queue.next_wakeup(), None);
}

#[test]
fn a_change_during_an_attempt_is_not_lost() {
    let (mut queue, now, plugins) = (SchedulingQueue::default(), Instant::now(), default_plugins());
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.cluster_changed(ClusterChange::NodeAdded, &plugins, now);
    queue.unschedulable(&popped, vec!["NodeResourcesFit"], &plugins, now);
    assert_eq!(queue.depth().unschedulable, 0);
}

#[test]
fn a_pod_that_waited_long_is_tried_again() {
    let (mut queue, now, plugins) = (SchedulingQueue::default(), Instant::now(), default_plugins());
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.unschedulable(&popped, vec!["NodeName"], &plugins, now);
    queue.flush_long_waiting(now + Duration::from_secs(299));
    assert_eq!(queue.depth().unschedulable, 1);
    queue.flush_long_waiting(now + Duration::from_secs(300));
    assert_eq!(queue.depth().active, 1);
}

proptest! {
    /// Whatever happens, each known pod is in exactly one place, and no pod is popped twice at once.
    #[test]
    fn no_pod_is_lost_or_doubled(steps in proptest::collection::vec((0_u8..6, 0_usize..4), 1..200)) {
        let (mut queue, mut now, plugins) = (SchedulingQueue::default(), Instant::now(), default_plugins());
        let mut in_flight: Vec<ObjectKey> = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        for (action, pod) in steps {
            let pod = key(["a", "b", "c", "d"][pod]);
            now += Duration::from_millis(400);
            match action {
                0 => { queue.upsert(pod.clone(), 0, now); known.insert(pod); }
                1 => { queue.remove(&pod); known.remove(&pod); in_flight.retain(|key| *key != pod); }
                2 => if let Some(popped) = queue.pop(now) {
                    prop_assert!(!in_flight.contains(&popped));
                    in_flight.push(popped);
                },
                3 => if let Some(pod) = in_flight.pop() { queue.unschedulable(&pod, vec!["NodeName"], &plugins, now); },
                4 => if let Some(pod) = in_flight.pop() { queue.failed(&pod, now); },
                _ => queue.cluster_changed(ClusterChange::NodeAdded, &plugins, now),
            }
            let depth = queue.depth();
            prop_assert_eq!(depth.active + depth.backoff + depth.unschedulable + in_flight.len(), known.len());
        }
    }
}
