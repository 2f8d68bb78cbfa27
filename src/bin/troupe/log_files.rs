//! Keeps the logs that this program and its containerd write to files from growing for ever: a large one gives way, and a few are kept,
//! as `troupe.log.1`, the newest, to `troupe.log.3`.
//!
//! Our own output moves to a new file. A process that was started with its log open goes on writing to it: what it wrote is copied, and
//! the file is cut to nothing, from where it writes on, since such files are opened for appending.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

/// A log gives way beyond this size, in bytes.
const MAX_SIZE: u64 = 10 << 20;
/// One that could not be kept is thrown away beyond this one.
const UNBEARABLE: u64 = 4 * MAX_SIZE;
/// Earlier ones that are kept.
const KEPT: u32 = 3;
const LOOK: Duration = Duration::from_secs(5);

/// A log, by who writes it.
#[derive(Clone, Debug)]
pub enum LogFile {
    /// This process, if its output goes there.
    Own(PathBuf),
    /// Another process, for as long as it lives.
    Others(PathBuf),
}

/// Looks after logs as long as this process lives.
///
/// # Errors
/// When there is no thread for that.
pub fn keep(logs: Vec<LogFile>) -> Result<()> {
    let keep = move || {
        loop {
            for log in &logs {
                if let Err(error) = log.rotate(MAX_SIZE) {
                    tracing::warn!(error = format!("{error:#}"), ?log, "log not rotated, will try again");
                }
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new().name("log-keeper".into()).spawn(keep).context("cannot start a thread")?;
    Ok(())
}

impl LogFile {
    /// Has the log give way if it is larger than `most` bytes; says whether it did.
    ///
    /// # Errors
    /// When the disk refuses; then the log goes on as it is, unless it is far too large.
    fn rotate(&self, most: u64) -> Result<bool> {
        let (Self::Own(path) | Self::Others(path)) = self;
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found.with_context(|| format!("cannot look at {}", path.display()))?,
        };
        if found.len() <= most || !found.is_file() {
            return Ok(false);
        }
        match self {
            Self::Own(path) => {
                if !is_output(&found) {
                    return Ok(false);
                }
                move_output(path)
            }
            Self::Others(path) => copy_and_cut(path, found.len()),
        }
        .with_context(|| format!("cannot rotate {}", path.display()))?;
        Ok(true)
    }
}

/// Whether this process' output goes to a file.
fn is_output(found: &fs::Metadata) -> bool {
    let output = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|output| output.metadata());
    output.is_ok_and(|output| (output.dev(), output.ino()) == (found.dev(), found.ino()))
}

/// Earlier logs get the next number; the oldest goes.
fn shift(path: &Path) -> io::Result<PathBuf> {
    for number in (1..KEPT).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Gives the log another name and lets our output go to a new one.
fn move_output(path: &Path) -> io::Result<()> {
    fs::rename(path, shift(path)?)?;
    let new = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    nix::unistd::dup2_stdout(&new)?;
    nix::unistd::dup2_stderr(&new)?;
    Ok(())
}

fn copy_and_cut(path: &Path, size: u64) -> io::Result<()> {
    let copy = shift(path).and_then(|copy| {
        let mut from = File::open(path)?;
        let mut to = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&copy)?;
        let copied = io::copy(&mut from, &mut to);
        if copied.is_err() {
            // Half a copy takes room for nothing; what it was made for is told below.
            let _ = fs::remove_file(&copy);
        }
        copied
    });
    // On a full disk it is better to lose a log than to let it fill the rest.
    if let Err(error) = copy
        && size <= UNBEARABLE
    {
        return Err(error);
    }
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_process_writes_on_into_a_log_that_gave_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("containerd.log");
        let mut theirs = OpenOptions::new().create(true).append(true).open(&path).expect("opens");
        let log = LogFile::Others(path.clone());
        for round in 0..KEPT + 2 {
            writeln!(theirs, "{round} {}", "x".repeat(100)).expect("writes");
            assert!(!log.rotate(200).expect("looks"), "it is small");
            writeln!(theirs, "{round} {}", "y".repeat(100)).expect("writes");
            assert!(log.rotate(200).expect("rotates"));
            assert_eq!(fs::metadata(&path).expect("is there").len(), 0, "nothing is left of it, not even a hole");
        }
        theirs.write_all(b"last").expect("writes");
        let text = |path: &Path| fs::read_to_string(path).expect("reads");
        assert_eq!(text(&path), "last");
        let newest = text(&numbered(&path, 1));
        assert!(newest.starts_with(&format!("{} x", KEPT + 1)) && newest.lines().count() == 2, "{newest}");
        assert!(text(&numbered(&path, KEPT)).starts_with("2 "));
        assert!(!numbered(&path, KEPT + 1).exists(), "only a few are kept");
    }

    #[test]
    fn a_log_that_our_output_does_not_go_to_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("troupe.log");
        fs::write(&path, "x".repeat(100)).expect("writes");
        assert!(!LogFile::Own(path.clone()).rotate(10).expect("looks"));
        assert_eq!(fs::metadata(&path).expect("is there").len(), 100);
        assert!(!LogFile::Own(dir.path().join("none")).rotate(10).expect("looks"));
    }
}
