//! Which `troupe up` runs on this machine: its pid file.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The pid of the running daemon, if its pid file names a live `troupe`.
pub fn running(pid_file: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let zombie = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')));
    (command.trim().starts_with("troupe") && !zombie).then_some(pid)
}

/// The pid file of this process; removed when dropped.
pub struct PidFile<'a>(&'a Path);

impl<'a> PidFile<'a> {
    /// Claims the pid file.
    ///
    /// # Errors
    /// When another daemon holds it.
    pub fn claim(path: &'a Path) -> Result<Self> {
        if let Some(pid) = running(path)
            && u32::try_from(pid).ok() != Some(std::process::id())
        {
            bail!("troupe already runs on this machine (pid {pid}); troupe down stops it");
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(path, std::process::id().to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0); // a stale pid file is recognised
    }
}

/// Asks the daemon to stop and waits until it is gone. False if none runs.
pub fn stop(pid_file: &Path) -> Result<bool> {
    let Some(pid) = running(pid_file) else { return Ok(false) };
    let target = Pid::from_raw(pid);
    kill(target, Signal::SIGTERM).with_context(|| format!("cannot stop troupe (pid {pid})"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while running(pid_file) == Some(pid) {
        if Instant::now() > deadline {
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
    fn a_pid_file_of_another_program_or_none_is_no_running_daemon() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("troupe.pid");
        assert_eq!(running(&path), None);
        fs::write(&path, "1").expect("writes");
        assert_eq!(running(&path), None);
        {
            let _claimed = PidFile::claim(&path).expect("free");
            assert_eq!(fs::read_to_string(&path).expect("reads"), std::process::id().to_string());
        }
        assert!(!path.exists());
    }
}
