//! Under which name this process stands for leader.
//!
//! The name is kept in the data directory: a process that was killed takes its lease up again at once instead of waiting
//! until it runs out. A lock on the file keeps two live processes from sharing the name.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// A name that no other live process has.
pub struct Identity {
    name: Arc<str>,
    /// Held as long as this lives; `None` for a name that is not kept.
    _lock: Option<Flock<File>>,
}

impl Identity {
    /// The name kept in `dir`, or one for this process alone where another one uses that.
    pub fn claim(dir: &Path, host: &str) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join("leader-identity");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.with_context(|| format!("cannot open {}", path.display()))?;
        let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(Identity { name: fresh(host)?.into(), _lock: None });
        };
        let mut text = String::new();
        lock.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
        let known = text.trim();
        // A name of another host was copied along with the directory.
        let name = if known.starts_with(&format!("{host}_")) {
            known.to_owned()
        } else {
            let name = fresh(host)?;
            let written = lock.rewind().and_then(|()| lock.set_len(0)).and_then(|()| lock.write_all(name.as_bytes())).and_then(|()| lock.sync_all());
            written.with_context(|| format!("cannot write {}", path.display()))?;
            name
        };
        Ok(Identity { name: name.into(), _lock: Some(lock) })
    }

    pub fn name(&self) -> Arc<str> {
        self.name.clone()
    }
}

/// `host_uuid`, as upstream names its candidates.
fn fresh(host: &str) -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no random name")?;
    Ok(format!("{host}_{}", uuid.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_over_restarts_and_never_shared() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = Identity::claim(dir.path(), "h").expect("claims");
        let other = Identity::claim(dir.path(), "h").expect("claims");
        assert_ne!(first.name(), other.name());
        let name = first.name();
        drop(first);
        assert_eq!(Identity::claim(dir.path(), "h").expect("claims").name(), name);
        assert_ne!(Identity::claim(dir.path(), "elsewhere").expect("claims").name(), name);
    }
}
