//! Volumes that an NFS server exports, mounted by the system's `mount` (nfs(5)) as upstream's plugin does: the node needs its helper
//! `mount.nfs`, and where that or the kernel's part is missing, what `mount` says of it is the reason why the pod waits.

use std::{io, path::Path, time::Duration};

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolumeSpec};
use tokio::{process::Command, runtime::Handle};

use super::block::make_mount_point;
use crate::{
    files::mounts::is_mounted,
    kubelet::programs::{self, Limits},
};

/// How long a server may take. `mount.nfs` gives up after two minutes by itself (`retry` of nfs(5)).
const LONGEST: Duration = Duration::from_secs(150);
/// How much of what `mount` says is told.
const MOST_SAID: u64 = 2048;

/// What is mounted of which server, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    server: String,
    path: String,
    /// The volume's `mountOptions`.
    options: Vec<String>,
    read_only: bool,
}

impl Export {
    /// The export that a pod names itself.
    pub fn of_pod(source: &NFSVolumeSource) -> Self {
        Export { server: source.server.clone(), path: source.path.clone(), options: Vec::new(), read_only: source.read_only == Some(true) }
    }

    /// That of a persistent volume; `None` for one of another kind. `read_only` is what the pod says.
    pub fn of_persistent(volume: &PersistentVolumeSpec, read_only: bool) -> Option<Self> {
        let export = Export::of_pod(volume.nfs.as_ref()?);
        let options = volume.mount_options.clone().unwrap_or_default();
        Some(Export { read_only: export.read_only || read_only, options, ..export })
    }

    /// What `mount` is given: an IPv6 address stands in brackets.
    fn device(&self) -> String {
        let is_bare_address = self.server.contains(':') && !self.server.starts_with('[');
        if is_bare_address { format!("[{}]:{}", self.server, self.path) } else { format!("{}:{}", self.server, self.path) }
    }

    fn arguments(&self, target: &Path) -> Vec<String> {
        let own = self.read_only.then(|| "ro".to_owned());
        let mut options: Vec<String> = own.into_iter().collect();
        options.extend(self.options.iter().filter(|option| !self.read_only || *option != "ro").cloned());
        let mut arguments = vec!["-t".to_owned(), "nfs".to_owned()];
        if !options.is_empty() {
            arguments.extend(["-o".to_owned(), options.join(",")]);
        }
        // No word of the user's is an option of the program.
        arguments.extend(["--".to_owned(), self.device(), target.display().to_string()]);
        arguments
    }
}

/// Mounts an export at a place of ours, unless it is there; says whether it was not. It blocks, and so belongs on a thread for that, of a tokio
/// runtime, which watches the program meanwhile.
///
/// # Errors
/// What `mount` says, in upstream's form.
pub fn set_up(target: &Path, export: &Export) -> Result<bool, String> {
    set_up_with("mount", target, export, LONGEST)
}

fn set_up_with(program: &str, target: &Path, export: &Export, longest: Duration) -> Result<bool, String> {
    let failed = |error: io::Error| error.to_string();
    if is_mounted(target).map_err(failed)? {
        return Ok(false);
    }
    make_mount_point(target).map_err(failed)?;
    let arguments = export.arguments(target);
    let said = |how: &str, output: &str| {
        let line = arguments.iter().filter(|word| *word != "--").map(String::as_str).collect::<Vec<_>>().join(" ");
        format!("mount failed: {how}\nMounting command: {program}\nMounting arguments: {line}\nOutput: {}", output.trim())
    };
    let mut command = Command::new(program);
    command.args(&arguments);
    let limits = Limits { longest, answer: 0, complaint: MOST_SAID };
    match Handle::current().block_on(programs::run(command, &[], limits)) {
        Err(error) => Err(said(&error.to_string(), "")),
        Ok(None) => Err(said(&format!("no answer of the server within {} seconds", longest.as_secs()), "")),
        Ok(Some(ended)) => ended.failure().map_or(Ok(true), |how| Err(said(&how, &ended.complaint.text()))),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;

    fn export(server: &str) -> Export {
        Export::of_pod(&NFSVolumeSource { server: server.into(), path: "/exports/data".into(), read_only: None })
    }

    #[test]
    fn servers_and_options_are_given_as_upstream_gives_them() {
        let target = Path::new("/pods/v");
        assert_eq!(export("nfs.example").arguments(target), ["-t", "nfs", "--", "nfs.example:/exports/data", "/pods/v"]);
        assert_eq!(export("fd00::1").device(), "[fd00::1]:/exports/data");
        assert_eq!(export("[fd00::1]").device(), "[fd00::1]:/exports/data");
        let spec = PersistentVolumeSpec {
            nfs: Some(NFSVolumeSource { server: "10.0.0.1".into(), path: "/".into(), read_only: Some(true) }),
            mount_options: Some(vec!["nfsvers=4.2".into(), "ro".into()]),
            ..PersistentVolumeSpec::default()
        };
        let persistent = Export::of_persistent(&spec, false).expect("it is one");
        assert_eq!(persistent.arguments(target), ["-t", "nfs", "-o", "ro,nfsvers=4.2", "--", "10.0.0.1:/", "/pods/v"]);
        assert_eq!(Export::of_persistent(&PersistentVolumeSpec::default(), false), None);
    }

    /// A program that stands in for `mount`.
    fn stand_in(place: &Path, script: &str) -> PathBuf {
        let program = place.join("mount");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writes");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("may run");
        program
    }

    /// What becomes of a mount by a script, on a thread of the test's runtime.
    async fn run(place: &Path, script: &str, longest: Duration) -> Result<bool, String> {
        let (program, target) = (stand_in(place, script), place.join("volumes/v"));
        let work = move || set_up_with(&program.display().to_string(), &target, &export("s"), longest);
        tokio::task::spawn_blocking(work).await.expect("ends")
    }

    #[tokio::test]
    async fn what_mount_says_is_why_a_pod_waits() {
        let place = tempfile::tempdir().expect("a directory");
        let (place, target) = (place.path(), place.path().join("volumes/v"));
        let refused = run(place, "echo 'mount.nfs: access denied by server' >&2; exit 32", LONGEST).await.expect_err("it is refused");
        assert!(refused.starts_with("mount failed: exit status 32\nMounting command: "), "{refused}");
        assert!(refused.contains(&format!("\nMounting arguments: -t nfs s:/exports/data {}\n", target.display())), "{refused}");
        assert!(refused.ends_with("\nOutput: mount.nfs: access denied by server"), "{refused}");
        let silent = run(place, "exec sleep 600", Duration::ZERO).await.expect_err("nobody answers");
        assert!(silent.contains("no answer of the server"), "{silent}");
        assert_eq!(run(place, "test \"$3 $4\" = '-- s:/exports/data' && test -d \"$5\"", LONGEST).await, Ok(true));
    }

    #[test]
    fn what_is_mounted_is_left_alone() {
        // Whatever is mounted there, nothing is run.
        assert_eq!(set_up_with("/nonexistent", Path::new("/proc"), &export("s"), LONGEST), Ok(false));
    }
}
