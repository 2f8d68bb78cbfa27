//! How many pods an owner gets now, whatever it asks for in the end. Pure.
//!
//! An owner may ask for two thousand million pods, and for pods as large as a request may be. It gets them in bursts, and only while those that
//! it has come to something: pods that nothing runs fill the store and everybody's caches, and more of them help nobody.

use std::{io, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use troupe_api::meta::time::passed;

use super::pods::PodStanding;

/// No more pods than this are created or deleted in one go (upstream's `BurstReplicas` and `MaxPodCreateDeletePerSync`).
pub const BURST: usize = 500;
/// An owner with so many pods that wait to run gets no more until some do.
pub const MOST_WAITING: usize = 2_000;
/// So has one whose pods that wait are so many bytes together.
const MOST_WAITING_BYTES: usize = 256 << 20;
/// Pods that failed count among those that wait while they are younger than this: what cannot run is not made in haste.
const RECENT: Duration = Duration::from_secs(600);
/// How soon an owner that is held back is looked at again, though no pod of it changes.
pub const AGAIN: Duration = Duration::from_secs(15);
/// The reason of the event that tells so.
pub const HELD_BACK: &str = "PodCreationHeldBack";

/// How many pods may be made now for the owner of `pods` from `template`.
pub fn room(pods: impl IntoIterator<Item = PodStanding>, template: &impl Serialize, now: Timestamp) -> usize {
    let waiting = pods.into_iter().filter(|pod| is_waiting(*pod, now)).count();
    let most = (MOST_WAITING_BYTES / length(template).max(1)).clamp(1, MOST_WAITING);
    most.saturating_sub(waiting).min(BURST)
}

/// How many bytes something is as JSON.
pub fn length(value: &impl Serialize) -> usize {
    let mut length = Length(0);
    // Counting fails at nothing.
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}

/// Counts bytes and keeps none.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// It was made and has not come to run: not yet, or not at all a while ago.
fn is_waiting(pod: PodStanding, now: Timestamp) -> bool {
    match pod.phase {
        "Pending" | "" => true,
        "Failed" => pod.created.is_some_and(|made| passed(made, now, RECENT) < RECENT),
        _ => false,
    }
}

/// What people are told about an owner that is held back.
pub fn held_back_message() -> String {
    let most = MOST_WAITING_BYTES >> 20;
    format!("{MOST_WAITING} pods of it, or {most} MiB of them, wait to run or failed lately: more are made when some of them run")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(phase: &str, made: &str, count: usize) -> Vec<PodStanding> {
        let pod = json!({"metadata": {"creationTimestamp": made}, "status": {"phase": phase}});
        vec![PodStanding::of(&serde_json::from_value(pod).expect("a pod")); count]
    }

    #[test]
    fn an_owner_whose_pods_do_not_run_gets_no_more_of_them() {
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let (young, old) = ("2026-01-01T00:55:00Z", "2026-01-01T00:00:00Z");
        assert_eq!(room(pods("Running", young, 5_000), &"", now), BURST);
        assert_eq!(room(pods("Pending", old, 1_600), &"", now), 400);
        assert_eq!(room(pods("Pending", old, 2_100), &"", now), 0);
        assert_eq!(room(pods("Failed", young, 2_000), &"", now), 0);
        assert_eq!(room(pods("Failed", old, 2_000), &"", now), BURST);
    }

    #[test]
    fn an_owner_of_large_pods_gets_fewer_of_them() {
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let template = "x".repeat(1 << 20);
        assert_eq!(room([], &template, now), 255);
        assert_eq!(room(pods("Pending", "2026-01-01T00:00:00Z", 200), &template, now), 55);
        assert_eq!(room(pods("Running", "2026-01-01T00:00:00Z", 1000), &template, now), 255);
        assert_eq!(room([], &"x".repeat(300 << 20), now), 1);
    }
}
