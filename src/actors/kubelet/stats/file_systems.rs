//! How full the file systems are that containers write to.

use std::{collections::BTreeMap, path::Path};

use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use troupe_cri::Runtime;

use crate::files::blocking;

/// Bytes and inodes of logs by the pods' uids and the containers' names.
pub type PodLogs = BTreeMap<String, BTreeMap<String, (u64, u64)>>;

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    pub capacity: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl FileSystem {
    /// The one that a path lies in. Blocking.
    pub fn of(path: &Path) -> Option<Self> {
        let found = statvfs(path).ok()?;
        Some(FileSystem {
            capacity: found.blocks() * found.fragment_size(),
            available: found.blocks_available() * found.fragment_size(),
            inodes: found.files(),
            inodes_free: found.files_free(),
        })
    }

    /// As the summary tells it, with what somebody uses of it.
    pub fn told(self, taken: &str, (bytes, inodes): (Option<u64>, Option<u64>)) -> Value {
        json!({"time": taken, "availableBytes": self.available, "capacityBytes": self.capacity, "usedBytes": bytes,
            "inodesFree": self.inodes_free, "inodes": self.inodes, "inodesUsed": inodes})
    }
}

/// Where the runtime keeps images and layers, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageFileSystem {
    pub file_system: FileSystem,
    pub used: Option<u64>,
    pub inodes_used: Option<u64>,
}

/// Asks the runtime; `None` where it does not tell.
pub async fn of_images(runtime: &dyn Runtime) -> Option<ImageFileSystem> {
    let told = runtime.image_fs_info().await.ok()?.into_iter().next()?;
    let place = told.fs_id?.mountpoint;
    let file_system = blocking(move || FileSystem::of(Path::new(&place))).await?;
    let (used, inodes_used) = (told.used_bytes.map(|used| used.value), told.inodes_used.map(|used| used.value));
    Some(ImageFileSystem { file_system, used, inodes_used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_tells_how_full_it_is() {
        let found = FileSystem::of(Path::new("/")).expect("there is a root");
        assert!(found.capacity >= found.available && found.capacity > 0);
        let told = found.told("now", (Some(7), None));
        assert_eq!((&told["usedBytes"], &told["inodesUsed"], &told["capacityBytes"]), (&json!(7), &Value::Null, &json!(found.capacity)));
    }
}
