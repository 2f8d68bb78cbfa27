//! Records as files, named by a hash of what they are about: `image_manager/pulling` and `image_manager/pulled` below the kubelet's directory,
//! as upstream lays them out. Each is written whole or not at all. Blocking.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use troupe_api::meta::time::format_time;

use super::{
    metrics,
    record::{GROUP_VERSION, ImagePullCredentials, ImagePulledRecord},
};

const PREFIX: &str = "sha256-";
const UNFINISHED: &str = ".tmp";
/// Bytes of a file; those that are written here are smaller.
const LONGEST: u64 = 16 << 20;

/// A pull that was to begin.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImagePullIntent {
    kind: String,
    api_version: String,
    image: String,
}

/// See the module.
pub(super) struct Files {
    pulling: PathBuf,
    pulled: PathBuf,
}

impl Files {
    pub fn new(root: &Path) -> Self {
        let place = root.join("image_manager");
        Files { pulling: place.join("pulling"), pulled: place.join("pulled") }
    }

    pub fn write_intent(&self, image: &str) -> io::Result<()> {
        let intent = ImagePullIntent { kind: "ImagePullIntent".into(), api_version: GROUP_VERSION.into(), image: image.to_owned() };
        let written = write(&self.pulling, image, &intent);
        self.count();
        written
    }

    pub fn has_intent(&self, image: &str) -> bool {
        self.pulling.join(file_name(image)).exists()
    }

    pub fn remove_intent(&self, image: &str) -> io::Result<()> {
        let removed = remove(&self.pulling.join(file_name(image)));
        self.count();
        removed
    }

    /// The images of all that can be read.
    pub fn intents(&self) -> Vec<String> {
        let all = names(&self.pulling).into_iter();
        all.filter_map(|name| read::<ImagePullIntent>(&self.pulling.join(name)).ok().flatten()).map(|intent| intent.image).collect()
    }

    /// `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self, image_ref: &str) -> Result<Option<ImagePulledRecord>, String> {
        let record: Option<ImagePulledRecord> = read(&self.pulled.join(file_name(image_ref)))?;
        Ok(record.filter(|record| record.image_ref == image_ref))
    }

    /// Writes down what an image was pulled with under a name; `None` where nobody knows. A record that cannot be read is written anew.
    pub fn merge(&self, image_ref: &str, name: &str, credentials: Option<&ImagePullCredentials>, now: Timestamp) -> io::Result<()> {
        let known = self.record(image_ref).ok().flatten();
        let mut record = known.unwrap_or_else(|| ImagePulledRecord::new(image_ref, now));
        match credentials {
            Some(credentials) => record.merge(name, credentials, now),
            None => record.last_updated_time = format_time(now),
        }
        let written = write(&self.pulled, image_ref, &record);
        self.count();
        written
    }

    /// How many pulls and how many records are noted.
    pub fn kept(&self) -> (usize, usize) {
        (names(&self.pulling).len(), names(&self.pulled).len())
    }

    /// Shows that in metrics.
    fn count(&self) {
        let (intents, records) = self.kept();
        metrics::kept(intents, records);
    }

    /// Drops all records but those of these images, and those that were written since.
    pub fn prune(&self, present: &[String], since: Timestamp) {
        let kept: BTreeSet<String> = present.iter().map(|image_ref| file_name(image_ref)).collect();
        for name in names(&self.pulled).iter().filter(|name| !kept.contains(*name)) {
            drop_older(&self.pulled.join(name), since);
        }
        self.count();
    }

    /// Drops one unless it was written since.
    pub fn forget(&self, image_ref: &str, since: Timestamp) {
        drop_older(&self.pulled.join(file_name(image_ref)), since);
        self.count();
    }
}

fn drop_older(path: &Path, since: Timestamp) {
    // Times of one format compare as texts.
    let is_newer = |record: ImagePulledRecord| record.last_updated_time >= format_time(since);
    if read(path).ok().flatten().is_some_and(is_newer) {
        return;
    }
    if let Err(error) = remove(path) {
        tracing::warn!(%error, path = %path.display(), "the record of an image that is gone stays");
    }
}

fn file_name(about: &str) -> String {
    format!("{PREFIX}{}", hex::encode(Sha256::digest(about)))
}

/// The files of a folder that were written here, and whole.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(PREFIX) && !name.ends_with(UNFINISHED)).collect();
    names.sort();
    names
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let file = match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(file) => file,
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string())
}

fn write(folder: &Path, about: &str, what: &impl Serialize) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(file_name(about));
    let unfinished = folder.join(format!("{}{UNFINISHED}", file_name(about)));
    let text = serde_json::to_vec(what).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
