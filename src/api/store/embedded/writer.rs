//! The one writer thread: batches concurrent writes into one fsync, expires keys, removes what compaction leaves.
//!
//! In: [`Request`]s. Out: replies and published events, both only after the batch is on disk. A write that cannot be
//! made durable has an unknown outcome, so the process exits: what it would say next could be wrong. Only a full disk
//! is outlived (see [`outage`]).

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fjall::PersistMode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    commit::{Action, Commit, WriteOp},
    open::write_compacted,
    outage,
    record::{Record, record_key},
    shared::{Shared, SharedStore},
    space::{Space, SpaceMark},
    waiting::Waiting,
};
use crate::{
    meta::Revision,
    store::{StoreError, StoreEvent},
};

/// Writes that share one fsync at most.
const BATCH: usize = 1024;
/// Records of superseded versions removed per turn.
const SWEEP: usize = 2048;
/// How often the writer looks after expiry, progress and compaction when nobody writes.
const TICK: Duration = Duration::from_millis(500);
/// How often per retention the store marks its revision: so much longer than that may old versions stay.
const MARKS: u32 = 10;
/// How long a full disk is left alone before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// And how long while writes wait for room.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

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
    /// Records to remove.
    garbage: VecDeque<Revision>,
    space: SpaceMark,
    /// The disk was full: nothing is written until it has room, and not before this time.
    outage: Option<Instant>,
    waiting: Waiting,
    /// A compaction that memory has made and the disk has not.
    forgotten: Option<Revision>,
    /// How long old versions stay before the store compacts itself.
    retention: Duration,
    /// When the store marked its revision, and which it was: those of the next compactions.
    marks: VecDeque<(Instant, Revision)>,
}

impl Writer {
    pub fn new(
        shared: SharedStore,
        expiries: Vec<(u64, Revision, Bytes)>,
        garbage: Vec<Revision>,
        space: SpaceMark,
        waiting: Waiting,
        retention: Duration,
    ) -> Self {
        let now = Instant::now();
        let marks = VecDeque::from([(now, shared.state.read().current)]);
        let wall = now_millis();
        let deadline = |expiry: u64| now + Duration::from_millis(expiry.saturating_sub(wall));
        let expiries = expiries.into_iter().map(|(expiry, revision, key)| ((deadline(expiry), revision), key)).collect();
        Writer { shared, expiries, garbage: garbage.into(), space, outage: None, waiting, forgotten: None, retention, marks }
    }

