//! Tests of the key queue.

use std::sync::Arc;

use proptest::prelude::*;
use troupe_api::meta::time::FAR;

use super::*;

impl InTurn for u8 {
    fn turn(&self) -> &Arc<str> {
        of_nobody()
    }
}

fn queue() -> KeyQueue<u8> {
    KeyQueue::new(QueuePolicy { failures: 3, ..QueuePolicy::default() })
}

#[test]
fn a_key_added_twice_runs_once_and_one_added_in_flight_runs_again() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.add(1, Cause::default());
    queue.add(1, Cause::default());
    assert_eq!(queue.next(now).map(|(key, _)| key), Some(1));
    assert!(queue.next(now).is_none());
    queue.add(1, Cause::default());
    assert!(queue.next(now).is_none());
    queue.done(&1, Verdict::Done, now);
    assert_eq!(queue.next(now).map(|(key, _)| key), Some(1));
}

#[test]
fn what_is_added_to_a_key_at_rest_is_one_attempt_after_it() {
    let (mut queue, now) = (queue(), Instant::now());
    let rest = |again_after| Verdict::Rest { least: Duration::from_millis(100), again_after };
    let after = |milliseconds| now + Duration::from_millis(milliseconds);
    queue.add(1, Cause::default());
    assert!(queue.next(now).is_some());
    // What came while it was in flight waits as well.
    queue.add(1, Cause::default());
    queue.done(&1, rest(None), now);
    queue.add(1, Cause::default());
    queue.add(1, Cause::default());
    assert!(queue.next(after(99)).is_none());
    assert_eq!(queue.next_due(), Some(after(100)));
    assert!(queue.next(after(100)).is_some());
    assert!(queue.next(after(100)).is_none());
    queue.done(&1, rest(None), after(100));
    assert!(queue.next(after(200)).is_none(), "nobody added it");
    assert_eq!((queue.next_due(), queue.slots.len()), (None, 0));
    queue.add(1, Cause::default());
    assert!(queue.next(after(200)).is_some(), "it has rested");
}

#[test]
fn a_key_at_rest_keeps_its_appointments() {
    let (mut queue, now) = (queue(), Instant::now());
    let after = |milliseconds| now + Duration::from_millis(milliseconds);
    let rest = |again_after| Verdict::Rest { least: Duration::from_millis(100), again_after };
    queue.add(1, Cause::default());
    assert!(queue.next(now).is_some());
    queue.done(&1, rest(Some(Duration::from_millis(500))), now);
    queue.add_after(1, Duration::from_millis(300), Cause::default(), now);
    assert!(queue.next(after(299)).is_none());
    assert!(queue.next(after(300)).is_some());
    queue.done(&1, rest(Some(Duration::from_millis(10))), after(300));
    assert!(queue.next(after(399)).is_none(), "not before its rest is over");
    assert!(queue.next(after(400)).is_some());
    queue.done(&1, rest(None), after(400));
    queue.add(1, Cause::default());
    queue.set_aside(1);
    assert!(queue.next(after(1000)).is_none());
    queue.release(&1);
    assert!(queue.next(after(1000)).is_some());
}

#[test]
fn a_key_that_is_set_aside_is_not_tried_until_it_is_released() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.add(1, Cause::default());
    queue.set_aside(1);
    queue.add(1, Cause::default());
    queue.add_after(1, Duration::ZERO, Cause::default(), now);
    assert!(queue.next(now + FAR).is_none());
    assert!(queue.is_quarantined(&1));
    queue.release(&1);
    assert_eq!(queue.next(now).map(|(key, _)| key), Some(1));
}

#[test]
fn a_failing_key_backs_off_and_is_quarantined_then_freed_by_success() {
    let (mut queue, mut now) = (queue(), Instant::now());
    queue.add(1, Cause::default());
    for attempt in 1..=3 {
        assert!(queue.next(now).is_some());
        assert_eq!(queue.done(&1, Verdict::Failed, now), attempt == 3);
        queue.add(1, Cause::default());
        assert!(queue.next(now).is_none(), "a wake-up does not end the backoff");
        now = queue.next_due().expect("delayed");
    }
    assert_eq!(queue.quarantined().len(), 1);
    assert!(queue.next(now).is_some());
    queue.done(&1, Verdict::Done, now);
    assert!(queue.quarantined().is_empty());
}

