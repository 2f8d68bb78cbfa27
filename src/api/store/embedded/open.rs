//! Opening a store: lock, format check, recovery of the index from the log.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use thiserror::Error;

use super::{
    history::History,
    index::Index,
    record::{Record, record_revision},
    shared::{Files, State},
};
use crate::{
    meta::Revision,
    store::{KeyValue, StoreEvent, watchers::Watchers},
};

/// The format this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;
/// How long the lock may be held before it counts as another process's.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const MAGIC: &str = "troupe-store";
const COMPACTED: &[u8] = b"compacted";
/// Unflushed writes held in memory, and what fjall may cache of its files.
const MEMTABLE: u64 = 4 << 20;
const CACHE: u64 = 4 << 20;
const JOURNALS: u64 = 64 << 20;

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the store in {path} is in use by another process{holder}")]
    Locked { path: PathBuf, holder: String },
    #[error("the store in {path} was written by a newer version (format {found}, this one reads up to {FORMAT}): upgrade, or use another directory")]
    NewerFormat { path: PathBuf, found: u32 },
    #[error("{path} holds files that are no store of ours: use another directory")]
    Foreign { path: PathBuf },
    #[error("the store's file {path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the store in {path} cannot be opened")]
    Database {
        path: PathBuf,
        #[source]
        source: fjall::Error,
    },
    #[error("the store in {path} is damaged: {what}; restore a backup")]
    Damaged { path: PathBuf, what: String },
}

/// What opening yields: the files, the state they hold, and what the writer needs to go on.
pub struct Opened {
    pub files: Files,
    pub lock: File,
    pub state: State,
    /// Expiry in milliseconds since the Unix epoch, revision, key.
    pub expiries: Vec<(u64, Revision, bytes::Bytes)>,
    /// Revisions whose records compaction had not removed yet.
    pub garbage: Vec<Revision>,
}

/// Opens the store in `path`, making it where there is none.
pub fn open(path: &Path, history_bytes: usize) -> Result<Opened, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io(path))?;
    let lock = take_lock(path)?;
    check_format(path)?;
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let files = open_files(path).map_err(database)?;
    let compacted = read_compacted(&files.meta).map_err(database)?;
    let mut recovery = Recovery::default();
    for guard in files.log.iter() {
        let (key, bytes) = guard.into_inner().map_err(database)?;
        recovery.take(&key, &bytes).map_err(|what| OpenError::Damaged { path: path.to_owned(), what })?;
    }
    Ok(recovery.finish(files, lock, compacted, history_bytes))
}

/// Opens the files of a store whose lock is held.
pub fn open_files(path: &Path) -> Result<Files, fjall::Error> {
    let database = Database::builder(path.join("db")).cache_size(CACHE).max_journaling_size(JOURNALS).worker_threads(1).open()?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
    Ok(Files { log: database.keyspace("log", options)?, meta: database.keyspace("meta", options)?, database })
}

/// Makes an empty store in `path` that stands at `revision`.
pub fn seed(path: &Path, revision: Revision) -> Result<(), OpenError> {
    let Opened { files, lock: _lock, .. } = open(path, 0)?;
    let mut batch = files.database.batch().durability(Some(PersistMode::SyncAll));
    write_compacted(&mut batch, &files.meta, revision);
    batch.commit().map_err(|source| OpenError::Database { path: path.to_owned(), source })
}

/// Writes the compacted revision into a batch.
pub fn write_compacted(batch: &mut fjall::OwnedWriteBatch, meta: &Keyspace, revision: Revision) {
    batch.insert(meta, COMPACTED, revision.0.to_be_bytes());
}

fn read_compacted(meta: &Keyspace) -> Result<Revision, fjall::Error> {
    let bytes = meta.get(COMPACTED)?;
    Ok(bytes.and_then(|bytes| record_revision(&bytes)).unwrap_or(Revision::ZERO))
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let file = path.join("lock");
    let io = |source| OpenError::Io { path: file.clone(), source };
    let mut lock = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(io)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    let taken = loop {
        match lock.try_lock() {
            // A process that is just being started holds what the one that starts it had open, until it runs its program.
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            taken => break taken,
        }
    };
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The holder's name is a courtesy; without it the message still says what matters.
            let _ = lock.read_to_string(&mut pid);
            let holder = if pid.trim().is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            return Err(OpenError::Locked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    if let Err(error) = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id())) {
        // The lock holds without a name in it, and a full disk must not keep the store from being read.
        tracing::warn!(%error, path = %file.display(), "the lock's holder was not noted");
    }
    Ok(lock)
}

/// Refuses a store of a newer format, and marks a new one.
fn check_format(path: &Path) -> Result<(), OpenError> {
    let file = path.join("format");
    let io = |source| OpenError::Io { path: file.clone(), source };
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().strip_prefix(MAGIC).and_then(|version| version.trim().parse::<u32>().ok()) {
            Some(found) if found > FORMAT => Err(OpenError::NewerFormat { path: path.to_owned(), found }),
            Some(_) => Ok(()),
            None => Err(OpenError::Foreign { path: path.to_owned() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.join("db").exists() {
                return Err(OpenError::Foreign { path: path.to_owned() });
            }
            write_format(path, &file).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}

fn write_format(path: &Path, file: &Path) -> std::io::Result<()> {
    let draft = path.join("format.new");
    let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(out, "{MAGIC} {FORMAT}")?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(path)?.sync_all()
}

/// Builds the index from the log, record by record.
#[derive(Default)]
struct Recovery {
    index: Index,
    last: Revision,
    expiries: Vec<(u64, Revision, bytes::Bytes)>,
}

impl Recovery {
    fn take(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), String> {
        let revision = record_revision(key).ok_or("a record has no revision")?;
        let record = Record::decode(bytes).ok_or_else(|| format!("the record of revision {revision} does not decode"))?;
        self.last = revision;
        if let Some(expiry) = record.expiry {
            self.expiries.push((expiry, revision, record.key.clone()));
        }
        let previous = self.index.newest(&record.key).cloned();
        // Sharing the key's bytes with the version before keeps one copy per key.
        let key = previous.as_ref().map_or(record.key, |kv| kv.key.clone());
        match (record.value, previous) {
            (Some(value), previous) => {
                let kv = KeyValue { key, value, create_revision: record.create_revision, mod_revision: revision };
                self.index.apply(&StoreEvent::Put { kv, previous });
            }
            (None, Some(previous)) => self.index.apply(&StoreEvent::Delete { key, revision, previous }),
            // Compaction was cut short between the record of the value and that of its deletion.
            (None, None) => self.index.apply_orphan_deletion(key, revision),
        }
        Ok(())
    }

    fn finish(mut self, files: Files, lock: File, compacted: Revision, history_bytes: usize) -> Opened {
        let garbage = self.index.compact(compacted);
        // A fresh store stands at revision 1; compaction may have removed the newest record of all.
        let current = self.last.max(compacted).max(Revision(1));
        let index = self.index;
        let expiries = self.expiries.into_iter().filter(|(_, revision, key)| index.newest(key).is_some_and(|kv| kv.mod_revision == *revision));
        let expiries = expiries.collect();
        let history = History::new(current, history_bytes);
        let state = State { index, history, watchers: Watchers::default(), current, compacted };
        Opened { files, lock, state, expiries, garbage }
    }
}