    /// Serves requests until all senders are gone.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let _guard = ExitOnPanic;
        loop {
            let wait = match () {
                () if !self.waiting.is_empty() => SHORT_PAUSE,
                () if self.garbage.is_empty() || self.outage.is_some() => TICK,
                () => Duration::from_millis(1),
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

    /// One turn: expiry, writes and sweeping in one durable batch, then replies.
    fn serve(&mut self, batch: Vec<Request>) {
        let idle = batch.is_empty();
        let may_write = self.may_write();
        let mut requests = self.waiting.take();
        requests.extend(batch);
        if may_write {
            self.serve_writes(requests);
        } else {
            self.refuse(requests);
        }
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
        let mut compact = self.automatic_compaction();
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
            if !self.reopen() {
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

    /// Opens the files again and shows what had become durable; `false` while the disk is too full for that.
    fn reopen(&mut self) -> bool {
        let current = self.shared.state.read().current;
        match outage::reopen(&self.shared, &mut self.space, current) {
            Ok(found) => {
                let (now, wall) = (Instant::now(), now_millis());
                for (revision, record) in &found {
                    self.note_expiry(*revision, record, now, wall);
                }
                self.shared.state.write().take_found(found);
                let current = self.shared.state.read().current;
                self.waiting.settle(current);
                true
            }
            Err(error) if error.is_full(&self.space) => {
                tracing::warn!(error = %chain(&error), "the log cannot be opened again while the disk is full");
                false
            }
            Err(error) => exit_unknown(&chain(&error)),
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
        let sweep = self.garbage.len().min(SWEEP);
        match self.write(&records, sweep) {
            Some(Ok(())) | None => {}
            Some(Err(error)) if outage::is_full(&error, &self.space) => {
                tracing::error!(%error, "the disk is full, nothing is written until it has space");
                return self.interrupted(outcomes);
            }
            Some(Err(error)) => exit_unknown(&error.to_string()),
        }
        self.forgotten = None;
        self.garbage.drain(..sweep);
        for (revision, record) in &records {
            self.note_expiry(*revision, record, now, wall);
        }
        publish(&self.shared, events);
        outcomes.into_iter().map(Outcome::Settled).collect()
    }

    /// Writes one durable batch; `None` where there is nothing to write.
    fn write(&self, records: &[(Revision, Record)], sweep: usize) -> Option<Result<(), fjall::Error>> {
        let durable = !records.is_empty() || self.forgotten.is_some();
        if !durable && sweep == 0 {
            return None;
        }
        let files = self.shared.files.read();
        let files = files.as_ref().expect("the files are open outside of outages");
        let mut batch = files.database.batch().durability(durable.then_some(PersistMode::SyncData));
        for (revision, record) in records {
            batch.insert(&files.log, record_key(*revision), record.encode());
        }
        if let Some(revision) = self.forgotten {
            write_compacted(&mut batch, &files.meta, revision);
        }
        for revision in self.garbage.iter().take(sweep) {
            batch.remove(&files.log, record_key(*revision));
        }
        Some(batch.commit())
    }

    /// The disk was full in the middle of a batch: says what became of its writes.
    fn interrupted(&mut self, outcomes: Vec<Result<Revision, StoreError>>) -> Vec<Outcome> {
        self.outage = Some(self.next_try());
        let known = self.reopen();
        let current = self.shared.state.read().current;
        let settle = |outcome: Result<Revision, StoreError>| match outcome {
            Ok(revision) if revision <= current => Outcome::Settled(Ok(revision)),
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
            self.garbage.extend(state.index.compact(revision));
        }
    }

    /// The revision that was current one retention ago, [`MARKS`] times per retention.
    fn automatic_compaction(&mut self) -> Option<Revision> {
        let now = Instant::now();
        if self.marks.back().is_none_or(|(marked, _)| now.duration_since(*marked) >= self.retention / MARKS) {
            self.marks.push_back((now, self.shared.state.read().current));
        }
        let mut due = None;
        while let Some((_, revision)) = self.marks.pop_front_if(|(marked, _)| now.duration_since(*marked) >= self.retention) {
            due = Some(revision);
        }
        due.filter(|revision| *revision > self.shared.state.read().compacted)
    }

    /// Deletions of what has expired. Entries go when their key has: a deletion may fail for want of space.
    fn due(&mut self) -> Vec<WriteOp> {
        let now = Instant::now();
        let state = self.shared.state.read();
        let mut ops = Vec::new();
        let mut over = Vec::new();
        for (entry, key) in self.expiries.range(..=(now, Revision(u64::MAX))) {
            let expected = entry.1;
            if state.index.newest(key).is_some_and(|kv| kv.mod_revision == expected) {
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

fn publish(shared: &Arc<Shared>, events: Vec<StoreEvent>) {
    if !events.is_empty() {
        shared.state.write().publish(events);
    }
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A failed fsync leaves the outcome of its writes unknown, to us too: only a restart reads what really is on disk.
fn exit_unknown(error: &str) -> ! {
    tracing::error!(%error, "the store could not write to disk, exiting");
    // The log may be a file on the same disk.
    let _ = writeln!(std::io::stderr(), "the store could not write to disk, exiting: {error}");
    std::process::exit(74)
}

/// A writer that panicked answers nobody; better no process than one that hangs.
struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the store's writer panicked, exiting"); // likewise
            std::process::exit(70);
        }
    }
}
