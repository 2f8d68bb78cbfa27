//! Writes that found no room: they wait a moment for it, since whoever fills a node's disk is stopped within seconds.
//!
//! The moment begins when room runs out, not with each write: on a disk that stays full nobody is kept waiting.

use std::time::{Duration, Instant};

use troupe_api::meta::Revision;

use super::writer::Request;
use crate::store::StoreError;

/// The writes that wait, in the order in which they came.
pub struct Waiting {
    patience: Duration,
    /// Since when there is no room.
    since: Option<Instant>,
    requests: Vec<Request>,
    /// Writes in whose midst the disk was full, with the revisions that they have if they happened.
    unsettled: Vec<(Request, Revision)>,
}

impl Waiting {
    pub fn new(patience: Duration) -> Self {
        Waiting { patience, since: None, requests: Vec::new(), unsettled: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.unsettled.is_empty()
    }

    /// Whether room is still hoped for. The moment begins now, if it has not.
    pub fn is_patient(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(*self.since.get_or_insert(now)) < self.patience
    }

    /// There is room.
    pub fn end(&mut self) {
        self.since = None;
    }

    pub fn push(&mut self, request: Request) {
        self.requests.push(request);
    }

    pub fn push_unsettled(&mut self, request: Request, revision: Revision) {
        self.unsettled.push((request, revision));
    }

    /// What is to be tried again; behind it comes what is new.
    pub fn take(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// The disk says what happened: all up to `current`. The rest has to be tried again.
    pub fn settle(&mut self, current: Revision) {
        let mut again = Vec::new();
        for (request, revision) in self.unsettled.drain(..) {
            if revision <= current {
                // The caller may have gone; the write stands all the same.
                let _ = request.reply.send(Ok(revision));
            } else {
                again.push(request);
            }
        }
        again.append(&mut self.requests);
        self.requests = again;
    }

    /// The moment is over, and the disk did not say what happened.
    pub fn give_up_unsettled(&mut self) {
        for (request, _) in self.unsettled.drain(..) {
            // The caller may have gone.
            let _ = request.reply.send(Err(StoreError::Unknown("the disk was full".into())));
        }
    }
}
