//! Why a store cannot be used: what all backends and their restores say of it.

use std::path::PathBuf;

use thiserror::Error;

use super::StoreError;

/// The format that the embedded store reads and writes.
pub const EMBEDDED_FORMAT: u32 = 2;
/// The format of what is written into etcd, and the newest that is read. A cluster without the mark has format 1.
pub const ETCD_FORMAT: u32 = 1;

/// Why an embedded store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the store in {path} is in use by another process{holder}")]
    Locked { path: PathBuf, holder: String },
    #[error(
        "the store in {path} was written by a newer version (format {found}, this one reads up to {EMBEDDED_FORMAT}): upgrade, or use another directory"
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error(
        "the store in {path} was written by an older version (format {found}, this one reads {EMBEDDED_FORMAT}): take a backup with that version, \
         then restore it with --force"
    )]
    OlderFormat { path: PathBuf, found: u32 },
    #[error("{path} holds files that are no store of ours: use another directory")]
    Foreign { path: PathBuf },
    #[error("the store's file {path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the store in {path} is damaged: {what}; restore a backup")]
    Damaged { path: PathBuf, what: String },
}

/// Why an etcd cluster cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("etcd cannot be reached as configured")]
    Options(#[source] etcd_client::Error),
    #[error("no thread for the connections to etcd")]
    Thread(#[source] std::io::Error),
    #[error("no etcd answers at {servers}")]
    Silent {
        servers: String,
        #[source]
        source: StoreError,
    },
    #[error("the data in etcd was written by a newer version (format {found:?}, this one reads up to {ETCD_FORMAT}): upgrade")]
    NewerFormat { found: String },
    #[error("a restore into etcd was interrupted: restore again, with --force")]
    Interrupted,
}
