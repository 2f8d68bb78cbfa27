//! What must be known after a restart, in a file: text with its checksum, written whole or not at all. The format is upstream's of its
//! DRA manager: `{"Data": TEXT, "Checksum": CRC-32}`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Records of thousands of pods are smaller.
const LONGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sealed {
    data: String,
    checksum: u32,
}

/// See the module.
pub struct Checkpoint(PathBuf);

impl Checkpoint {
    pub fn new(path: PathBuf) -> Self {
        Checkpoint(path)
    }

    /// What is there. A file that cannot be read is set aside, not lost. Blocking.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        match self.try_read() {
            Ok(found) => found,
            Err(why) => {
                let aside = self.0.with_extension("unreadable");
                tracing::error!(why, path = %self.0.display(), aside = %aside.display(), "what a process before this one kept is not known");
                if let Err(error) = fs::rename(&self.0, &aside) {
                    tracing::warn!(%error, "the file is not set aside");
                }
                None
            }
        }
    }

    fn try_read<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let text = match fs::symlink_metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(meta) if !meta.is_file() || meta.len() > LONGEST => return Err("it is no such file".into()),
            Ok(_) => fs::read(&self.0).map_err(|error| error.to_string())?,
        };
        let sealed: Sealed = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let found = crc32(sealed.data.as_bytes());
        if found != sealed.checksum {
            return Err(format!("checkpoint is corrupted: checksum {found}, not {}", sealed.checksum));
        }
        serde_json::from_str(&sealed.data).map(Some).map_err(|error| error.to_string())
    }

    /// Writes all, and waits until the disk has it. Blocking.
    ///
    /// # Errors
    /// When the disk does not take it; what was there before stays.
    pub fn write<T: Serialize>(&self, kept: &T) -> io::Result<()> {
        let data = serde_json::to_string(kept).map_err(io::Error::other)?;
        let sealed = Sealed { checksum: crc32(data.as_bytes()), data };
        let text = serde_json::to_vec(&sealed).map_err(io::Error::other)?;
        let unfinished = self.0.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.0)
    }
}

/// CRC-32 as in IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_was_tampered_with_does_not() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let place = tempfile::tempdir().expect("a directory");
        let checkpoint = Checkpoint::new(place.path().join("state"));
        assert_eq!(checkpoint.read::<Vec<String>>(), None);
        checkpoint.write(&vec!["a".to_owned()]).expect("written");
        assert_eq!(checkpoint.read::<Vec<String>>(), Some(vec!["a".to_owned()]));
        let text = fs::read_to_string(place.path().join("state")).expect("there").replace("a\\\"", "b\\\"");
        fs::write(place.path().join("state"), text).expect("written");
        assert_eq!(checkpoint.read::<Vec<String>>(), None);
        assert!(place.path().join("state.unreadable").exists(), "somebody may want to look");
    }
}
