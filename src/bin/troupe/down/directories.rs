//! The removal of an instance's directories and files, the record last.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use troupe_actors::files::remove_tree_blocking;

use super::{mounts::refuse_mounts, report::Report, target::Target};
use crate::instance::{NAME, register};

/// The pods' directories, which mean nothing without the pods. Their logs stay for those that come up again.
pub(super) fn remove_pods(target: &Target, report: &mut Report) {
    for dir in &target.record.made.kubelet_dirs {
        report.attempt(guarded(target, dir, || remove(&dir.join("pods"))));
    }
    for dir in &target.record.made.pod_logs_dirs {
        remove_log_links(dir);
    }
}

/// Everything else; the record stays until nothing is left.
pub(super) fn purge(target: &Target, report: &mut Report) {
    let made = &target.record.made;
    for dir in made.kubelet_dirs.iter().chain(&made.pod_logs_dirs) {
        report.attempt(guarded(target, dir, || remove(dir)));
    }
    for file in &made.kubeconfigs {
        if let Some(owner) = target.owner_of_kubeconfig(file) {
            println!("  - {} stays: it is of {owner}", file.display());
            continue;
        }
        report.attempt(absent_is_done(fs::remove_file(file)).with_context(|| format!("cannot remove {}", file.display())));
    }
    let record = &target.record;
    for dir in made.run_dirs.iter().chain([&record.run_dir, &record.data_dir]) {
        report.attempt(guarded(target, dir, || remove_content(dir, |name| name == NAME)));
    }
    if !report.is_clean() {
        return;
    }
    report.attempt(register::remove(&record.id).context("cannot take the cluster out of the machine's register"));
    for dir in made.run_dirs.iter().chain([&record.run_dir, &record.data_dir]) {
        report.attempt(guarded(target, dir, || remove(dir)));
    }
}

/// Does it unless the directory is another's; that is told and no failure, for it is not this cluster's.
fn guarded(target: &Target, dir: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    match target.owner_of_directory(dir) {
        Some(owner) => {
            println!("  - {} stays: it is of {owner}", dir.display());
            Ok(())
        }
        None => work(),
    }
}

/// Removes a directory with all in it, but nothing that is mounted there. One that is a mount itself is emptied: it was given to
/// this cluster whole.
fn remove(dir: &Path) -> Result<()> {
    remove_content(dir, |_| false)?;
    let is_link = fs::symlink_metadata(dir).is_ok_and(|found| found.file_type().is_symlink());
    match absent_is_done(if is_link { fs::remove_file(dir) } else { fs::remove_dir(dir) }) {
        // The administrator's own mount.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", dir.display())),
    }
}

/// Removes what is in a directory apart from some names. It goes on past a failure.
fn remove_content(dir: &Path, stays: impl Fn(&str) -> bool) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    let mut failures = Vec::new();
    for path in entries.flatten().filter(|entry| !entry.file_name().to_str().is_some_and(&stays)).map(|entry| entry.path()) {
        if let Err(error) = remove_tree(&path) {
            failures.push(format!("{}: {error:#}", path.display()));
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("cannot remove {}", failures.join(", ")) }
}

/// Removes a file, a link or a directory, unless something is mounted there. Links are not followed.
pub fn remove_tree(path: &Path) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.is_dir() {
        return Ok(absent_is_done(fs::remove_file(path))?);
    }
    refuse_mounts(path)?;
    Ok(absent_is_done(remove_tree_blocking(path))?)
}

/// The links that log collectors follow to logs in a directory.
fn remove_log_links(logs: &Path) {
    let links = fs::read_dir("/var/log/containers").into_iter().flatten().flatten().map(|entry| entry.path());
    for link in links.filter(|link| fs::read_link(link).is_ok_and(|to: PathBuf| to.starts_with(logs))) {
        // The kubelet of another cluster may tidy here too.
        let _ = fs::remove_file(link);
    }
}

fn absent_is_done(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_all_in_it_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        fs::create_dir_all(own.join("a/b")).expect("makes");
        fs::create_dir(&other).expect("makes");
        fs::write(other.join("file"), "").expect("writes");
        std::os::unix::fs::symlink(&other, own.join("a/link")).expect("links");
        std::os::unix::fs::symlink(&other, own.join("top")).expect("links");
        fs::write(own.join(NAME), "{}").expect("writes");
        remove_content(&own, |name| name == NAME).expect("removes");
        let left: Vec<_> = fs::read_dir(&own).expect("lists").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [NAME]);
        remove(&own).expect("removes");
        remove(&own).expect("what is gone is gone");
        fs::create_dir_all(dir.path().join("real/pods")).expect("makes");
        std::os::unix::fs::symlink("real", &own).expect("links");
        remove(&own).expect("removes what the directory's link leads to, and the link");
        assert!(fs::symlink_metadata(&own).is_err() && !dir.path().join("real/pods").exists());
        assert!(!own.exists() && other.join("file").exists());
    }
}
