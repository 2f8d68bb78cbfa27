//! Files of a configuration: the one that is named, and a folder of drop-ins over it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{ConfigurationError, KubeletConfiguration, decode};

const DROP_IN: &str = "conf";

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("failed to load kubelet config file, path: {0}, error: {1}")]
    File(PathBuf, FileError),
    #[error("failed to merge kubelet configs: failed to walk through kubelet dropin directory {0:?}: {1}")]
    Folder(PathBuf, io::Error),
    #[error("failed to merge kubelet configs: failed to load kubelet dropin file, path: {0}, error: {1}")]
    DropIn(PathBuf, FileError),
}

/// Why a file of it is unusable.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("failed to read kubelet config file {0:?}, error: {1}")]
    Read(PathBuf, io::Error),
    #[error("kubelet config file {0:?} was empty")]
    Empty(PathBuf),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

pub(super) fn load(file: Option<&Path>, drop_ins: Option<&Path>) -> Result<KubeletConfiguration, LoadError> {
    let mut configuration = KubeletConfiguration::default();
    if let Some(file) = file {
        let text = read(file).map_err(|error| LoadError::File(file.to_owned(), error))?;
        let parsed = KubeletConfiguration::parse(&text).map_err(|error| LoadError::File(file.to_owned(), error.into()))?;
        configuration = parsed;
        configuration.resolve_paths(file);
    }
    if let Some(folder) = drop_ins {
        // Of the signals that drop-ins say nothing of, what held before holds.
        configuration.say("evictionHard", serde_json::json!(configuration.eviction().hard));
        let mut found = Vec::new();
        walk(folder, &mut found).map_err(|error| LoadError::Folder(folder.to_owned(), error))?;
        for path in found {
            let failed = |error: FileError| LoadError::DropIn(path.clone(), error);
            let text = read(&path).map_err(failed)?;
            configuration.merge(decode::document(&text).map_err(|error| failed(error.into()))?);
        }
    }
    Ok(configuration)
}

fn read(path: &Path) -> Result<String, FileError> {
    let text = fs::read_to_string(path).map_err(|error| FileError::Read(path.to_owned(), error))?;
    if text.is_empty() { Err(FileError::Empty(path.to_owned())) } else { Ok(text) }
}

/// The drop-ins of a folder and of those in it, in the order of their names.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == DROP_IN) {
            found.push(path);
        } else {
            tracing::info!(file = %path.display(), "skipped in the folder of the kubelet's configuration: it is no *.conf");
        }
    }
    Ok(())
}
