//! Marks in directories that say whose they are, so that nobody else takes or removes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::durable;

const MARK: &str = ".troupe-instance";

/// The id of the instance that a directory belongs to, where one said so.
pub fn owner(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join(MARK)).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Marks a directory, and makes it if it is not there.
pub fn put(dir: &Path, id: &str) -> io::Result<()> {
    if owner(dir).as_deref() == Some(id) {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    durable::write(&dir.join(MARK), format!("{id}\n").as_bytes())
}

/// Whether a directory is another kubelet's: it has what only that one writes.
pub fn is_foreign_kubelets(dir: &Path) -> bool {
    owner(dir).is_none() && ["cpu_manager_state", "memory_manager_state", "kubeadm-flags.env"].iter().any(|name| dir.join(name).exists())
}

/// A path by which two names of one directory are the same: links are followed as far as it exists.
pub fn canonical(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_whose_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let kubelet = dir.path().join("kubelet");
        assert_eq!(owner(&kubelet), None);
        put(&kubelet, "abc").expect("marks");
        put(&kubelet, "abc").expect("it is marked");
        assert_eq!(owner(&kubelet).as_deref(), Some("abc"));
        assert!(!is_foreign_kubelets(&kubelet));
        fs::write(dir.path().join("cpu_manager_state"), "").expect("writes");
        assert!(is_foreign_kubelets(dir.path()));
    }

    #[test]
    fn two_names_of_a_directory_are_one_also_before_it_exists() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("real")).expect("makes");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("links");
        assert_eq!(canonical(&dir.path().join("link/a/b")), canonical(&dir.path().join("real/a/b")));
        assert_ne!(canonical(&dir.path().join("real2")), canonical(&dir.path().join("real")));
    }
}
