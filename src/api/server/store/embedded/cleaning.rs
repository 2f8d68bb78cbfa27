//! Giving disk back: what is needed of the oldest segment is carried forward, then the segment is dropped whole.
//!
//! A segment of which nothing is needed goes at once. One of which something is needed waits until the log is more than twice as
//! large as all that is needed, so that no more is written for tidiness than for clients.

use bytes::Bytes;
use troupe_api::meta::Revision;

use super::{
    index::Index,
    log::{Batch, Entry, Log, LogError, Place, Scanner},
    record::Record,
};

/// Segments beside twice of what is needed.
const SPARE: u64 = 4;
/// Bytes looked at in a turn, beside twice of what clients write in it.
const STEP: u64 = 512 << 10;

/// A record that is carried forward.
pub struct Carried {
    pub key: Bytes,
    pub revision: Revision,
}

/// How far the oldest segment has been looked at.
#[derive(Default)]
pub struct Cleaning {
    scanner: Option<Scanner>,
    /// A segment could not be read: it stays, and so do those behind it.
    is_stuck: bool,
}

impl Cleaning {
    /// Whether there is something to give back.
    pub fn is_due(&self, log: &Log, index: &Index, segment_bytes: u64) -> bool {
        let Some((oldest, _)) = log.oldest() else { return false };
        let is_large = log.bytes() > 2 * index.needed() + SPARE * segment_bytes;
        !self.is_stuck && (oldest.needed() == 0 || is_large || self.scanner.is_some())
    }

    /// Puts what is needed of the next bytes of the oldest segment into a batch, where clients write `written` bytes in this turn.
    pub fn carry(&mut self, log: &Log, index: &Index, written: u64, batch: &mut Batch) -> Vec<Carried> {
        let mut carried = Vec::new();
        let Some((oldest, length)) = log.oldest().filter(|(oldest, _)| oldest.needed() > 0) else { return carried };
        let scanner = self.scanner.get_or_insert_with(|| Scanner::new(oldest.clone(), length));
        if scanner.at() == length {
            tracing::error!(segment = oldest.number, bytes = oldest.needed(), "something in a segment of the log is needed and not found: it stays");
            self.is_stuck = true;
        } else if let Err(error) = carry_some(scanner, index, STEP + 2 * written, batch, &mut carried) {
            tracing::error!(%error, "a segment of the log cannot be read: it stays, and the log grows");
            self.is_stuck = true;
        }
        carried
    }

    /// What was carried did not become durable.
    pub fn begin_again(&mut self) {
        self.scanner = None;
    }

    /// What was carried is durable and the index knows its new places: drops the oldest segment if nothing of it is needed any more.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn drop_oldest(&mut self, log: &mut Log) -> std::io::Result<()> {
        if log.oldest().is_some_and(|(oldest, _)| oldest.needed() == 0) {
            log.drop_oldest()?;
            *self = Cleaning::default();
        }
        Ok(())
    }
}

fn carry_some(scanner: &mut Scanner, index: &Index, bytes: u64, batch: &mut Batch, carried: &mut Vec<Carried>) -> Result<(), LogError> {
    let end = scanner.at() + bytes;
    while scanner.at() < end
        && let Some((place, entry)) = scanner.next()?
    {
        let Entry::Change { revision, record, .. } = entry else { continue };
        let Some(key) = Record::key_of(record) else { continue };
        if let Some(superseded) = index.need_of(key, revision, &place) {
            batch.push(&Entry::Change { revision, superseded, record });
            carried.push(Carried { key: Bytes::copy_from_slice(key), revision });
        }
    }
    Ok(())
}

/// Tells the index where carried records lie now.
pub fn relocate(index: &mut Index, carried: Vec<Carried>, places: impl Iterator<Item = Place>) {
    for (Carried { key, revision }, place) in carried.into_iter().zip(places) {
        index.relocate(&key, revision, place);
    }
}
