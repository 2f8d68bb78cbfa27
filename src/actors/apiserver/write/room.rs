//! What is not written while memory is short.
//!
//! Every object is held in memory. Whoever may create objects could end the process, and with it the node and everybody's other
//! work. So near the limit nothing new is taken in, and nothing that is there may grow much; reads, deletions, states and small
//! changes go on, and with them all that makes room again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use troupe_api::{
    auth::{groups::MASTERS, node::NODES},
    memory::MemoryGauge,
    meta::Object,
    resources::Feature,
    status::Status,
    stored::{StoredObject, encode_for_store},
};

use crate::apiserver::writer::{SERVER, Writer};

/// An object may grow by this many bytes at a time all the same.
const SMALL: usize = 16 << 10;
/// And all objects together by this many, as long as memory stays short: small changes add up.
const ALL_SMALL: usize = 32 << 20;
/// While memory is short, so much of large objects is overwritten at once, and so much more a second: what still reads old versions keeps
/// them for a while.
const OVERWRITTEN: f64 = (16 << 20) as f64;
const OVERWRITTEN_A_SECOND: f64 = (8 << 20) as f64;
/// When clients should ask again, in seconds.
const AGAIN: u32 = 5;
/// Where the cluster's own parts have what they live by; elsewhere it is anybody's who may make it.
const SYSTEM: [&str; 2] = ["kube-system", "kube-node-lease"];

fn is_vital(writer: &Writer) -> bool {
    let (resource, namespace) = (&writer.target.resource, &*writer.target.namespace);
    let in_system = resource.has(Feature::VitalInSystem) && SYSTEM.contains(&namespace);
    in_system || writer.user.name == SERVER || resource.has(Feature::Vital)
}

/// What the cluster's own parts write of objects that are there.
fn is_own(writer: &Writer) -> bool {
    !writer.target.subresource.is_empty() || writer.user.groups.iter().any(|group| group == MASTERS || group == NODES) || is_vital(writer)
}

/// How much all objects grew, and how much of large ones was overwritten, since memory became short.
#[derive(Debug, Default)]
struct Growth {
    grown: AtomicUsize,
    overwritten: Mutex<Option<Overwritten>>,
}

/// Bytes, as of a moment; they are forgotten with time.
#[derive(Clone, Copy, Debug)]
struct Overwritten {
    bytes: f64,
    at: Instant,
}

impl Growth {
    /// Whether there is room for so much more.
    fn takes(&self, bytes: usize) -> bool {
        let fits = |grown: usize| grown.checked_add(bytes).filter(|all| *all <= ALL_SMALL);
        self.grown.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Whether a large object may be overwritten by one of so many bytes now.
    fn takes_over(&self, bytes: usize, now: Instant) -> bool {
        let mut overwritten = self.overwritten.lock();
        let left = overwritten.map_or(0.0, |before| before.bytes - now.duration_since(before.at).as_secs_f64() * OVERWRITTEN_A_SECOND);
        let all = left.max(0.0) + bytes as f64;
        let fits = all <= OVERWRITTEN;
        if fits {
            *overwritten = Some(Overwritten { bytes: all, at: now });
        }
        fits
    }

    fn begin_anew(&self) {
        self.grown.store(0, Relaxed);
    }
}

/// The room that memory has for objects.
pub struct Room {
    memory: Arc<dyn MemoryGauge>,
    /// How much objects grew while there was none.
    growth: Growth,
}

impl Room {
    pub fn new(memory: Arc<dyn MemoryGauge>) -> Self {
        Room { memory, growth: Growth::default() }
    }

    /// Says whether there is any.
    pub fn memory(&self) -> &Arc<dyn MemoryGauge> {
        &self.memory
    }

    /// 429 for a new object while memory is short.
    pub fn check_create(&self, writer: &Writer) -> Result<(), Status> {
        if !self.memory.is_short() || is_vital(writer) { Ok(()) } else { Err(short()) }
    }

    /// 429 for an object that would grow much while memory is short.
    pub fn check_growth(&self, writer: &Writer, new: &Object, current: &Arc<StoredObject>) -> Result<(), Status> {
        if !self.memory.is_short() {
            self.growth.begin_anew();
            return Ok(());
        }
        let length = encode_for_store(new).len();
        let grows = length.saturating_sub(current.encoded_length());
        if length > SMALL && !is_own(writer) && !self.growth.takes_over(length, Instant::now()) {
            return Err(short());
        }
        if grows == 0 || grows <= SMALL && (is_own(writer) || self.growth.takes(grows)) { Ok(()) } else { Err(short()) }
    }
}

fn short() -> Status {
    Status::too_many_requests("the API server is short of memory: it takes in nothing new until objects are deleted", AGAIN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn small_changes_do_not_add_up_for_ever() {
        let growth = Growth::default();
        assert!((0..ALL_SMALL / SMALL).all(|_| growth.takes(SMALL)));
        assert!(!growth.takes(1));
        growth.begin_anew();
        assert!(growth.takes(1));
    }

    #[test]
    fn large_objects_are_overwritten_at_a_pace() {
        let (growth, begun) = (Growth::default(), Instant::now());
        assert!((0..16).all(|_| growth.takes_over(1 << 20, begun)));
        assert!(!growth.takes_over(1 << 20, begun), "what waits unread may hold all of them");
        let later = begun + Duration::from_secs(1);
        assert!((0..8).all(|_| growth.takes_over(1 << 20, later)));
        assert!(!growth.takes_over(1 << 20, later));
    }
}