#[test]
fn each_failure_doubles_the_pause_up_to_the_longest() {
    let (mut queue, start) = (KeyQueue::new(QueuePolicy::backing_off(Duration::from_secs(1), Duration::from_secs(60))), Instant::now());
    queue.add(1, Cause::default());
    let (mut now, mut pauses) = (start, Vec::new());
    for _ in 0..16 {
        assert!(queue.next(now).is_some());
        queue.done(&1, Verdict::Failed, now);
        let due = queue.next_due().expect("delayed");
        pauses.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60], "in quarantine, too");
}

#[test]
fn a_key_that_backs_off_may_be_hurried_and_its_failures_count_on() {
    let (mut queue, start) = (KeyQueue::new(QueuePolicy::default()), Instant::now());
    let mut now = start;
    queue.add(1, Cause::default());
    for _ in 0..11 {
        assert!(queue.next(now).is_some());
        queue.hurry(&1, now);
        assert!(!queue.done(&1, Verdict::Failed, now));
        now = queue.next_due().expect("delayed");
    }
    let failed_at = now - Duration::from_millis(5 << 10);
    let soon = failed_at + Duration::from_millis(100);
    assert!(queue.backs_off_beyond(&1, soon) && queue.next(soon).is_none());
    queue.hurry(&1, soon);
    queue.hurry(&1, soon + Duration::from_secs(1));
    assert_eq!((queue.next_due(), queue.backs_off_beyond(&1, soon)), (Some(soon), false));
    assert!(queue.next(soon).is_some());
    queue.done(&1, Verdict::Failed, soon);
    assert_eq!(queue.next_due(), Some(soon + Duration::from_millis(5 << 11)), "it backs off for longer than before");
    queue.hurry(&2, soon);
    assert_eq!(queue.delayed(), 1, "only keys that back off are hurried");
}

#[test]
fn a_wake_up_leaves_a_key_in_quarantine_and_a_release_does_not() {
    let (mut queue, mut now) = (queue(), Instant::now());
    queue.add(1, Cause::default());
    for _ in 0..3 {
        assert!(queue.next(now).is_some());
        queue.done(&1, Verdict::Panicked, now);
        now = queue.next_due().expect("delayed");
    }
    now -= Duration::from_secs(299);
    queue.add(1, Cause::default());
    assert!(queue.is_quarantined(&1) && queue.next(now).is_none());
    queue.release(&1);
    assert!(!queue.is_quarantined(&1) && queue.next(now).is_some());
    assert!(!queue.done(&1, Verdict::Panicked, now), "it begins anew");
    queue.release(&1);
    assert!(queue.next(now).is_none(), "only quarantined keys are released");
}

#[test]
fn a_wait_that_no_clock_counts_to_is_broken_off() {
    let (mut queue, now) = (queue(), Instant::now());
    for wait in [Duration::MAX, Duration::from_secs(1 << 62)] {
        queue.add_after(1, wait, Cause::default(), now);
        queue.add(2, Cause::default());
        assert_eq!(queue.next(now).map(|(key, _)| key), Some(2));
        queue.done(&2, Verdict::RequeueAfter(wait), now);
        assert!(queue.next(now).is_none());
        assert_eq!(queue.next_due(), Some(now + FAR));
    }
}

proptest! {
    #[test]
    fn no_key_is_ever_in_flight_twice_and_no_wake_up_is_lost(steps in prop::collection::vec((0u8..4, 0u8..5, 0u64..50), 1..200)) {
        let mut queue = queue();
        let mut now = Instant::now();
        let mut flying = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        for (action, key, wait) in steps {
            now += Duration::from_millis(wait);
            match action {
                0 => { queue.add(key, Cause::default()); wanted.insert(key); }
                1 => if let Some((key, _)) = queue.next(now) { prop_assert!(flying.insert(key)); wanted.remove(&key); },
                2 => if let Some(key) = flying.pop_first() {
                    let least = Duration::from_millis(wait);
                    queue.done(&key, if wait % 2 == 0 { Verdict::Done } else { Verdict::Rest { least, again_after: None } }, now);
                },
                _ => if let Some(key) = flying.pop_first() { queue.done(&key, Verdict::Failed, now); wanted.insert(key); },
            }
        }
        for key in flying { queue.done(&key, Verdict::Done, now); }
        for _ in 0..100 {
            while let Some((key, _)) = queue.next(now) { wanted.remove(&key); queue.done(&key, Verdict::Done, now); }
            match queue.next_due() { Some(due) => now = due, None => break }
        }
        prop_assert!(wanted.is_empty(), "{wanted:?} were forgotten");
        prop_assert_eq!(queue.slots.len(), 0);
    }
}
