//! Shims of our containerd, and the bundles they work in: those it no longer knows because it was killed when it started
//! them. And the leases of what it was doing then, which would keep snapshots for a day.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use troupe_actors::files::remove_tree_blocking;
use troupe_net::cni::remains::{Part, SETTING_UP, left_over};

use super::ContainerdLayout;

/// The namespace of the CRI plugin's containers.
const NAMESPACE: &str = "k8s.io";
const TASKS: &str = "io.containerd.runtime.v2.task";
/// What the name of a bundle begins with that containerd has begun to remove.
const LEAVING: char = '.';
const PROGRAM: &str = "containerd-shim-runc-v2";

/// A shim's process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shim {
    pid: i32,
    id: String,
}

impl ContainerdLayout {
    /// Ends tasks that containerd does not know although it should, apart from those that are `listed`; returns their ids.
    ///
    /// # Errors
    /// When containerd does not answer, or something cannot be removed.
    pub fn sweep_tasks(&self, listed: &BTreeSet<String>, now: SystemTime) -> Result<Vec<String>> {
        let bundles = bundles(&self.bundles()).context("cannot read containerd's tasks")?;
        let mut orphans = left_over(&bundles, |id| listed.contains(id), self.started(), now);
        if orphans.is_empty() {
            return Ok(orphans);
        }
        // Somebody may have made containers here past the CRI.
        let known = crate::images::ctr(&self.socket(), &["containers", "list", "--quiet"])?;
        orphans.retain(|id| !known.lines().any(|line| line == id));
        for id in &orphans {
            self.end_task(id).with_context(|| format!("cannot remove the task {id}, which containerd does not know"))?;
        }
        Ok(orphans)
    }

    /// Ends shims that have no bundle to work in and were like that `before`, apart from those that are `listed`; returns the
    /// tasks they were for, and all shims without a bundle for the next time. One that just ends is without for a moment.
    ///
    /// # Errors
    /// When processes or bundles cannot be read, or one cannot be killed.
    pub fn sweep_shims(&self, listed: &BTreeSet<String>, before: &BTreeSet<Shim>) -> Result<(Vec<String>, BTreeSet<Shim>)> {
        let shims = self.shims()?;
        let bundles = bundles(&self.bundles()).context("cannot read containerd's tasks")?;
        let mut strays = strays(shims, &bundles, listed);
        let again: Vec<Shim> = strays.intersection(before).cloned().collect();
        for shim in &again {
            end(shim.pid)?;
            strays.remove(shim);
        }
        Ok((again.into_iter().map(|shim| shim.id).collect(), strays))
    }

    /// Ends the leases of operations that ended without it, so that what they held is collected; returns them: those of an
    /// earlier containerd, and those older than an operation takes, whose caller was killed. Those of `sandboxes` hold what these have for as long
    /// as they live (containerd from 2.0 on).
    ///
    /// # Errors
    /// When containerd does not answer.
    pub fn sweep_leases(&self, sandboxes: &BTreeSet<String>, now: SystemTime) -> Result<Vec<String>> {
        let listed = crate::images::ctr(&self.socket(), &["leases", "list"])?;
        let long_ago = now - SETTING_UP;
        let old = leases_before(&listed, sandboxes, self.started().map_or(long_ago, |started| started.max(long_ago)));
        for id in &old {
            crate::images::ctr(&self.socket(), &["leases", "delete", "--sync", id])?;
        }
        Ok(old)
    }

    fn bundles(&self) -> PathBuf {
        self.state.join(TASKS).join(NAMESPACE)
    }

    /// Kills a shim and what it has started, as containerd does with those of shims that died.
    fn end_task(&self, id: &str) -> Result<()> {
        for shim in self.shims()?.into_iter().filter(|shim| shim.id == id) {
            end(shim.pid)?;
        }
        let bundles = self.bundles();
        let bundle = Some(bundles.join(format!("{LEAVING}{id}"))).filter(|leaving| leaving.exists()).unwrap_or_else(|| bundles.join(id));
        let mut delete = Command::new(PROGRAM);
        delete.args(["-namespace", NAMESPACE, "-id", id, "-address"]).arg(self.socket()).arg("-bundle").arg(&bundle).arg("delete");
        let deleted = delete.current_dir(&bundle).stdin(Stdio::null()).output().context("cannot run the shim")?;
        if !deleted.status.success() {
            // Mostly there is nothing that it could delete.
            tracing::debug!(id, said = %String::from_utf8_lossy(&deleted.stderr).trim(), "the shim did not delete its task");
        }
        match umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error).context("cannot unmount its root"),
        }
        for dir in [bundle, self.root.join(TASKS).join(NAMESPACE).join(id)] {
            // Whatever of a container's root is left in there.
            remove_tree_blocking(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(())
    }

    /// Kills all shims of our containerd, which would outlive it.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub fn kill_shims(&self) -> Result<()> {
        self.shims()?.iter().try_for_each(|shim| end(shim.pid))
    }

    fn shims(&self) -> Result<Vec<Shim>> {
        let socket = self.socket();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read the processes")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended meanwhile.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.extend(shim_of(&line, &socket).map(|id| Shim { pid, id }));
        }
        Ok(found)
    }
}

