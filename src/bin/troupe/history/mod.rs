//! The starts of a daemon and how each ended, kept in the data directory, such as `troupe.starts.json`.
//!
//! A start is written down before anything else happens, its end when it ends in good order. What has no end ended otherwise:
//! the next start, or whoever asks, finds out how, as far as something tells of it.

mod end;
mod judge;
mod model;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use self::model::MemoryKills;
pub use self::{
    judge::{CrashLoop, crash_loop, pause, settling},
    model::{Ended, How, Start},
};
use crate::{durable, fatal, instance};

/// So many starts are remembered.
const REMEMBERED: usize = 50;

/// Where the starts of a daemon are written down.
#[derive(Clone, Debug)]
pub struct History {
    data_dir: PathBuf,
    daemon: &'static str,
    pid_file: PathBuf,
}

impl History {
    pub fn of(data_dir: &Path, run_dir: &Path, daemon: &'static str) -> Self {
        History { data_dir: data_dir.to_owned(), daemon, pid_file: run_dir.join(format!("{daemon}.pid")) }
    }

    fn file(&self) -> PathBuf {
        self.data_dir.join(format!("{}.starts.json", self.daemon))
    }

    /// Where a dying daemon writes its last words.
    pub fn fatal_file(&self) -> PathBuf {
        self.data_dir.join(format!("{}.fatal.log", self.daemon))
    }

    /// All starts that are remembered, the newest last, each with its end unless it runs.
    pub fn starts(&self) -> Vec<Start> {
        let mut starts = self.written();
        let running = instance::running(&self.pid_file);
        let told = fs::read_to_string(self.fatal_file()).unwrap_or_default();
        let boot = instance::kernel::boot().unwrap_or_default();
        for start in starts.iter_mut().filter(|start| start.end.is_none()) {
            if running != Some(start.pid) || start.boot != boot {
                start.end = Some(end::find(start, &told, &boot, Timestamp::now()));
            }
        }
        starts
    }

    /// As they stand in the file. One that is damaged says nothing.
    fn written(&self) -> Vec<Start> {
        let text = fs::read(self.file()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(&self, starts: &[Start]) -> Result<()> {
        let newest = &starts[starts.len().saturating_sub(REMEMBERED)..];
        let text = serde_json::to_vec_pretty(newest).context("starts are JSON")?;
        durable::write(&self.file(), &text).with_context(|| format!("cannot write {}", self.file().display()))
    }

    /// How a process of this daemon ended, if it did.
    pub fn end_of(&self, pid: i32) -> Option<How> {
        self.starts().into_iter().rev().find(|start| start.pid == pid)?.end.map(|end| end.how)
    }

    /// Writes down that this process starts, does its work, and writes down how that ended. A full disk keeps nobody from it.
    pub fn record<T>(&self, safe: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Err(error) = self.begin(safe) {
            tracing::warn!(error = format!("{error:#}"), "this start is not written down");
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        fatal::nothing_to_tell();
        let how = match &ended {
            Ok(Ok(_)) => How::Stopped,
            Ok(Err(error)) => How::Failed(format!("{error:#}")),
            Err(_) => How::Fatal(fatal::last().unwrap_or_else(|| "panicked".into())),
        };
        if let Err(error) = self.finish(how) {
            tracing::warn!(error = format!("{error:#}"), "this end is not written down");
        }
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn begin(&self, safe: bool) -> Result<()> {
        durable::make_dir(&self.data_dir).with_context(|| format!("cannot make {}", self.data_dir.display()))?;
        fatal::tell_in(&self.fatal_file())?;
        let mut starts = self.starts();
        // The pid file is this process's already: who had this pid before has ended all the same.
        let pid = i32::try_from(std::process::id()).context("a pid fits 31 bits")?;
        let (now, boot) = (Timestamp::now(), instance::kernel::boot()?);
        for start in starts.iter_mut().filter(|start| start.end.is_none()) {
            start.end = Some(end::find(start, "", &boot, now));
        }
        starts.push(Start { at: now.to_string(), pid, boot, safe, memory_kills: MemoryKills::of_this_process(), end: None });
        self.write(&starts)
    }

    fn finish(&self, how: How) -> Result<()> {
        let mut starts = self.written();
        let pid = i32::try_from(std::process::id()).context("a pid fits 31 bits")?;
        let Some(start) = starts.iter_mut().rev().find(|start| start.pid == pid && start.end.is_none()) else { return Ok(()) };
        start.end = Some(Ended { at: Timestamp::now().to_string(), how });
        self.write(&starts)
    }
}

/// How ends in a row are told to people, with what to do; empty when all is well.
pub fn advice(starts: &[Start], now: Timestamp, safe_command: &str) -> Option<String> {
    let CrashLoop { ends, minutes, last } = crash_loop(starts, now)?;
    Some(format!(
        "it ended {ends} times in the last {minutes} minutes otherwise than in good order, the last time: {last}\n    → {safe_command} starts the API server alone, so that what ends it can be removed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_has_its_end_and_a_process_that_vanished_was_killed() {
        let dir = tempfile::tempdir().expect("a directory");
        let history = History::of(&dir.path().join("data"), &dir.path().join("run"), "troupe");
        assert_eq!(history.starts(), []);
        // What this test writes down is never the end of the process that runs it.
        fs::create_dir(dir.path().join("data")).expect("makes");
        let boot = instance::kernel::boot().expect("told");
        let start = Start { at: "2026-11-29T09:00:00Z".into(), pid: 1, boot, safe: true, memory_kills: None, end: None };
        history.write(std::slice::from_ref(&start)).expect("writes");
        let seen = history.starts();
        assert_eq!(seen[0].end.as_ref().map(|end| &end.how), Some(&How::Killed));
        assert_eq!(history.end_of(1), Some(How::Killed));
        assert_eq!(history.end_of(2), None);
        fs::write(history.fatal_file(), "2026-11-29T09:00:07Z pid 1: SIGSEGV at 0x0\n").expect("writes");
        assert_eq!(history.end_of(1), Some(How::Fatal("SIGSEGV at 0x0".into())));
        let many: Vec<Start> = (0..60).map(|pid| Start { pid, ..start.clone() }).collect();
        history.write(&many).expect("writes");
        assert_eq!(history.written().len(), REMEMBERED);
        assert_eq!(history.written().last().map(|start| start.pid), Some(59));
    }
}
