//! Opening a store: lock, format check, recovery of the index from the log.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use troupe_api::meta::Revision;

use super::{
    EmbeddedOptions,
    history::History,
    index::Index,
    log::{Batch, Entry, Item, Log, LogError, Marks, Place},
    record::Record,
    shared::State,
};
use crate::store::{
    open_errors::{EMBEDDED_FORMAT as FORMAT, OpenError},
    watchers::Watchers,
};

/// How long the lock may be held before it counts as another process's.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const MAGIC: &str = "troupe-store";
/// Where the log lies, and where that of the first format lay.
const LOG: &str = "log";
const FIRST_FORMATS_LOG: &str = "db";

/// What opening yields: the log, the state it holds, and what the writer needs to go on.
pub struct Opened {
    pub log: Log,
    pub lock: File,
    pub state: State,
    /// Expiry in milliseconds since the Unix epoch, revision, key.
    pub expiries: Vec<(u64, Revision, bytes::Bytes)>,
}

/// Opens the store in `path`, making it where there is none.
pub fn open(path: &Path, options: &EmbeddedOptions) -> Result<Opened, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io(path))?;
    let lock = take_lock(path)?;
    let is_marked = check_format(path)?;
    let mut recovery = Recovery::default();
    let opened = Log::open(&path.join(LOG), options.segment_bytes, |item| recovery.take(item));
    let mut log = opened.map_err(|error| match error {
        LogError::Io { path, source } => OpenError::Io { path, source },
        LogError::Damaged { .. } => OpenError::Damaged { path: path.to_owned(), what: error.to_string() },
    })?;
    if log.is_new() {
        if is_marked {
            return Err(OpenError::Damaged { path: path.to_owned(), what: "its log is gone".into() });
        }
        log.begin_segment(recovery.marks).map_err(io(&path.join(LOG)))?;
    }
    if !is_marked {
        let file = path.join("format");
        write_format(path, &file).map_err(io(&file))?;
    }
    Ok(recovery.finish(log, lock, options.history_bytes))
}

/// Makes an empty store in `path` that stands at `revision`.
pub fn seed(path: &Path, revision: Revision) -> Result<(), OpenError> {
    let Opened { mut log, lock: _lock, state, .. } = open(path, &EmbeddedOptions::default())?;
    let mut batch = Batch::default();
    batch.push(&Entry::Compacted(revision));
    let written = log.append(&batch, state.marks());
    written.map(drop).map_err(|source| OpenError::Io { path: path.join(LOG), source })
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

/// Refuses a store of another format; says whether its format is noted at all.
fn check_format(path: &Path) -> Result<bool, OpenError> {
    let file = path.join("format");
    let refused = path.to_owned();
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().strip_prefix(MAGIC).and_then(|version| version.trim().parse::<u32>().ok()) {
            Some(found) if found > FORMAT => Err(OpenError::NewerFormat { path: refused, found }),
            Some(found) if found < FORMAT => Err(OpenError::OlderFormat { path: refused, found }),
            Some(_) => Ok(true),
            None => Err(OpenError::Foreign { path: refused }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.join(FIRST_FORMATS_LOG).exists() {
                return Err(OpenError::Foreign { path: refused });
            }
            Ok(false)
        }
        Err(source) => Err(OpenError::Io { path: file, source }),
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
struct Recovery {
    index: Index,
    marks: Marks,
    expiries: Vec<(u64, Revision, bytes::Bytes)>,
    /// How many expiries there may be before those that nothing depends on are sorted out.
    many: usize,
}

impl Default for Recovery {
    /// A fresh store stands at revision 1.
    fn default() -> Self {
        let marks = Marks { current: Revision(1), compacted: Revision::ZERO };
        Recovery { index: Index::default(), marks, expiries: Vec::new(), many: 4096 }
    }
}

impl Recovery {
    fn take(&mut self, item: Item<'_>) -> Result<(), String> {
        match item {
            Item::Marks(marks) => {
                // Compaction may have removed the newest record of all.
                self.marks = Marks { current: marks.current.max(marks.compacted).max(Revision(1)), ..marks };
            }
            Item::Entry(_, Entry::Compacted(_)) => {}
            Item::Entry(place, Entry::Change { revision, superseded, record }) => self.take_record(place, revision, superseded, record)?,
        }
        Ok(())
    }

    fn take_record(&mut self, place: Place, revision: Revision, ended: Option<Revision>, record: &[u8]) -> Result<(), String> {
        let record = Record::decode(record).ok_or_else(|| format!("the record of revision {revision} does not decode"))?;
        self.marks.current = self.marks.current.max(revision);
        if let (Some(expiry), None) = (record.expiry, ended) {
            self.expiries.push((expiry, revision, record.key.clone()));
        }
        self.index.recall(record, revision, ended, place, self.marks.compacted);
        if self.expiries.len() > self.many {
            self.sort_out_expiries();
            self.many = 4096 + 2 * self.expiries.len();
        }
        Ok(())
    }

    fn sort_out_expiries(&mut self) {
        let index = &self.index;
        self.expiries.retain(|(_, revision, key)| index.newest_revision(key) == Some(*revision));
    }

    fn finish(mut self, log: Log, lock: File, history_bytes: usize) -> Opened {
        self.sort_out_expiries();
        self.index.recalled();
        let Recovery { index, marks: Marks { current, compacted }, expiries, .. } = self;
        let state = State { index, history: History::new(current, history_bytes), watchers: Watchers::default(), current, compacted };
        Opened { log, lock, state, expiries }
    }
}
