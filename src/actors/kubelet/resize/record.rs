//! What is known of a pod's resources, on disk beside its volumes: it goes with the pod's directory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{allocation::Allocated, amounts::Actuated};

const FILE: &str = "resources.json";
/// Records are some kilobytes; a file that is longer is none.
const LONGEST: u64 = 4 << 20;

/// A pod's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub generation: i64,
    pub allocated: Allocated,
    pub actuated: Actuated,
}

impl Record {
    fn path(pod_directory: &Path) -> PathBuf {
        pod_directory.join(FILE)
    }

    /// The record in a pod's directory; `None` where there is none that can be read. Blocking.
    pub fn read(pod_directory: &Path) -> Option<Record> {
        let path = Self::path(pod_directory);
        let meta = fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file() && meta.len() <= LONGEST)?;
        match fs::read(&path).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(record)) => Some(record),
            Ok(Err(error)) => {
                tracing::warn!(%error, path = %path.display(), bytes = meta.len(), "resources of a pod are not readable, its spec counts");
                None
            }
            Err(_) => None,
        }
    }

    /// Writes the record whole or not at all, into a directory that exists. Blocking.
    ///
    /// # Errors
    /// When the disk does not take it; the record before stays.
    pub fn write(&self, pod_directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let unfinished = pod_directory.join(".resources.json");
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, Self::path(pod_directory))
    }

    /// The records of all pods by uid. Blocking.
    pub fn all(kubelet_root: &Path) -> BTreeMap<String, Record> {
        let entries = fs::read_dir(kubelet_root.join("pods")).into_iter().flatten().flatten();
        let read = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, Record::read(&entry.path())?)));
        read.collect()
    }
}
