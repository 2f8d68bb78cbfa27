//! Taking a backup: everything the API stores, page by page, at one revision.

use std::io::Write;

use bytes::Bytes;
use jiff::Timestamp;
use troupe_api::meta::{Revision, time::format_time};

use super::{BackupError, BackupWriter, FORMAT, Head};
use crate::store::{KeyValue, RangeRequest, Store, StoreError, keys, prefix_end};

/// Keys in a page.
const PAGE: usize = 200;

/// A page of the state at one revision.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<KeyValue>,
    /// More follows behind the last key.
    pub more: bool,
    pub revision: Revision,
}

impl Head {
    /// The head of a backup at `revision`, taken now.
    pub fn now(revision: Revision) -> Self {
        Head { format: FORMAT, revision, taken: format_time(Timestamp::now()), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Reads the page behind `after`, at revision `at`, or at the newest to begin with.
///
/// # Errors
/// [`StoreError::Compacted`] when a backup takes longer than the store remembers; else what the store says.
pub async fn page(store: &dyn Store, at: Option<Revision>, after: Option<&[u8]>) -> Result<Page, StoreError> {
    let start = match after {
        Some(key) => Bytes::from([key, &[0]].concat()),
        None => keys::ROOT.into(),
    };
    let request = RangeRequest { start, end: prefix_end(keys::ROOT.as_bytes()), limit: PAGE, at };
    let reply = store.range(request).await?;
    Ok(Page { items: reply.items, more: reply.more, revision: reply.revision })
}

/// Writes a whole backup; returns where it went, its revision, and how many records it has.
///
/// # Errors
/// When the store cannot be read or `out` not written.
pub async fn export<W: Write>(store: &dyn Store, out: W) -> Result<(W, Revision, u64), BackupError> {
    let mut next = page(store, None, None).await?;
    let revision = next.revision;
    let mut writer = BackupWriter::new(out, Head::now(revision))?;
    loop {
        let last = next.items.last().map(|kv| kv.key.clone());
        for kv in next.items {
            writer.record(kv)?;
        }
        let Some(last) = last.filter(|_| next.more) else { break };
        next = page(store, Some(revision), Some(&last)).await?;
    }
    let (out, records) = writer.finish()?;
    Ok((out, revision, records))
}