fn end(pid: i32) -> Result<()> {
    match kill(Pid::from_raw(pid), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot kill the shim {pid}")),
    }
}

/// What a command line (parted by zero bytes) is a shim for, if it reports to a socket.
fn shim_of(line: &[u8], socket: &Path) -> Option<String> {
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program = arguments.first()?.rsplit(|byte| *byte == b'/').next()?;
    let value = |name: &[u8]| arguments.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    let ours = program.starts_with(b"containerd-shim") && value(b"-address") == Some(socket.as_os_str().as_encoded_bytes());
    if !ours {
        return None;
    }
    value(b"-id").map(|id| String::from_utf8_lossy(id).into_owned())
}

/// The leases in a listing (id, time, labels) that are older than a time and no sandbox's. Their times are whole seconds, rounded down.
fn leases_before(listing: &str, sandboxes: &BTreeSet<String>, time: SystemTime) -> Vec<String> {
    let mut found = Vec::new();
    for line in listing.lines() {
        let mut columns = line.split_whitespace();
        let (Some(id), Some(Ok(created))) = (columns.next(), columns.next().map(str::parse::<jiff::Timestamp>)) else { continue };
        if !sandboxes.contains(id) && SystemTime::from(created) + Duration::from_secs(1) < time {
            found.push(id.to_owned());
        }
    }
    found
}

/// Those shims that have no bundle and that nobody listed.
fn strays(shims: Vec<Shim>, bundles: &[Part<String>], listed: &BTreeSet<String>) -> BTreeSet<Shim> {
    let works = |shim: &Shim| bundles.iter().any(|bundle| bundle.is == shim.id);
    shims.into_iter().filter(|shim| !works(shim) && !listed.contains(&shim.id)).collect()
}

/// The tasks that have a bundle in a directory, with the times of their beginning.
fn bundles(dir: &Path) -> io::Result<Vec<Part<String>>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let part = |entry: fs::DirEntry| {
        // Written once, when the bundle is made.
        let since = fs::metadata(entry.path().join("config.json")).or_else(|_| entry.metadata()).ok()?.modified().ok()?;
        Some(Part { is: entry.file_name().to_str()?.trim_start_matches(LEAVING).to_owned(), since })
    };
    Ok(entries.flatten().filter_map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_known_by_the_socket_it_reports_to() {
        let line = |program: &str| format!("/usr/bin/{program}\0-namespace\0k8s.io\0-id\0abc\0-address\0/run/a.sock\0");
        let found = |program: &str, socket: &str| shim_of(line(program).as_bytes(), Path::new(socket));
        assert_eq!(found("containerd-shim-runc-v2", "/run/a.sock").as_deref(), Some("abc"));
        assert_eq!(found("containerd-shim-runc-v2", "/run/b.sock"), None);
        assert_eq!(found("ctr", "/run/a.sock"), None);
        assert_eq!(shim_of(b"", Path::new("/run/a.sock")), None);
    }

    #[test]
    fn leases_of_an_earlier_containerd_are_told_by_their_times() {
        let listing = "ID             CREATED AT           LABELS\n\
            383865220-69R7 2026-11-26T04:15:59Z containerd.io/gc.expire=2026-11-27T04:15:59Z\n\
            383865220-new  2026-11-26T04:16:00Z containerd.io/gc.expire=2026-11-27T04:16:00Z\n\
            17a29e69       2026-11-26T04:15:59Z -\n\
            2e6f9021       2026-11-26T04:15:59Z -\n";
        let started: jiff::Timestamp = "2026-11-26T04:16:00.5Z".parse().expect("a time");
        let sandboxes: BTreeSet<String> = ["2e6f9021".to_owned()].into();
        assert_eq!(leases_before(listing, &sandboxes, started.into()), ["383865220-69R7", "17a29e69"], "one of them holds what a sandbox has");
    }

    #[test]
    fn bundles_are_as_old_as_their_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(bundles(&dir.path().join("none")).expect("reads"), []);
        let bundle = dir.path().join("abc");
        fs::create_dir(&bundle).expect("makes");
        fs::write(bundle.join("config.json"), "{}").expect("writes");
        let written = fs::metadata(bundle.join("config.json")).and_then(|file| file.modified()).expect("has a time");
        let part = || Part { is: "abc".to_owned(), since: written };
        assert_eq!(bundles(dir.path()).expect("reads"), [part()]);
        fs::rename(&bundle, dir.path().join(".abc")).expect("renames");
        assert_eq!(bundles(dir.path()).expect("reads"), [part()], "containerd has begun to remove it");
    }

    #[test]
    fn a_shim_without_a_bundle_is_a_stray_unless_it_is_listed() {
        let shim = |pid, id: &str| Shim { pid, id: id.to_owned() };
        let bundles = [Part { is: "works".to_owned(), since: SystemTime::UNIX_EPOCH }];
        let shims = vec![shim(1, "works"), shim(2, "listed"), shim(3, "stray")];
        assert_eq!(strays(shims, &bundles, &["listed".to_owned()].into()), [shim(3, "stray")].into());
    }
}
