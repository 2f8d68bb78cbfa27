//! The removal of a cgroup whose processes are ending.

use std::{
    fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

const PAUSE: Duration = Duration::from_millis(50);

/// Removes a cgroup with the empty ones below it. The kernel keeps one busy until its last process has ended, and for a moment more: it is
/// tried again for as long as `patience`.
///
/// # Errors
/// When it is still busy then, with the processes in it; at once for any other reason.
pub fn remove(group: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match remove_once(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => sleep(PAUSE),
            removed => return removed.with_context(|| format!("cannot remove the cgroup {}{}", group.display(), inhabitants(group))),
        }
    }
}

fn remove_once(group: &Path) -> io::Result<()> {
    let below = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in below.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_once(&entry.path())?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Who lives in a cgroup, in words.
fn inhabitants(group: &Path) -> String {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let named = processes.split_whitespace().map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} ({})", name.trim_end())
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() { String::new() } else { format!(", in which these processes live: {}", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_goes_with_empty_ones_below_it_and_may_be_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = dir.path().join("group");
        fs::create_dir_all(group.join("a/b")).expect("makes");
        remove(&group, Duration::ZERO).expect("removes");
        assert!(!group.exists());
        remove(&group, Duration::ZERO).expect("what is gone is gone");
    }

    #[test]
    fn what_does_not_go_is_told_with_who_lives_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = std::process::id();
        // A file that is in the way, as no cgroup has it.
        fs::write(dir.path().join("cgroup.procs"), format!("{own}\n")).expect("writes");
        let why = format!("{:#}", remove(dir.path(), Duration::ZERO).expect_err("it is not empty"));
        assert!(why.contains(&format!("in which these processes live: {own} (")), "{why}");
    }

    #[test]
    fn processes_that_end_late_are_waited_for() {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let roots = hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]);
        let made = roots
            .map(|root| root.join(format!("troupe-test-{}", std::process::id())))
            .find(|group| fs::create_dir(group).is_ok() && (group.join("cgroup.procs").exists() || fs::remove_dir(group).is_err()));
        let Some(group) = made else { return };
        let mut child = std::process::Command::new("sleep").arg("0.7").spawn().expect("sleeps");
        fs::write(group.join("cgroup.procs"), child.id().to_string()).expect("it moves there");
        let reaper = std::thread::spawn(move || child.wait());
        assert!(remove(&group, Duration::ZERO).is_err(), "it is busy");
        remove(&group, Duration::from_secs(10)).expect("it is empty after a moment");
        reaper.join().expect("no panic").expect("it ended");
    }
}
