//! Files of configuration that are looked at while the server runs, and what is counted of that under upstream's names.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use troupe_api::{
    document::FileError,
    metrics::{Counter, Family, Gauge},
};

/// How often files are looked at that say who may do what.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// By what upstream's metrics tell API servers apart: a hash of the server's id; empty before it has one.
static SERVER: OnceLock<String> = OnceLock::new();
/// The labels of what is counted.
pub const LABELS: &[&str] = &["status", "apiserver_id_hash"];

/// The API server of this process has this id, for as long as it runs.
pub fn name_server(id: &str) {
    SERVER.get_or_init(|| hashed(id));
}

fn hashed(id: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(id)))
}

/// What is counted of one kind of file.
#[derive(Clone, Copy)]
pub struct ReloadMetrics {
    pub reloads: &'static Family<Counter>,
    pub last: &'static Family<Gauge>,
}

impl ReloadMetrics {
    /// A file was used (`success`), or could not be (`failure`).
    pub(crate) fn note(&self, status: &str) {
        let labels = [status, SERVER.get().map_or("", String::as_str)];
        self.reloads.with(&labels).increment();
        self.last.with(&labels).set(Timestamp::now().as_millisecond() as f64 / 1e3);
    }
}

/// A file, with what it said the last time.
pub struct FollowedFile {
    path: PathBuf,
    text: String,
}

impl FollowedFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Ok(FollowedFile { text: read(path)?, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says, if that is something else than the last time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn look(&mut self) -> Result<Option<&str>, FileError> {
        let text = read(&self.path)?;
        if text == self.text {
            return Ok(None);
        }
        self.text = text;
        Ok(Some(&self.text))
    }

    /// Looks every so often, for ever, and hands on what is new. What is unusable changes nothing and is not tried again.
    pub async fn follow(mut self, every: Duration, metrics: ReloadMetrics, mut exchange: impl FnMut(&Path, &str) -> Result<(), String> + Send) {
        loop {
            tokio::time::sleep(every).await;
            let path = self.path.clone();
            let outcome = match self.look() {
                Ok(None) => continue,
                Ok(Some(text)) => exchange(&path, text),
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(()) => {
                    metrics.note("success");
                    tracing::info!(file = %path.display(), "loaded a new configuration");
                }
                Err(error) => {
                    metrics.note("failure");
                    tracing::error!(file = %path.display(), error, "the new configuration is not used");
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|error| FileError::Read(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_id_is_told_as_its_hash() {
        // As sha256sum computes it.
        assert_eq!(hashed("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_file_is_new_once_and_only_if_it_says_something_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        assert!(FollowedFile::open(&path).is_err());
        let write = |text: &str| std::fs::write(&path, text).expect("writes");
        write("a");
        let mut file = FollowedFile::open(&path).expect("opens");
        assert_eq!((file.text(), file.path()), ("a", &*path));
        write("a");
        assert_eq!(file.look().expect("reads"), None);
        write("b");
        assert_eq!(file.look().expect("reads"), Some("b"));
        assert_eq!(file.look().expect("reads"), None);
        std::fs::remove_file(&path).expect("goes");
        assert!(file.look().is_err());
        write("b");
        assert_eq!(file.look().expect("reads"), None, "it is as it was");
    }
}
