//! What a manager knows: in memory for whoever asks, in a file for the next process.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::refusal::Refusal;
use crate::files::blocking;

/// See the module.
#[derive(Debug)]
pub struct Kept<S> {
    path: PathBuf,
    encode: fn(&S) -> String,
    current: Mutex<Current<S>>,
    /// What the file has. Held while it is written.
    written: tokio::sync::Mutex<u64>,
    changed: Notify,
}

#[derive(Debug)]
struct Current<S> {
    state: Arc<S>,
    /// Counts changes.
    revision: u64,
}

impl<S: Clone + PartialEq + Send + Sync + 'static> Kept<S> {
    /// Writes what holds at the start. Blocking.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(path: PathBuf, encode: fn(&S) -> String, state: S) -> Result<Self, String> {
        write(&path, &encode(&state)).map_err(|error| format!("write {}: {error}", path.display()))?;
        let current = Mutex::new(Current { state: Arc::new(state), revision: 0 });
        Ok(Kept { path, encode, current, written: tokio::sync::Mutex::new(0), changed: Notify::new() })
    }

    /// What holds.
    pub fn get(&self) -> Arc<S> {
        self.current.lock().state.clone()
    }

    /// Changes that as a whole or, when that fails, not at all.
    ///
    /// # Errors
    /// Those of the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut current = self.current.lock();
        let mut changed = S::clone(&current.state);
        let outcome = change(&mut changed)?;
        if changed != *current.state {
            *current = Current { state: Arc::new(changed), revision: current.revision + 1 };
            self.changed.notify_one();
        }
        Ok(outcome)
    }

    /// Wakes who waits for changes.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits for a change. One at a time may wait.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the disk has what holds.
    ///
    /// # Errors
    /// When the file cannot be written; it stays as it was.
    pub async fn keep(&self) -> Result<(), String> {
        let mut written = self.written.lock().await;
        let (state, revision) = {
            let current = self.current.lock();
            (current.state.clone(), current.revision)
        };
        if *written == revision {
            return Ok(());
        }
        let (path, encode) = (self.path.clone(), self.encode);
        let kept = blocking(move || write(&path, &encode(&state))).await;
        kept.map_err(|error| format!("could not save {}: {error}", self.path.display()))?;
        *written = revision;
        Ok(())
    }
}

/// Reads what an earlier process left; `None` when that is nothing. Blocking.
///
/// # Errors
/// When it cannot be read, or decoded.
pub fn read<S>(path: &Path, decode: impl FnOnce(&str) -> Result<S, String>) -> Result<Option<S>, String> {
    match fs::read_to_string(path) {
        Ok(text) => decode(&text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// FNV-1a of 32 bits, with which upstream seals such files.
pub fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The whole text or, when that fails, what was there before.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
