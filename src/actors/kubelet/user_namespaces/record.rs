//! The file with a pod's ids in its directory: upstream's, so that either kubelet goes on with the other's.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use troupe_cri::security::IdRange;

const FILE: &str = "userns";
/// One that is longer is none.
const LONGEST: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mappings {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// The ids of the pod with this directory; `None` for one that has none of its own.
///
/// # Errors
/// When what is there cannot be read, or is nothing that is written here, in upstream's words.
pub(super) fn read(pod: &Path) -> Result<Option<IdRange>, String> {
    let path = pod.join(FILE);
    let meta = match fs::symlink_metadata(&path) {
        // What is no directory has none either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(meta) => meta,
    };
    if !meta.is_file() || meta.len() > LONGEST {
        return Err("invalid user namespace mappings file: it is no such file".into());
    }
    let text = fs::read(&path).map_err(|error| error.to_string())?;
    if text.is_empty() {
        return Ok(None);
    }
    decode(&text).map(Some)
}

fn decode(text: &[u8]) -> Result<IdRange, String> {
    let Mappings { uid_mappings, gid_mappings } =
        serde_json::from_slice(text).map_err(|error| format!("invalid user namespace mappings file: {error}"))?;
    let invalid = |why: &str| Err(format!("invalid user namespace configuration: {why}"));
    let [Mapping { host_id, container_id, length }] = uid_mappings[..] else { return invalid("no more than one mapping allowed.") };
    if gid_mappings != uid_mappings {
        return invalid("GID and UID mapping should be identical");
    }
    if container_id != 0 {
        return invalid("UID 0 must be mapped");
    }
    Ok(IdRange { first: host_id, length })
}

/// Writes the ids of the pod with this directory, whole or not at all, and waits until the disk has them.
pub(super) fn write(pod: &Path, range: IdRange) -> io::Result<()> {
    let mapping = vec![Mapping { host_id: range.first, container_id: 0, length: range.length }];
    let text = serde_json::to_vec(&Mappings { uid_mappings: mapping.clone(), gid_mappings: mapping }).map_err(io::Error::other)?;
    let unfinished = pod.join(format!("{FILE}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&unfinished, pod.join(FILE))?;
    File::open(pod)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_upstreams() {
        let place = tempfile::tempdir().expect("a directory");
        let range = IdRange { first: 65_536, length: 65_536 };
        assert_eq!(read(place.path()), Ok(None));
        write(place.path(), range).expect("writes");
        let text = fs::read_to_string(place.path().join(FILE)).expect("is there");
        let one = r#"[{"hostId":65536,"containerId":0,"length":65536}]"#;
        assert_eq!(text, format!("{{\"uidMappings\":{one},\"gidMappings\":{one}}}"));
        assert_eq!(read(place.path()), Ok(Some(range)));
    }

    #[test]
    fn what_is_not_written_here_is_refused() {
        let why = |uids: &str, gids: &str| decode(format!("{{\"uidMappings\":{uids},\"gidMappings\":{gids}}}").as_bytes()).expect_err("refused");
        let (one, other) = (r#"{"hostId":65536,"containerId":0,"length":65536}"#, r#"{"hostId":65536,"containerId":1,"length":65536}"#);
        let list = |one: &str| format!("[{one}]");
        assert_eq!(why("[]", "[]"), "invalid user namespace configuration: no more than one mapping allowed.");
        assert_eq!(why(&list(one), &list(other)), "invalid user namespace configuration: GID and UID mapping should be identical");
        assert_eq!(why(&list(other), &list(other)), "invalid user namespace configuration: UID 0 must be mapped");
        assert!(decode(b"{").expect_err("refused").starts_with("invalid user namespace mappings file: "));
    }
}
