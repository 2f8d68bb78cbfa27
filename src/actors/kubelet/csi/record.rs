//! What is on disk of CSI volumes: where drivers put them, and what is written down before they are asked to.
//!
//! A pod's record is written before the first call for its volume, and removed after the last: whoever finds one, after any crash,
//! knows what to undo. Paths are upstream's; some drivers look at them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::volume::Volume;
use crate::storage::csi::attachment_name;

const FILE: &str = "vol_data.json";
/// Records are some hundred bytes; a file that is longer is none.
const LONGEST: u64 = 1 << 20;
const PLUGIN: &str = "kubernetes.io~csi";

/// One pod's use of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    #[serde(rename = "specVolID")]
    pub spec_name: String,
    #[serde(rename = "volumeHandle")]
    pub handle: String,
    #[serde(rename = "driverName")]
    pub driver: String,
    #[serde(rename = "nodeName")]
    pub node: String,
    #[serde(rename = "attachmentID")]
    pub attachment: String,
    #[serde(rename = "volumeLifecycleMode")]
    pub lifecycle: String,
    /// The volume's name in the pod's spec; upstream finds it in the spec again.
    #[serde(rename = "podVolume")]
    pub pod_volume: String,
    #[serde(rename = "volumeMode")]
    pub mode: String,
}

impl Record {
    pub fn of(volume: &Volume, node: &str) -> Self {
        Record {
            spec_name: volume.spec_name.clone(),
            handle: volume.handle.clone(),
            driver: volume.driver.clone(),
            node: node.to_owned(),
            attachment: attachment_name(&volume.handle, &volume.driver, node),
            lifecycle: volume.lifecycle().to_owned(),
            pod_volume: volume.pod_volume.clone(),
            mode: if volume.is_block { "Block".into() } else { "Filesystem".into() },
        }
    }

    pub fn is_block(&self) -> bool {
        self.mode == "Block"
    }

    pub fn is_ephemeral(&self) -> bool {
        self.lifecycle == "Ephemeral"
    }

    pub fn unique_name(&self) -> String {
        crate::storage::csi::unique_name(&self.driver, &self.handle)
    }
}

/// Where things lie below the kubelet's directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(kubelet_root: &Path) -> Self {
        Layout { root: kubelet_root.to_owned() }
    }

    fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    fn plugin(&self) -> PathBuf {
        self.root.join("plugins/kubernetes.io/csi")
    }

    /// The directory of a pod's record.
    pub fn of_pod(&self, uid: &str, spec_name: &str) -> PathBuf {
        directory_of(&self.pod(uid), spec_name)
    }

    /// Where the driver puts a pod's volume.
    pub fn target(&self, uid: &str, record: &Record) -> PathBuf {
        if record.is_block() {
            return self.plugin().join("volumeDevices/publish").join(&record.spec_name).join(uid);
        }
        self.of_pod(uid, &record.spec_name).join("mount")
    }

    /// Where the driver puts what all pods of the node share of a volume.
    pub fn staging(&self, record: &Record) -> PathBuf {
        if record.is_block() {
            return self.plugin().join("volumeDevices/staging").join(&record.spec_name);
        }
        self.plugin().join(&record.driver).join(hex::encode(Sha256::digest(&record.handle))).join("globalmount")
    }

    /// The records of a pod. Blocking.
    pub fn records(&self, uid: &str) -> Vec<Record> {
        records_in(&self.pod(uid))
    }

    /// The records of all pods, with their uids. Blocking.
    pub fn all(&self) -> Vec<(String, Record)> {
        let pods = fs::read_dir(self.root.join("pods")).into_iter().flatten().flatten();
        let uids = pods.filter_map(|entry| entry.file_name().into_string().ok());
        uids.flat_map(|uid| self.records(&uid).into_iter().map(move |record| (uid.clone(), record)).collect::<Vec<_>>()).collect()
    }

    /// Writes a pod's record, whole or not at all. Blocking.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, uid: &str, record: &Record) -> io::Result<()> {
        let directory = self.of_pod(uid, &record.spec_name);
        write_file(&directory, &serde_json::to_vec(record).map_err(io::Error::other)?)
    }

    /// Writes beside a staged volume what it is, for whoever looks; this kubelet goes by the records of pods. Blocking.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write_staged(&self, record: &Record) -> io::Result<()> {
        let staging = self.staging(record);
        fs::create_dir_all(&staging)?;
        if record.is_block() {
            return Ok(());
        }
        let content = BTreeMap::from([("driverName", &record.driver), ("volumeHandle", &record.handle)]);
        write_file(staging.parent().unwrap_or(&staging), &serde_json::to_vec(&content).map_err(io::Error::other)?)
    }

    /// Removes what is left of a staged volume. Blocking.
    ///
    /// # Errors
    /// When something is still in it.
    pub fn forget_staged(&self, record: &Record) -> io::Result<()> {
        let staging = self.staging(record);
        remove_place(&staging)?;
        if record.is_block() {
            return Ok(());
        }
        let Some(parent) = staging.parent() else { return Ok(()) };
        ignore_missing(fs::remove_file(parent.join(FILE)))?;
        ignore_missing(fs::remove_dir(parent))
    }

    /// Removes a pod's record. Blocking.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&self, uid: &str, record: &Record) -> io::Result<()> {
        if let Some(shared) = self.target(uid, record).parent().filter(|_| record.is_block()) {
            // Other pods' devices may be in it.
            let _ = fs::remove_dir(shared);
        }
        let directory = self.of_pod(uid, &record.spec_name);
        ignore_missing(fs::remove_file(directory.join(FILE)))?;
        ignore_missing(fs::remove_dir(directory))
    }
}

