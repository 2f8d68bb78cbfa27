//! A file that one kubelet of a machine holds at a time (`--lock-file`), as upstream's: one that starts waits until the other has ended, and one that
//! is to give way (`--exit-on-lock-contention`) ends in good order as soon as somebody else opens the file.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

/// A file that this process holds, until it drops this.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl LockFile {
    /// Takes the file that is named, if one is, however long another process has it. Whoever gives way has to have one.
    ///
    /// # Errors
    /// When there can be no such file, or it cannot be watched.
    pub fn of(path: Option<&Path>, gives_way: bool) -> Result<Option<Self>> {
        let Some(path) = path else {
            if gives_way {
                bail!("cannot exit on lock file contention: no lock file specified");
            }
            return Ok(None);
        };
        let held = LockFile::take(path).with_context(|| format!("unable to acquire file lock on {:?}", path.display().to_string()))?;
        if gives_way {
            held.on_contention(end_in_good_order)?;
        }
        Ok(Some(held))
    }

    fn take(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, _)) => {
                eprintln!("  … waiting for the lock file {}, which another process holds", path.display());
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| anyhow!(error))?
            }
        };
        Ok(LockFile { path: path.to_owned(), _lock: lock })
    }

    /// Does something as soon as somebody else opens the file, or it is removed.
    fn on_contention(&self, then: impl FnOnce() + Send + 'static) -> Result<()> {
        let path = self.path.clone();
        let watch = Inotify::init(InitFlags::IN_CLOEXEC).context("cannot watch files")?;
        let events = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_DELETE_SELF;
        watch.add_watch(&path, events).with_context(|| format!("cannot watch the lock file {}", path.display()))?;
        let wait = move || match watch.read_events() {
            Ok(_) => {
                tracing::warn!(path = %path.display(), "somebody else wants the lock file: this process ends");
                then();
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the lock file is not watched any more: this process ends");
                then();
            }
        };
        thread::Builder::new().name("lock-file".into()).spawn(wait).context("cannot watch the lock file")?;
        Ok(())
    }
}

/// As a service manager would have it.
fn end_in_good_order() {
    if let Err(error) = kill(Pid::this(), Signal::SIGTERM) {
        tracing::error!(%error, "this process cannot end itself");
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn who_comes_second_waits_until_the_first_has_ended() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("lock");
        let first = LockFile::of(Some(&path), false).expect("nobody has it").expect("is named");
        let (told, heard) = mpsc::channel();
        first.on_contention(move || told.send(()).expect("somebody listens")).expect("watches");
        let (taken, second) = mpsc::channel();
        let wanted = path.clone();
        let other = thread::spawn(move || {
            let lock = LockFile::of(Some(&wanted), false).expect("waits");
            taken.send(()).expect("somebody listens");
            lock
        });
        heard.recv_timeout(PATIENCE).expect("the first hears of it");
        assert!(second.try_recv().is_err(), "the first still has it");
        drop(first);
        second.recv_timeout(PATIENCE).expect("the second has it");
        assert!(other.join().expect("ends").is_some());
    }

    #[test]
    fn a_file_that_is_removed_is_wanted_by_somebody() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("lock");
        let held = LockFile::of(Some(&path), false).expect("nobody has it").expect("is named");
        let (told, heard) = mpsc::channel();
        let file = held.path.clone();
        // The file itself goes when nobody has it open any more.
        held.on_contention(move || told.send(()).expect("somebody listens")).expect("watches");
        std::fs::remove_file(file).expect("removes");
        drop(held);
        heard.recv_timeout(PATIENCE).expect("is told");
    }

    #[test]
    fn nobody_gives_way_without_a_file() {
        assert!(LockFile::of(None, false).expect("works").is_none());
        let why = LockFile::of(None, true).expect_err("there is no file").to_string();
        assert_eq!(why, "cannot exit on lock file contention: no lock file specified");
        let why = LockFile::of(Some(Path::new("/nowhere/at/all/lock")), false).expect_err("no such folder").to_string();
        assert_eq!(why, "unable to acquire file lock on \"/nowhere/at/all/lock\"");
    }
}
