//! The one writer thread: batches concurrent writes into one fsync, expires keys, removes what compaction leaves.
//!
//! In: [`Request`]s. Out: replies and published events, both only after the batch is on disk. A write that cannot be
//! made durable has an unknown outcome, so the process exits: what it would say next could be wrong.

use std::{
    collections::{BTreeMap, VecDeque},
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
    record::record_key,
    shared::{Shared, SharedStore},
    space::SpaceMark,
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

/// What the writer is asked. The permit bounds how many requests wait.
pub struct Request {
    pub ask: Ask,
    pub reply: oneshot::Sender<Result<Revision, StoreError>>,
    pub permit: OwnedSemaphorePermit,
}

/// Kinds of requests.
pub enum Ask {
    Write(WriteOp),
    /// Answered with the compacted revision.
    Compact(Revision),
}

/// The state only the writer has.
pub struct Writer {
    shared: SharedStore,
    /// By expiry (milliseconds since the Unix epoch) and revision; entries of overwritten versions are skipped when due.
    expiries: BTreeMap<(u64, Revision), Bytes>,
    /// Records to remove.
    garbage: VecDeque<Revision>,
    space: SpaceMark,
    /// How long old versions stay before the store compacts itself.
    retention: Duration,
    /// When the store last marked its revision, and which it was: the next compaction's.
    mark: (Instant, Revision),
}

impl Writer {
    pub fn new(shared: SharedStore, expiries: Vec<(u64, Revision, Bytes)>, garbage: Vec<Revision>, space: SpaceMark, retention: Duration) -> Self {
        let mark = (Instant::now(), shared.state.read().current);
        let expiries = expiries.into_iter().map(|(expiry, revision, key)| ((expiry, revision), key)).collect();
        Writer { shared, expiries, garbage: garbage.into(), space, retention, mark }
    }

    /// Serves requests until all senders are gone.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let _guard = ExitOnPanic;
        loop {
            let wait = if self.garbage.is_empty() { TICK } else { Duration::from_millis(1) };
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
        let mut replies = Vec::with_capacity(batch.len());
        let mut ops = self.due();
        let expired = ops.len();
        let mut compactions = Vec::new();
        let mut compact = self.automatic_compaction();
        for request in batch {
            match request.ask {
                Ask::Write(op) => {
                    ops.push(op);
                    replies.push((request.reply, request.permit));
                }
                Ask::Compact(revision) => match self.compactable(revision) {
                    Ok(()) => {
                        compact = compact.max(Some(revision));
                        compactions.push((request.reply, revision));
                    }
                    // The caller may have gone.
                    Err(error) => drop(request.reply.send(Err(error))),
                },
            }
        }
        let mut outcomes = self.commit(ops, compact);
        for (outcome, (reply, _permit)) in outcomes.split_off(expired).into_iter().zip(replies) {
            // The caller may have gone; the write stands all the same.
            let _ = reply.send(outcome);
        }
        for (reply, revision) in compactions {
            // As above.
            let _ = reply.send(Ok(revision));
        }
        if idle {
            let mut state = self.shared.state.write();
            let current = state.current;
            state.watchers.progress(current);
        }
    }

    /// Makes the writes that succeed durable, then visible. One outcome for each write, in order.
    fn commit(&mut self, ops: Vec<WriteOp>, compact: Option<Revision>) -> Vec<Result<Revision, StoreError>> {
        let no_space = self.space.is_low(Instant::now());
        let state = self.shared.state.read();
        let mut commit = Commit::new(&state.index, state.current, now_millis(), no_space);
        let outcomes = ops.into_iter().map(|op| commit.judge(op)).collect();
        let Commit { events, records, .. } = commit;
        // What is written must never fall behind what is forgotten already.
        let compact = compact.filter(|revision| *revision > state.compacted);
        drop(state);
        if let Some(revision) = compact {
            self.forget(revision);
        }
        let files = &self.shared.files;
        let mut batch = files.database.batch().durability((!records.is_empty() || compact.is_some()).then_some(PersistMode::SyncData));
        for (revision, record) in records {
            if let Some(expiry) = record.expiry {
                self.expiries.insert((expiry, revision), record.key.clone());
            }
            batch.insert(&files.log, record_key(revision), record.encode());
        }
        if let Some(revision) = compact {
            write_compacted(&mut batch, &files.meta, revision);
        }
        for revision in self.garbage.drain(..self.garbage.len().min(SWEEP)) {
            batch.remove(&files.log, record_key(revision));
        }
        batch.commit().unwrap_or_else(|error| exit_unknown(&error));
        publish(&self.shared, events);
        outcomes
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

    /// The revision that was current one retention ago, once per retention.
    fn automatic_compaction(&mut self) -> Option<Revision> {
        let (marked, revision) = self.mark;
        if marked.elapsed() < self.retention {
            return None;
        }
        let state = self.shared.state.read();
        self.mark = (Instant::now(), state.current);
        (revision > state.compacted).then_some(revision)
    }

    /// Deletions of what has expired.
    fn due(&mut self) -> Vec<WriteOp> {
        let now = now_millis();
        let state = self.shared.state.read();
        let mut ops = Vec::new();
        while let Some(entry) = self.expiries.first_entry()
            && entry.key().0 <= now
        {
            let (_, expected) = *entry.key();
            let key = entry.remove();
            if state.index.newest(&key).is_some_and(|kv| kv.mod_revision == expected) {
                ops.push(WriteOp { key, action: Action::Delete { expected } });
            }
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

/// A failed fsync leaves the outcome of its writes unknown, to us too: only a restart reads what really is on disk.
fn exit_unknown(error: &fjall::Error) -> ! {
    tracing::error!(%error, "the store could not write to disk, exiting");
    eprintln!("the store could not write to disk, exiting: {error}");
    std::process::exit(74)
}

/// A writer that panicked answers nobody; better no process than one that hangs.
struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the store's writer panicked, exiting");
            std::process::exit(70);
        }
    }
}