/// Where the files of a pod's volume are, by its name in the pod's spec; `None` where no driver was asked for it. Blocking.
pub fn files_of(pod_directory: &Path, pod_volume: &str) -> Option<PathBuf> {
    let record = records_in(pod_directory).into_iter().find(|record| record.pod_volume == pod_volume)?;
    Some(directory_of(pod_directory, &record.spec_name).join("mount"))
}

fn directory_of(pod_directory: &Path, spec_name: &str) -> PathBuf {
    pod_directory.join("volumes").join(PLUGIN).join(spec_name)
}

fn records_in(pod_directory: &Path) -> Vec<Record> {
    let entries = fs::read_dir(pod_directory.join("volumes").join(PLUGIN)).into_iter().flatten().flatten();
    entries.filter_map(|entry| read(&entry.path().join(FILE), &entry.file_name().into_string().ok()?)).collect()
}

fn read(path: &Path, name: &str) -> Option<Record> {
    fs::symlink_metadata(path).ok().filter(|meta| meta.is_file() && meta.len() <= LONGEST)?;
    match fs::read(path).map(|text| serde_json::from_slice::<Record>(&text)) {
        // What it says must be where it lies.
        Ok(Ok(record)) => Some(Record { spec_name: name.to_owned(), ..record }),
        Ok(Err(error)) => {
            tracing::warn!(%error, path = %path.display(), "the record of a CSI volume is not readable");
            None
        }
        Err(_) => None,
    }
}

fn write_file(directory: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let unfinished = directory.join(format!(".{FILE}"));
    let file = fs::File::create(&unfinished)?;
    io::Write::write_all(&mut &file, content)?;
    file.sync_all()?;
    fs::rename(unfinished, directory.join(FILE))
}

/// Removes an empty directory, or a file, that a driver should have removed. What is mounted there stays.
///
/// # Errors
/// When a directory is not empty, or the system refuses.
pub fn remove_place(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) if crate::files::mounts::is_mounted(path)? => Ok(()),
        Ok(found) if found.is_dir() => ignore_missing(fs::remove_dir(path)),
        Ok(_) => ignore_missing(fs::remove_file(path)),
        Err(error) => ignore_missing(Err(error)),
    }
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_found_again_and_goes() {
        let place = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(place.path());
        let volume = Volume { pod_volume: "data".into(), spec_name: "pv-1".into(), driver: "d".into(), handle: "h".into(), ..Volume::default() };
        let record = Record::of(&volume, "n1");
        layout.write("uid", &record).expect("writes");
        assert_eq!(layout.all(), [("uid".to_owned(), record.clone())]);
        assert_eq!(files_of(&place.path().join("pods/uid"), "data"), Some(layout.target("uid", &record)));
        assert_eq!(files_of(&place.path().join("pods/uid"), "other"), None);
        fs::write(layout.of_pod("uid", "pv-1").join(FILE), "{").expect("writes");
        assert_eq!(layout.records("uid"), [], "half a record is none");
        layout.write("uid", &record).expect("writes");
        layout.write_staged(&record).expect("writes");
        assert!(layout.staging(&record).is_dir());
        layout.forget_staged(&record).expect("removes");
        layout.forget("uid", &record).expect("removes");
        layout.forget("uid", &record).expect("is gone");
        assert!(layout.all().is_empty() && !layout.staging(&record).parent().expect("a parent").exists());
    }
}
