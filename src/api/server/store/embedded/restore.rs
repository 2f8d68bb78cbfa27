//! Restoring a backup: a new store is made beside the old one and takes its place when it is complete.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use troupe_api::meta::Revision;

use super::{EmbeddedOptions, EmbeddedStore, OpenError, open};
use crate::store::{
    RangeRequest, Store,
    backup::{BackupReader, RestoreError, RestoreOptions, Restored, fill},
};

impl EmbeddedStore {
    /// Restores a backup into the directory `path`, which must hold no store, or one without keys unless forced. What was
    /// there stays beside it, under the path returned.
    ///
    /// # Errors
    /// When the store is in use, not empty, or the backup is damaged; the old store is in its place then.
    pub async fn restore<R: Read>(
        path: &Path,
        backup: &mut BackupReader<R>,
        options: RestoreOptions,
    ) -> Result<(Restored, Option<PathBuf>), RestoreError> {
        let held = match held(path).await {
            // It cannot be read, and it is kept. The margin is behind what was written since the backup was taken.
            Err(RestoreError::Open(OpenError::OlderFormat { .. })) if options.force => Some((0, backup.head().revision)),
            held => held?,
        };
        if let Some((keys, _)) = held
            && keys > 0
            && !options.force
        {
            return Err(RestoreError::NotEmpty { keys });
        }
        let newest = held.map_or(Revision::ZERO, |(_, revision)| revision).max(backup.head().revision);
        let draft = beside(path, "restoring");
        remove(&draft)?;
        open::seed(&draft, Revision(newest.0 + options.margin))?;
        let store = EmbeddedStore::open_with(&draft, EmbeddedOptions::default())?;
        let restored = fill(&store, backup).await?;
        drop(store);
        let old = held.map(|(_, revision)| beside(path, &format!("before-restore-{revision}")));
        if let Some(old) = &old {
            remove(old)?;
            fs::rename(path, old)?;
        }
        fs::rename(&draft, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok((restored, old))
    }
}

/// How many keys the store in `path` holds and its revision; `None` where there is no store.
async fn held(path: &Path) -> Result<Option<(u64, Revision)>, RestoreError> {
    let mut entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    if entries.next().is_none() {
        fs::remove_dir(path)?;
        return Ok(None);
    }
    let store = EmbeddedStore::open(path)?;
    let all = RangeRequest { start: vec![0].into(), end: vec![0].into(), limit: 1, at: None };
    let reply = store.range(all).await?;
    Ok(Some((reply.count, reply.revision)))
}

/// `path` with more behind its name.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(OpenError::Io { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}
