use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;
use troupe_api::meta::ObjectKey;

use super::*;
use crate::scheduler::{
    framework::{Event, Plugin, Point, Profile},
    object_lookup::NoObjects,
    placed_pod::PlacedPod,
    plugins::default_profile,
    pod_info::PodInfo,
};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("n", name)
}

/// Plugins cannot see the pods: whatever a plugin looks at may help.
fn hints(profiles: &Profiles) -> HintContext<'_> {
    HintContext { profiles, pod: &|_| None, whole: &|_| None }
}

fn node_added() -> ClusterChange {
    ClusterChange::NodeAdded(Arc::default())
}

fn pod_removed() -> ClusterChange {
    ClusterChange::PodRemoved(Arc::new(PlacedPod::of(&Pod::default())))
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
fn a_pod_that_changes_is_tried_again_where_that_may_help_it() {
    let (now, profiles) = (Instant::now(), Profiles::from(default_profile()));
    let pod = |label: &str| {
        let tree = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": label}}, "spec": {"containers": []}});
        Arc::new(serde_json::from_value::<Pod>(tree).expect("a pod"))
    };
    let change = ClusterChange::WaitingPodUpdated { old: pod("one"), new: pod("other") };
    let info = |_: &ObjectKey| Some(PodInfo::new(pod("other"), &NoObjects));
    let with = HintContext { profiles: &profiles, pod: &info, whole: &info };
    for (plugin, in_flight, is_tried) in [
        ("NodeResourcesFit", false, false),
        ("NodeResourcesFit", true, false),
        ("InterPodAffinity", false, true),
        ("InterPodAffinity", true, true),
        (EXTENDER, false, true),
    ] {
        let mut queue = SchedulingQueue::default();
        queue.updated(&key("a"), 0, change.clone(), &with, now);
        let popped = queue.pop(now).expect("one that is not known is new");
        if in_flight {
            queue.updated(&popped, 0, change.clone(), &with, now);
        }
        queue.unschedulable(&popped, vec![plugin], false, &with, now);
        if !in_flight {
            assert_eq!(queue.depth().unschedulable, 1);
            queue.updated(&popped, 0, change.clone(), &with, now);
        }
        assert_eq!(queue.depth().unschedulable == 0, is_tried, "{plugin}, in flight: {in_flight}");
    }
}

#[test]
fn an_unschedulable_pod_wakes_only_for_changes_that_may_help() {
    let mut queue = SchedulingQueue::new(Backoffs { cut_short: false, ..Backoffs::default() });
    let (now, profile) = (Instant::now(), Profiles::from(default_profile()));
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.unschedulable(&popped, vec!["NodeName"], false, &hints(&profile), now);
    queue.cluster_changed(pod_removed(), &hints(&profile), now);
    assert_eq!(queue.depth().unschedulable, 1);
    queue.cluster_changed(node_added(), &hints(&profile), now);
    assert_eq!(queue.depth(), QueueDepth { backoff: 1, ..QueueDepth::default() });
    assert_eq!(queue.pop(now), None);
    assert_eq!(queue.pop(now + Duration::from_secs(1)), Some(key("a")));
}

#[test]
fn a_pod_that_costs_much_rests_longer_than_its_backoff() {
    let (mut queue, now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
    let seconds = Duration::from_secs;
    for (name, rest) in [("much", 20), ("little", 0)] {
        queue.upsert(key(name), 0, now);
        let popped = queue.pop(now).expect("one is there");
        queue.rests(&popped, seconds(rest));
        queue.unschedulable(&popped, vec!["NodeName"], false, &hints(&profile), now);
    }
    queue.cluster_changed(node_added(), &hints(&profile), now);
    assert_eq!(queue.pop(now + seconds(1)), Some(key("little")));
    assert_eq!(queue.pop(now + seconds(19)), None);
    assert_eq!(queue.pop(now + seconds(20)), Some(key("much")));
    queue.failed(&key("much"), now);
    assert_eq!((queue.pop(now + seconds(19)), queue.pop(now + seconds(20))), (None, Some(key("much"))));
}

#[test]
fn pods_that_changes_may_have_helped_are_tried_before_their_backoff_ends_when_no_other_is_active() {
    let (mut queue, now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
    // Tried twice, "late" rests longer than the others; only an error keeps "failed" from its node, and "costly" rests in any case.
    for (name, attempts) in [("late", 2), ("low", 1), ("high", 1), ("failed", 1), ("costly", 1)] {
        queue.upsert(key(name), i32::from(name == "high"), now);
        for _ in 0..attempts {
            queue.cluster_changed(node_added(), &hints(&profile), now);
            assert_eq!(queue.pop(now), Some(key(name)));
            match name {
                "failed" => queue.failed(&key(name), now),
                "costly" => queue.rests(&key(name), Duration::from_secs(1)),
                _ => {}
            }
            queue.unschedulable(&key(name), vec!["NodeName"], false, &hints(&profile), now);
        }
    }
    queue.cluster_changed(node_added(), &hints(&profile), now);
    assert_eq!(queue.depth(), QueueDepth { backoff: 5, ..QueueDepth::default() });
    queue.upsert(key("active"), 0, now);
    assert_eq!(queue.pop(now), Some(key("active")));
    queue.upsert(key("low"), 7, now);
    for name in ["low", "high", "late"] {
        assert_eq!(queue.pop(now), Some(key(name)));
    }
    assert_eq!((queue.pop(now), queue.depth().backoff), (None, 2));
    assert_eq!(queue.pop(now + Duration::from_secs(1)), Some(key("failed")));
    assert_eq!((queue.pop(now + Duration::from_secs(1)), queue.depth()), (Some(key("costly")), QueueDepth::default()));
}

#[test]
fn pods_of_a_group_are_taken_out_together_wherever_they_wait() {
    let (mut queue, now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
    for (name, priority) in [("stuck", 0), ("resting", 0), ("active", 1)] {
        queue.upsert(key(name), priority, now);
    }
    queue.gate(key("gated"), 0, None, now);
    let popped: Vec<ObjectKey> = (0..3).filter_map(|_| queue.pop(now)).collect();
    assert_eq!(popped, [key("active"), key("stuck"), key("resting")]);
    queue.unschedulable(&key("stuck"), vec!["NodeName"], false, &hints(&profile), now);
    queue.failed(&key("resting"), now);
    assert!(!queue.pop_early(&key("active")), "an attempt is under way");
    assert!(!queue.pop_early(&key("gated")) && !queue.pop_early(&key("nobody")));
    assert!(queue.pop_early(&key("stuck")) && queue.pop_early(&key("resting")));
    assert_eq!(queue.depth(), QueueDepth { gated: 1, ..QueueDepth::default() });
    assert!(queue.is_in_flight(&key("stuck")) && queue.is_in_flight(&key("resting")));
    assert!(queue.rank(&key("active")) < queue.rank(&key("stuck")) && queue.rank(&key("stuck")) < queue.rank(&key("resting")));
    queue.cluster_changed(node_added(), &hints(&profile), now);
    assert_eq!(queue.pop(now + Duration::from_secs(60)), None, "nothing wakes what is tried just now");
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
    let (mut queue, now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.cluster_changed(node_added(), &hints(&profile), now);
    queue.unschedulable(&popped, vec!["NodeResourcesFit"], false, &hints(&profile), now);
    assert_eq!(queue.depth().unschedulable, 0);
}

#[test]
fn a_pod_that_waited_long_is_tried_again() {
    let (mut queue, now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
    queue.upsert(key("a"), 0, now);
    let popped = queue.pop(now).expect("one is there");
    queue.unschedulable(&popped, vec!["NodeName"], false, &hints(&profile), now);
    queue.flush_long_waiting(now + Duration::from_secs(299));
    assert_eq!(queue.depth().unschedulable, 1);
    queue.flush_long_waiting(now + Duration::from_secs(300));
    assert_eq!(queue.depth().active, 1);
}

/// Lets pods in when it is open, and looks at new nodes.
struct Gate(Arc<AtomicBool>);

impl Plugin for Gate {
    fn name(&self) -> &'static str {
        "Gate"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err("the gate is shut".into()) }
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded]
    }
}

#[test]
fn a_gated_pod_is_let_in_when_what_its_gate_looks_at_has_changed() {
    let (mut queue, now, open) = (SchedulingQueue::default(), Instant::now(), Arc::new(AtomicBool::new(false)));
    let gate: Arc<dyn Plugin> = Arc::new(Gate(open.clone()));
    let profiles = Profiles::from(Profile::of(vec![(gate, 0)]));
    let pod = |_: &ObjectKey| Some(PodInfo::new(Arc::default(), &NoObjects));
    // It is too large to be looked at after each change, which must not let it in.
    let with = HintContext { profiles: &profiles, pod: &|_| None, whole: &pod };
    queue.gate(key("other"), 0, Some("SchedulingGates"), now);
    queue.gate(key("a"), 0, Some("SchedulingGates"), now);
    queue.gate(key("a"), 0, Some("Gate"), now);
    queue.cluster_changed(node_added(), &with, now);
    assert_eq!((queue.pop(now), queue.depth().gated), (None, 2), "the gate is shut");
    open.store(true, Ordering::Relaxed);
    queue.cluster_changed(pod_removed(), &with, now);
    assert_eq!((queue.pop(now), queue.depth().gated), (None, 2), "the gate does not look at pods");
    queue.cluster_changed(node_added(), &with, now);
    assert_eq!((queue.pop(now), queue.depth().gated), (Some(key("a")), 1));
    queue.remove(&key("other"));
    assert_eq!((queue.depth().gated, queue.rejected.len()), (0, 0));
}

#[test]
fn a_gated_pod_is_not_popped_until_its_gates_are_gone() {
    let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
    queue.gate(key("a"), 0, None, now);
    assert_eq!((queue.pop(now), queue.depth().gated), (None, 1));
    queue.upsert(key("a"), 0, now);
    assert_eq!((queue.pop(now), queue.depth().gated), (Some(key("a")), 0));
}

#[test]
fn a_held_pod_is_tried_when_that_is_over_and_something_changed() {
    let profile = Profiles::from(default_profile());
    for (changes, retry, tried) in [(true, false, true), (false, false, false), (false, true, true)] {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.upsert(key("a"), 0, now);
        let popped = queue.pop(now).expect("one is there");
        queue.unschedulable(&popped, vec!["NodeResourcesFit"], true, &hints(&profile), now);
        if changes {
            queue.cluster_changed(pod_removed(), &hints(&profile), now);
            assert!(queue.rejected.is_empty(), "no further change needs to be compared with it");
        }
        let later = now + Duration::from_secs(2);
        assert_eq!(queue.pop(later), None, "others are still being removed for it");
        queue.unhold(&popped, retry, later);
        assert_eq!(queue.pop(later).is_some(), tried);
    }
}

#[test]
fn a_pod_that_room_was_made_for_goes_before_others_that_its_victims_kept_waiting() {
    let (mut queue, now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
    for (name, priority) in [("other", 0), ("preemptor", 10)] {
        queue.upsert(key(name), priority, now);
    }
    for held in [true, false] {
        let popped = queue.pop(now).expect("both are there");
        queue.unschedulable(&popped, vec!["NodeResourcesFit"], held, &hints(&profile), now);
    }
    let later = now + Duration::from_secs(2);
    queue.cluster_changed(pod_removed(), &hints(&profile), later);
    queue.unhold(&key("preemptor"), false, later);
    assert_eq!((queue.pop(later), queue.pop(later)), (Some(key("preemptor")), Some(key("other"))));
    queue.unschedulable(&key("preemptor"), vec!["NodeResourcesFit"], true, &hints(&profile), later);
    queue.cluster_changed(pod_removed(), &hints(&profile), later);
    queue.unhold(&key("preemptor"), false, later);
    assert_eq!(queue.pop(later), Some(key("preemptor")), "it does not rest before");
    assert_eq!(queue.depth(), QueueDepth::default());
}

proptest! {
    /// Whatever happens, each known pod is in exactly one place, and no pod is popped twice at once.
    #[test]
    fn no_pod_is_lost_or_doubled(steps in proptest::collection::vec((0_u8..9, 0_usize..4), 1..200)) {
        let (mut queue, mut now, profile) = (SchedulingQueue::default(), Instant::now(), Profiles::from(default_profile()));
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
                3 => if let Some(pod) = in_flight.pop() { queue.unschedulable(&pod, vec!["NodeName"], false, &hints(&profile), now); },
                4 => if let Some(pod) = in_flight.pop() { queue.failed(&pod, now); },
                5 => { queue.gate(pod.clone(), 0, Some("NodeName"), now); in_flight.retain(|key| *key != pod); known.insert(pod); }
                6 => if let Some(pod) = in_flight.pop() { queue.unschedulable(&pod, Vec::new(), true, &hints(&profile), now); },
                7 => queue.unhold(&pod, false, now),
                _ => queue.cluster_changed(node_added(), &hints(&profile), now),
            }
            let depth = queue.depth();
            prop_assert_eq!(depth.active + depth.backoff + depth.unschedulable + depth.gated + in_flight.len(), known.len());
        }
    }
}
