//! Watches that begin in the past: from memory where the history reaches, else from the log until it does.

use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_api::meta::Revision;

use super::shared::SharedStore;
use crate::store::{StoreError, WatchMessage, watch_is_compacted, watchers::Outlet};

/// Revisions read from the log at a time, and bytes of theirs about.
const CHUNK: usize = 1000;
const CHUNK_BYTES: usize = 1 << 20;

/// Starts a watch.
pub fn start(shared: &SharedStore, prefix: Bytes, from: Revision) -> mpsc::Receiver<WatchMessage> {
    let (outlet, receiver) = Outlet::new(prefix);
    let slot = outlet.room_now().expect("a new queue has room");
    if let Some((outlet, slot)) = join(shared, outlet, slot, from) {
        drop(slot);
        tokio::spawn(catch_up(shared.clone(), outlet, from));
    }
    receiver
}

/// Makes the watch live if memory still has all its events, or ends it if they are compacted. Else gives it back.
fn join(
    shared: &SharedStore,
    outlet: Outlet,
    slot: mpsc::OwnedPermit<WatchMessage>,
    next: Revision,
) -> Option<(Outlet, mpsc::OwnedPermit<WatchMessage>)> {
    let mut state = shared.state.write();
    if watch_is_compacted(next, state.compacted) {
        outlet.end(Some(state.compacted));
        return None;
    }
    let Some(backlog) = state.history.since(next) else { return Some((outlet, slot)) };
    let backlog = outlet.select(backlog.cloned());
    let current = state.current;
    state.watchers.attach(outlet, slot, next, backlog, current);
    None
}

/// Sends events from the log until memory has the rest.
async fn catch_up(shared: SharedStore, mut outlet: Outlet, mut next: Revision) {
    loop {
        outlet.taken().await;
        let Some(slot) = outlet.room().await else { return };
        let Some((waiting, slot)) = join(&shared, outlet, slot, next) else { return };
        outlet = waiting;
        let floor = shared.state.read().history.floor();
        let (reader, prefix) = (shared.clone(), outlet.prefix().clone());
        let read = tokio::task::spawn_blocking(move || reader.events_from_log(&prefix, (next, floor), CHUNK, CHUNK_BYTES)).await;
        match read {
            Ok(Ok((events, reached))) => {
                next = reached.next();
                if !events.is_empty() {
                    slot.send(WatchMessage::Events(events));
                }
            }
            Ok(Err(StoreError::Compacted { compacted, .. })) => return outlet.end(Some(compacted)),
            Ok(Err(error)) => {
                tracing::warn!(%error, prefix = ?outlet.prefix(), "a watch could not read the log");
                return outlet.end(None);
            }
            Err(_cancelled) => return outlet.end(None),
        }
    }
}
