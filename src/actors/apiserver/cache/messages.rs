//! What the actor of a resource is told, and what a watch begins with.

use std::{sync::Arc, time::Instant};

use actix::Message;
use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_api::meta::{Cause, Revision};
use troupe_api_server::store::StoreEvent;

use super::{Changes, Queued, Selection, Snapshot};

/// Changes of this resource, in revision order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Apply(pub Vec<StoreEvent>);

/// A write is about to be tried: who caused it, should its value turn up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Announce {
    pub key: Bytes,
    pub value: Bytes,
    pub cause: Cause,
}

/// The announced write did not happen.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Withdraw {
    pub key: Bytes,
    pub value: Bytes,
}

/// Time has passed: bookmarks may be due, watchers gone, changes too old. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tick;

/// Changes come from now on: what was held back may be loaded. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Begin;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With everything that exists.
    Initial,
    /// With the first change behind a revision.
    After(Revision),
}

/// A watch begins.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Subscription, NoSubscription>")]
pub struct Subscribe {
    pub selection: Arc<Selection>,
    pub start: Start,
    pub bookmarks: bool,
    /// With a bookmark within a second or so of changes that it does not select, see [`troupe_api::service::WatchOptions::progress`].
    pub progress: bool,
    /// When the watch ends, where that is known.
    pub ends: Option<Instant>,
}

/// Why a watch does not begin.
#[derive(Debug)]
pub enum NoSubscription {
    /// The cache is being loaded; ask again in a moment.
    Loading,
    /// The revision to resume from is forgotten; the newest forgotten one.
    TooOld(Revision),
}

/// What a watch delivers: first the backlog, then the queue. Nothing is missing or doubled in between.
#[derive(Debug)]
pub struct Subscription {
    pub backlog: Backlog,
    /// Everything up to here is in the backlog.
    pub revision: Revision,
    pub queue: mpsc::Receiver<Queued>,
}

/// What a watch delivers before news.
#[derive(Debug)]
pub enum Backlog {
    /// All objects, and for our own watches what is known of what caused their versions.
    Objects(Arc<Snapshot>, Changes),
    /// What was selected of these.
    Changes(Changes),
}
