//! The one writer thread: batches concurrent writes into one fsync, expires keys, compacts, gives disk back.
//!
//! In: [`Request`]s. Out: replies and published events, both only after the batch is on disk. A write that cannot be
//! made durable has an unknown outcome, so the process exits: what it would say next could be wrong. Only a full disk
//! is outlived (see [`outage`]).

use std::{
    collections::BTreeMap,
    io,
    iter::Peekable,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_api::meta::Revision;

use super::{
    EmbeddedOptions,
    cleaning::{self, Cleaning},
    commit::{Action, Commit, WriteOp},
    index,
    log::{Batch, Entry, Log},
    outage::{self, ExitOnPanic, PAUSE, SHORT_PAUSE, exit_unknown},
    record::Record,
    retention::{HistoryBound, Retention},
    shared::SharedStore,
    space::{Space, SpaceMark},
    waiting::Waiting,
};
use crate::store::{StoreError, StoreEvent, size};

/// Writes that share one fsync at most.
const BATCH: usize = 1024;
/// And their bytes, but for the last one's.
const BATCH_BYTES: usize = 4 << 20;
/// How often the writer looks after expiry, progress and compaction when nobody writes.
const TICK: Duration = Duration::from_millis(500);

/// What the writer is asked. The permit bounds how many requests wait.
pub struct Request {
    pub ask: Ask,
    pub reply: oneshot::Sender<Result<Revision, StoreError>>,
    pub _permit: OwnedSemaphorePermit,
}

/// Kinds of requests.
pub enum Ask {
    Write(WriteOp),
    /// Answered with the compacted revision.
    Compact(Revision),
}

/// What became of a write.
enum Outcome {
    Settled(Result<Revision, StoreError>),
    /// The disk was full in its midst: it has this revision if it happened.
    Unsettled(Revision),
}

/// The state only the writer has.
pub struct Writer {
    shared: SharedStore,
    /// By expiry and revision; entries of overwritten versions are skipped when due. Times to live run by the monotonic
    /// clock: setting the wall clock expires nothing.
    expiries: BTreeMap<(Instant, Revision), Bytes>,
    log: Log,
    cleaning: Cleaning,
    segment_bytes: u64,
    space: SpaceMark,
    /// Whether anything could be written in the last turn.
    could_write: bool,
    /// The disk was full: nothing is written until it has room, and not before this time.
    outage: Option<Instant>,
    waiting: Waiting,
    /// A compaction that memory has made and the disk has not.
    forgotten: Option<Revision>,
    retention: Retention,
    history_bound: HistoryBound,
}

impl Writer {
    pub fn new(shared: SharedStore, log: Log, expiries: Vec<(u64, Revision, Bytes)>, space: SpaceMark, options: &EmbeddedOptions) -> Self {
        let (now, wall) = (Instant::now(), now_millis());
        let retention = Retention::new(options.retention, now, shared.state.read().current);
        let deadline = |expiry: u64| now + Duration::from_millis(expiry.saturating_sub(wall));
        let expiries = expiries.into_iter().map(|(expiry, revision, key)| ((deadline(expiry), revision), key)).collect();
        let &EmbeddedOptions { patience, segment_bytes, history_on_disk, .. } = options;
        let history_bound = HistoryBound::new(history_on_disk, space.total(), segment_bytes);
        Writer {
            shared,
            expiries,
            log,
            cleaning: Cleaning::default(),
            segment_bytes,
            space,
            could_write: true,
            outage: None,
            waiting: Waiting::new(patience),
            forgotten: None,
            retention,
            history_bound,
        }
    }

    /// Serves requests until all senders are gone.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let _guard = ExitOnPanic;
        loop {
            let wait = match () {
                () if !self.waiting.is_empty() => SHORT_PAUSE,
                () if self.could_write && self.outage.is_none() && self.has_cleaning() => Duration::from_millis(1),
                () => TICK,
            };
            match requests.recv_timeout(wait) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(requests.try_iter().take(BATCH - 1));
                    self.serve(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.serve(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One turn: expiry, writes, compaction and cleaning in one durable batch, then replies.
    fn serve(&mut self, batch: Vec<Request>) {
        let idle = batch.is_empty();
        self.could_write = self.may_write();
        let mut requests = self.waiting.take();
        requests.extend(batch);
        let mut requests = requests.into_iter().peekable();
        loop {
            let batch = take_batch(&mut requests);
            if self.could_write && self.outage.is_none() {
                self.serve_writes(batch);
            } else {
                self.refuse(batch);
            }
            if requests.peek().is_none() {
                break;
            }
        }
        size::takes(size::CLUSTER, self.log.bytes());
        if idle {
            let mut state = self.shared.state.write();
            let current = state.current;
            state.watchers.progress(current);
        }
    }

    /// Answers where nothing can be written, and lets wait what may still be.
    fn refuse(&mut self, batch: Vec<Request>) {
        let patient = self.waiting.is_patient(Instant::now());
        if !patient {
            self.waiting.give_up_unsettled();
        }
        let state = self.shared.state.read();
        let mut commit = Commit::new(&state.index, state.current, now_millis(), Space::None);
        for request in batch {
            let refusal = match &request.ask {
                Ask::Write(op) => commit.judge(op.clone()),
                Ask::Compact(_) => Err(StoreError::NoSpace),
            };
            if patient && matches!((&request.ask, &refusal), (Ask::Write(_), Err(StoreError::NoSpace))) {
                self.waiting.push(request);
            } else {
                // The caller may have gone.
                let _ = request.reply.send(refusal);
            }
        }
    }

    fn serve_writes(&mut self, batch: Vec<Request>) {
        let mut writes = Vec::with_capacity(batch.len());
        let mut ops = self.due();
        let expired = ops.len();
        let mut compactions = Vec::new();
        let mut compact = self.outdated();
        for request in batch {
            match &request.ask {
                Ask::Write(op) => {
                    ops.push(op.clone());
                    writes.push(request);
                }
                Ask::Compact(revision) => match self.compactable(*revision) {
                    Ok(()) => {
                        compact = compact.max(Some(*revision));
                        compactions.push((request.reply, *revision));
                    }
                    // The caller may have gone.
                    Err(error) => drop(request.reply.send(Err(error))),
                },
            }
        }
        let mut outcomes = self.commit(ops, compact);
        let short = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Unsettled(_) | Outcome::Settled(Err(StoreError::NoSpace))));
        let patient = short && self.waiting.is_patient(Instant::now());
        for (outcome, request) in outcomes.split_off(expired).into_iter().zip(writes) {
            let settled = match outcome {
                Outcome::Unsettled(revision) if patient => {
                    self.waiting.push_unsettled(request, revision);
                    continue;
                }
                Outcome::Settled(Err(StoreError::NoSpace)) if patient => {
                    self.waiting.push(request);
                    continue;
                }
                Outcome::Unsettled(_) => Err(StoreError::Unknown("the disk was full".into())),
                Outcome::Settled(settled) => settled,
            };
            // The caller may have gone; the write stands all the same.
            let _ = request.reply.send(settled);
        }
        for (reply, revision) in compactions {
            // As above. Memory has forgotten; the disk follows when it can.
            let _ = reply.send(Ok(revision));
        }
    }

    /// Up to which revision history is too old, or too much, and must go.
    fn outdated(&mut self) -> Option<Revision> {
        let now = Instant::now();
        let space = self.space.look(now);
        let state = self.shared.state.read();
        let by_size = self.history_bound.excess(state.index.history_bytes(), space).and_then(|bytes| state.index.revision_that_frees(bytes));
        if let Some(revision) = by_size {
            tracing::info!(bytes = state.index.history_bytes(), %revision, "the store's history is too large, older revisions go");
        }
        self.retention.due(now, state.current).max(by_size).filter(|revision| *revision > state.compacted)
    }

    /// Whether the disk has room, after an outage too.
    fn may_write(&mut self) -> bool {
        let now = Instant::now();
        let space = self.space.look(now);
        if space == Space::None {
            return false;
        }
        if let Some(again) = self.outage {
            if now < again || !self.space.has_room() {
                return false;
            }
            if !self.mend() {
                self.outage = Some(self.next_try());
                return false;
            }
            tracing::info!("the store accepts writes again");
            self.outage = None;
        }
        if space == Space::Plenty {
            self.waiting.end();
        }
        true
    }

    /// When a full disk is tried again.
    fn next_try(&mut self) -> Instant {
        let now = Instant::now();
        now + if self.waiting.is_patient(now) { SHORT_PAUSE } else { PAUSE }
    }

    /// Takes back what a failed write has left; `false` while the disk is too full for that.
    fn mend(&mut self) -> bool {
        match self.log.mend() {
            Ok(()) => {
                let current = self.shared.state.read().current;
                self.waiting.settle(current);
                true
            }
            Err(error) if outage::is_full(&error) => {
                tracing::warn!(%error, "the log cannot be put in order while the disk is full");
                false
            }
            Err(error) => exit_unknown(&error),
        }
    }

    fn note_expiry(&mut self, revision: Revision, record: &Record, now: Instant, wall: u64) {
        if let Some(expiry) = record.expiry {
            let deadline = now + Duration::from_millis(expiry.saturating_sub(wall));
            self.expiries.insert((deadline, revision), record.key.clone());
        }
    }

    /// Makes the writes that succeed durable, then visible. One outcome for each write, in order.
    fn commit(&mut self, ops: Vec<WriteOp>, compact: Option<Revision>) -> Vec<Outcome> {
        let (now, wall) = (Instant::now(), now_millis());
        let space = self.space.look(now);
        let state = self.shared.state.read();
        let mut commit = Commit::new(&state.index, state.current, wall, space);
        let outcomes: Vec<_> = ops.into_iter().map(|op| commit.judge(op)).collect();
        let Commit { events, records, .. } = commit;
        // What is written must never fall behind what is forgotten already.
        let compact = compact.filter(|revision| *revision > state.compacted);
        drop(state);
        if let Some(revision) = compact {
            self.forget(revision);
        }
        self.forgotten = self.forgotten.max(compact);
        match self.write(&records, events) {
            Ok(()) => {}
            Err(error) if outage::is_full(&error) => {
                tracing::error!(%error, "the disk is full, nothing is written until it has space");
                return self.interrupted(outcomes);
            }
            Err(error) => exit_unknown(&error),
        }
        for (revision, record) in &records {
            self.note_expiry(*revision, record, now, wall);
        }
        outcomes.into_iter().map(Outcome::Settled).collect()
    }

    /// Makes one batch durable and then visible, and drops the oldest segment where nothing of it is needed any more.
    fn write(&mut self, records: &[(Revision, Record)], events: Vec<StoreEvent>) -> io::Result<()> {
        let mut batch = Batch::default();
        let (marks, carried) = {
            let state = self.shared.state.read();
            let is_due = self.cleaning.is_due(&self.log, &state.index, self.segment_bytes);
            let written = records.iter().map(|(_, record)| record.bytes() as u64).sum();
            let carried = if is_due { self.cleaning.carry(&self.log, &state.index, written, &mut batch) } else { Vec::new() };
            (state.marks(), carried)
        };
        for (revision, record) in records {
            batch.push(&Entry::Change { revision: *revision, superseded: None, record: &record.encode() });
        }
        if let Some(revision) = self.forgotten {
            batch.push(&Entry::Compacted(revision));
        }
        if !batch.is_empty() {
            let mut places = match self.log.append(&batch, marks) {
                Ok(places) => places.into_iter(),
                Err(error) => {
                    self.cleaning.begin_again();
                    return Err(error);
                }
            };
            self.forgotten = None;
            let values = events.iter().map(index::packed).collect();
            let mut state = self.shared.state.write();
            cleaning::relocate(&mut state.index, carried, &mut places);
            if !events.is_empty() {
                state.publish(events, values, places);
            }
        }
        match self.cleaning.drop_oldest(&mut self.log) {
            // It is tried again.
            Err(error) if outage::is_full(&error) => Ok(()),
            Err(error) => exit_unknown(&error),
            Ok(()) => Ok(()),
        }
    }

    /// Whether there is disk to give back.
    fn has_cleaning(&self) -> bool {
        self.cleaning.is_due(&self.log, &self.shared.state.read().index, self.segment_bytes)
    }

    /// The disk was full in the middle of a batch: says what became of its writes.
    fn interrupted(&mut self, outcomes: Vec<Result<Revision, StoreError>>) -> Vec<Outcome> {
        self.outage = Some(self.next_try());
        let known = self.mend();
        let settle = |outcome: Result<Revision, StoreError>| match outcome {
            Ok(_) if known => Outcome::Settled(Err(StoreError::NoSpace)),
            Ok(revision) => Outcome::Unsettled(revision),
            error => Outcome::Settled(error),
        };
        outcomes.into_iter().map(settle).collect()
    }

    fn compactable(&self, revision: Revision) -> Result<(), StoreError> {
        let current = self.shared.state.read().current;
        if revision > current { Err(StoreError::FutureRevision(revision)) } else { Ok(()) }
    }

    /// Forgets superseded versions in memory; their records go in the sweeps that follow.
    fn forget(&mut self, revision: Revision) {
        let mut state = self.shared.state.write();
        if revision > state.compacted {
            state.compacted = revision;
            state.history.compact(revision);
            state.index.compact(revision);
        }
    }

    /// Deletions of what has expired. Entries go when their key has: a deletion may fail for want of space.
    fn due(&mut self) -> Vec<WriteOp> {
        let now = Instant::now();
        let state = self.shared.state.read();
        let mut ops = Vec::new();
        let mut over = Vec::new();
        for (entry, key) in self.expiries.range(..=(now, Revision(u64::MAX))) {
            let expected = entry.1;
            if state.index.newest_revision(key) == Some(expected) {
                ops.push(WriteOp { key: key.clone(), action: Action::Delete { expected } });
            } else {
                over.push(*entry);
            }
        }
        for entry in over {
            self.expiries.remove(&entry);
        }
        ops
    }
}

/// The next requests that share one fsync.
fn take_batch(requests: &mut Peekable<impl Iterator<Item = Request>>) -> Vec<Request> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(request) = requests.next()
    {
        if let Ask::Write(WriteOp { action: Action::Put { value, .. }, .. }) = &request.ask {
            bytes += value.len();
        }
        batch.push(request);
    }
    batch
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
