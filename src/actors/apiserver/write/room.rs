//! What is not written while memory is short.
//!
//! Every object is held in memory. Whoever may create objects could end the process, and with it the node and everybody's other
//! work. So near the limit nothing new is taken in, and nothing that is there may grow much; reads, deletions, states and small
//! changes go on, and with them all that makes room again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use troupe_api::{
    auth::{chain::MASTERS, node::NODES},
    meta::Object,
    resources::Feature,
    status::Status,
    stored::{StoredObject, encode_for_store},
};

use super::Writer;
use crate::apiserver::{bootstrap::SERVER, core::Core};

/// An object may grow by this many bytes at a time all the same.
const SMALL: usize = 16 << 10;
/// And all objects together by this many, as long as memory stays short: small changes add up.
const ALL_SMALL: usize = 32 << 20;
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

/// How much all objects grew since memory became short.
#[derive(Debug, Default)]
pub struct Growth(AtomicUsize);

impl Growth {
    /// Whether there is room for so much more.
    fn takes(&self, bytes: usize) -> bool {
        let fits = |grown: usize| grown.checked_add(bytes).filter(|all| *all <= ALL_SMALL);
        self.0.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    fn begin_anew(&self) {
        self.0.store(0, Relaxed);
    }
}

impl Core {
    /// 429 for a new object while memory is short.
    pub(super) fn check_room_to_create(&self, writer: &Writer) -> Result<(), Status> {
        if !self.memory.is_short() || is_vital(writer) { Ok(()) } else { Err(short()) }
    }

    /// 429 for an object that would grow much while memory is short.
    pub(super) fn check_room_to_grow(&self, writer: &Writer, new: &Object, current: &Arc<StoredObject>) -> Result<(), Status> {
        if !self.memory.is_short() {
            self.growth.begin_anew();
            return Ok(());
        }
        let grows = encode_for_store(new).len().saturating_sub(current.encoded().len());
        if grows == 0 || grows <= SMALL && (is_own(writer) || self.growth.takes(grows)) { Ok(()) } else { Err(short()) }
    }
}

fn short() -> Status {
    Status::too_many_requests("the API server is short of memory: it takes in nothing new until objects are deleted", AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_do_not_add_up_for_ever() {
        let growth = Growth::default();
        assert!((0..ALL_SMALL / SMALL).all(|_| growth.takes(SMALL)));
        assert!(!growth.takes(1));
        growth.begin_anew();
        assert!(growth.takes(1));
    }
}
