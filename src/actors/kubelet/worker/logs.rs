//! The logs of a pod's containers on disk. They tell of starts that the runtime has forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    path::Path,
};

use crate::files::Directory;

/// The restart counts that log files prove: the highest number of each container's directory in a pod's log directory.
pub fn logged_attempts(directory: &Path) -> BTreeMap<String, u32> {
    let Ok((pod, containers)) = Directory::open(directory).and_then(|pod| pod.entries().map(|entries| (pod, entries))) else {
        return BTreeMap::new();
    };
    let highest = |name: &OsStr| {
        let files = pod.open_dir(Path::new(name)).ok()?.entries().ok()?;
        files.iter().filter_map(|file| attempt_of(file.name.to_str()?)).max()
    };
    containers.iter().filter_map(|entry| Some((entry.name.to_str()?.to_owned(), highest(&entry.name)?))).collect()
}

/// The newest start of a container that left a log, of those before `attempt` where one is given.
pub fn newest_log(directory: &Path, container: &str, attempt: Option<u32>) -> Option<u32> {
    let files = Directory::open(directory).and_then(|pod| pod.open_dir(Path::new(container))?.entries()).ok()?;
    let whole = files.iter().filter_map(|file| {
        let name = file.name.to_str()?;
        attempt_of(name).filter(|attempt| name == format!("{attempt}.log"))
    });
    whole.filter(|found| attempt.is_none_or(|attempt| *found < attempt)).max()
}

/// Removes the logs of a container's starts before the previous one of `attempt`, with the parts that were rotated away, apart from those
/// that are `kept`. Logs of dead containers go with these; what is older is of containers that the runtime has forgotten.
///
/// # Errors
/// When the directory cannot be read or a file not be removed.
pub fn forget_older(directory: &Path, container: &str, attempt: u32, kept: &BTreeSet<u32>) -> io::Result<()> {
    let folder = match Directory::open(directory).and_then(|pod| pod.open_dir(Path::new(container))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    for file in folder.entries()? {
        let old = file.name.to_str().filter(|name| attempt_of(name).is_some_and(|found| found.saturating_add(1) < attempt && !kept.contains(&found)));
        if let Some(name) = old {
            folder.remove_file(name)?;
        }
    }
    Ok(())
}

/// The start whose log, or part of it, has this name: `3.log`, `3.log.20260102-030405.gz`.
fn attempt_of(name: &str) -> Option<u32> {
    name.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn logs_tell_of_earlier_starts_until_two_more_have_begun() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("c");
        fs::create_dir(&folder).expect("makes");
        assert_eq!((newest_log(dir.path(), "c", None), newest_log(dir.path(), "none", None)), (None, None));
        for name in ["0.log", "1.log", "1.log.20260102-030405.gz", "2.log", "3.log", "4.log.20260102-030405", "other"] {
            fs::write(folder.join(name), "").expect("writes");
        }
        assert_eq!(logged_attempts(dir.path()), BTreeMap::from([("c".to_owned(), 4)]));
        assert_eq!([None, Some(3), Some(0)].map(|attempt| newest_log(dir.path(), "c", attempt)), [Some(3), Some(2), None]);
        forget_older(dir.path(), "c", 3, &BTreeSet::from([0])).expect("removes");
        let mut left: Vec<_> = fs::read_dir(&folder).expect("reads").flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        left.sort();
        assert_eq!(left, ["0.log", "2.log", "3.log", "4.log.20260102-030405", "other"]);
        forget_older(dir.path(), "none", 3, &BTreeSet::new()).expect("nothing to do");
    }
}
