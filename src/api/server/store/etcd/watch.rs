//! Watches on etcd: each a task that keeps a connection to the current member and goes on where it was after a break.
//!
//! In: etcd's responses, put together by [`Assembler`]. Out: batches of whole revisions. A watcher that lags by more than
//! a bounded number of changes gets [`WatchMessage::Ended`] and resumes from what it saw last.
//!
//! Every watch is one of every key there is, whatever it delivers: then each event tells how far it is complete, also where
//! nothing happens to the keys that are wanted, and nothing depends on etcd's progress notifications, which older versions
//! send too early. Besides the one that feeds the caches there are only those that catch up, which are short.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use troupe_api::meta::Revision;

use super::{
    assemble::{Assembler, Batch},
    members::Members,
    txn::{revision, signed},
};
use crate::store::{StoreEvent, WatchMessage, watchers::Outlet};

/// Batches a watcher may have before it; a batch holds what came while the last slot was taken.
const QUEUE: usize = 4;
/// Changes and bytes that may wait for a slot before the watch ends.
const MAX_PENDING: usize = 1024;
const MAX_PENDING_BYTES: usize = 64 << 20;
const CONNECT: Duration = Duration::from_secs(2);
const BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// A zero byte is the least key, and as an end it means no end.
const ZERO: &[u8] = &[0];

/// Why a connection was left.
enum Break {
    /// It is to be made again.
    Lost(String),
    /// Another member is the current one now.
    Moved,
    /// The watcher is gone.
    Unwanted,
    /// The watch ends: its next change is compacted, or the watcher is too slow.
    Ended(Option<Revision>),
}

/// Begins a watch of the keys with `prefix` behind `seen`. `runtime` carries it.
pub fn start(runtime: &tokio::runtime::Handle, members: Arc<Members>, prefix: Bytes, seen: Revision) -> mpsc::Receiver<WatchMessage> {
    let (outlet, receiver) = Outlet::with_room(prefix.clone(), QUEUE);
    let changes = members.changes();
    let assembler = Assembler::new(prefix, seen);
    let task = Watch { members, changes, assembler, outlet, pending: Pending::default() };
    runtime.spawn(task.run());
    receiver
}

struct Watch {
    members: Arc<Members>,
    changes: watch::Receiver<usize>,
    assembler: Assembler,
    outlet: Outlet,
    pending: Pending,
}

/// What waits for room in the watcher's queue.
#[derive(Default)]
struct Pending {
    events: Vec<StoreEvent>,
    bytes: usize,
    complete: Option<Revision>,
}

impl Pending {
    fn add(&mut self, batch: Batch) {
        self.bytes += batch.events.iter().map(StoreEvent::value_bytes).sum::<usize>();
        self.events.extend(batch.events);
        self.complete = batch.complete.or(self.complete);
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.complete.is_none()
    }

    fn too_much(&self) -> bool {
        self.events.len() > MAX_PENDING || self.bytes > MAX_PENDING_BYTES
    }

    /// The next message; progress only where it says more than the events before it.
    fn take(&mut self) -> WatchMessage {
        if self.events.is_empty() {
            return WatchMessage::Progress(self.complete.take().unwrap_or_default());
        }
        let events = std::mem::take(&mut self.events);
        self.bytes = 0;
        let last = events.last().map(StoreEvent::revision);
        self.complete = self.complete.filter(|complete| Some(*complete) > last);
        WatchMessage::Events(events)
    }
}

impl Watch {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        loop {
            let turn = *self.changes.borrow_and_update();
            let seen = self.assembler.seen();
            let why = match self.follow(turn).await {
                Break::Unwanted => return,
                Break::Ended(compacted) => return self.outlet.end(compacted),
                Break::Moved => continue,
                Break::Lost(why) => why,
            };
            tracing::info!(%why, seen = %self.assembler.seen(), "a watch on etcd broke, connecting again");
            if self.assembler.seen() > seen {
                backoff = BACKOFF;
            } else {
                self.members.leave(turn, &why);
            }
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.outlet.closed() => return,
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Connects to the current member and delivers what it sends.
    async fn follow(&mut self, turn: usize) -> Break {
        let mut stream = match timeout(CONNECT, self.connect(turn)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Break::Lost(error.to_string()),
            Err(_) => return Break::Lost("no answer".into()),
        };
        loop {
            let waiting = !self.pending.is_empty();
            tokio::select! {
                room = self.outlet.room(), if waiting => match room {
                    Some(slot) => drop(slot.send(self.pending.take())),
                    None => return Break::Unwanted,
                },
                () = self.outlet.closed() => return Break::Unwanted,
                moved = self.changes.changed() => return if moved.is_ok() { Break::Moved } else { Break::Unwanted },
                response = stream.message() => match response {
                    Ok(Some(response)) => if let Some(end) = self.take(response) { return end },
                    Ok(None) => return Break::Lost("etcd closed it".into()),
                    Err(error) => return Break::Lost(error.to_string()),
                },
            }
        }
    }

    async fn connect(&mut self, turn: usize) -> Result<WatchStream, etcd_client::Error> {
        let member = self.members.at(turn);
        let start = signed(self.assembler.resume_at());
        let options = WatchOptions::new().with_prev_key().with_fragment().with_progress_notify().with_start_revision(start).with_range(ZERO);
        member.watch.clone().watch(ZERO, Some(options)).await
    }

    /// Takes a response in; the end of the watch where it means that.
    fn take(&mut self, response: WatchResponse) -> Option<Break> {
        let response = response.0;
        if response.compact_revision > 0 {
            return Some(Break::Ended(Some(revision(response.compact_revision))));
        }
        if response.canceled {
            return Some(Break::Lost(response.cancel_reason));
        }
        self.members.heard();
        match self.assembler.take(response) {
            Ok(batch) => self.pending.add(batch),
            Err(gap) => {
                tracing::warn!(%gap, "ending a watch");
                return Some(Break::Ended(Some(gap.at)));
            }
        }
        self.pending.too_much().then_some(Break::Ended(None))
    }
}
