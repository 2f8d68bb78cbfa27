//! Backups: the whole state at one revision, in a form that belongs to no backend and moves data between them.
//!
//! A backup is a head, a record for each key, and an end. Every record has a checksum and the end has one of everything,
//! so damage and truncation are noticed before anything is restored. `frame` spells the form.

mod fill;
mod frame;
mod take;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

pub use self::{
    fill::{RestoreError, RestoreOptions, Restored, fill},
    frame::{BackupReader, BackupWriter, FORMAT, Frame, Head, read_frame, verify, write_frame},
    take::{Page, export, page},
};

/// Why a backup cannot be written or read.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error("this is no backup of troupe's")]
    Foreign,
    #[error("the backup was written by a newer version (format {found}, this one reads up to {FORMAT}): upgrade")]
    NewerFormat { found: u32 },
    #[error("the backup is damaged at byte {at}: {what}")]
    Damaged { at: u64, what: &'static str },
    #[error("the backup breaks off after {records} records: it was not copied or written to its end")]
    Truncated { records: u64 },
    #[error("the backup's file cannot be used")]
    Io(#[from] io::Error),
    #[error("the store cannot be read")]
    Store(#[from] crate::store::StoreError),
}
