//! Which daemon runs in a run directory: its pid file.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A daemon that was asked to stop has so long, and the kernel so long to end one that was killed.
const PATIENCE: Duration = Duration::from_secs(30);
const AFTER_KILL: Duration = Duration::from_secs(10);

/// The pid of the running daemon: it holds a lock on its pid file, which ends with it, however it ends.
pub fn running(pid_file: &Path) -> Option<i32> {
    let mut file = File::open(pid_file).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        }
        _ => None,
    }
}

/// The pid file of this process; locked while it is held, removed when dropped.
pub struct PidFile<'a> {
    path: &'a Path,
    _locked: File,
}

impl<'a> PidFile<'a> {
    /// Claims the pid file.
    ///
    /// # Errors
    /// When another daemon holds it.
    pub fn claim(path: &'a Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let mut file =
            File::options().create(true).truncate(false).write(true).open(path).with_context(|| format!("cannot write {}", path.display()))?;
        let deadline = Instant::now() + Duration::from_secs(1);
        while file.try_lock().is_err() {
            // Somebody who only looks whether a daemon runs holds it for a moment.
            match running(path) {
                Some(pid) => bail!("{} is held by a troupe that already runs on this machine (pid {pid}); troupe down stops it", path.display()),
                None if Instant::now() > deadline => bail!("{} is locked by another program", path.display()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let written = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(PidFile { path, _locked: file })
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path); // nobody holds a lock on a stale one
    }
}

/// Asks the daemon to stop and waits until it is gone. False if none runs.
pub fn stop(pid_file: &Path) -> Result<bool> {
    let Some(pid) = running(pid_file) else { return Ok(false) };
    let target = Pid::from_raw(pid);
    kill(target, Signal::SIGTERM).with_context(|| format!("cannot stop troupe (pid {pid})"))?;
    let asked = Instant::now();
    while running(pid_file) == Some(pid) {
        if asked.elapsed() > PATIENCE + AFTER_KILL {
            bail!("troupe (pid {pid}) does not end, although it was killed");
        }
        if asked.elapsed() > PATIENCE {
            kill(target, Signal::SIGKILL).with_context(|| format!("cannot kill troupe (pid {pid})"))?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_that_nobody_holds_names_no_running_daemon() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("troupe.pid");
        assert_eq!(running(&path), None);
        fs::write(&path, "1").expect("writes");
        assert_eq!(running(&path), None);
        {
            let _claimed = PidFile::claim(&path).expect("free");
            assert_eq!(running(&path), i32::try_from(std::process::id()).ok());
            let second = PidFile::claim(&path).map(drop).expect_err("it is taken");
            assert!(second.to_string().contains(&format!("(pid {})", std::process::id())), "{second}");
        }
        assert!(!path.exists());
    }
}
