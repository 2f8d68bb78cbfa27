//! The checks of the Pod Security Standards, one a file: pure functions of a pod's annotations and spec.
//!
//! A check belongs to a level and has revisions, each valid from one release on. A restricted check may stand in for a
//! baseline check that asks for less.

mod allow_privilege_escalation;
mod app_armor_profile;
mod capabilities_baseline;
mod capabilities_restricted;
mod host_namespaces;
mod host_path_volumes;
mod host_ports;
mod host_probes;
mod pod;
mod privileged;
mod proc_mount;
mod restricted_volumes;
mod run_as_non_root;
mod run_as_user;
mod se_linux_options;
mod seccomp_baseline;
mod seccomp_restricted;
mod sysctls;
#[cfg(test)]
mod tests;
mod windows_host_process;
mod wording;

pub use pod::PodView;

use super::policy::{Level, LevelVersion, Version};

/// Why a check does not allow a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is forbidden, in few words.
    pub reason: &'static str,
    /// Where the pod does it.
    pub detail: String,
}

type CheckPod = fn(&PodView<'_>) -> Option<Violation>;

/// One check in all its revisions.
struct Check {
    id: &'static str,
    /// From the oldest to the newest.
    revisions: &'static [Revision],
}

/// What a check asks for from a release on.
struct Revision {
    /// The minor release of its first validity.
    since: u64,
    check: CheckPod,
    /// Baseline checks that need not run beside this one.
    overrides: &'static [&'static str],
}

impl Revision {
    const fn new(since: u64, check: CheckPod) -> Self {
        Revision { since, check, overrides: &[] }
    }

    const fn overriding(self, overrides: &'static [&'static str]) -> Self {
        Revision { overrides, ..self }
    }
}

impl Check {
    fn at(&self, version: Version) -> Option<&'static Revision> {
        self.revisions.iter().rev().find(|revision| Version::Minor(revision.since) <= version)
    }
}

/// In the order in which violations are told: by id.
const BASELINE: [&Check; 12] = [
    &app_armor_profile::CHECK,
    &capabilities_baseline::CHECK,
    &host_namespaces::CHECK,
    &host_path_volumes::CHECK,
    &host_ports::CHECK,
    &host_probes::CHECK,
    &privileged::CHECK,
    &proc_mount::BASELINE,
    &se_linux_options::CHECK,
    &seccomp_baseline::CHECK,
    &sysctls::CHECK,
    &windows_host_process::CHECK,
];

/// What restricted asks for beside baseline.
const RESTRICTED: [&Check; 7] = [
    &allow_privilege_escalation::CHECK,
    &capabilities_restricted::CHECK,
    &proc_mount::RESTRICTED,
    &restricted_volumes::CHECK,
    &run_as_non_root::CHECK,
    &run_as_user::CHECK,
    &seccomp_restricted::CHECK,
];

/// Everything that keeps a pod from what a policy allows.
pub fn violations(policy: LevelVersion, pod: &PodView<'_>) -> Vec<Violation> {
    let at = |check: &&'static Check| Some((check.id, check.at(policy.version)?));
    let restricted: Vec<_> = match policy.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => Vec::new(),
        Level::Restricted => RESTRICTED.iter().filter_map(at).collect(),
    };
    let overridden = |id: &str| restricted.iter().any(|(_, revision)| revision.overrides.contains(&id));
    let baseline = BASELINE.iter().filter_map(at).filter(|(id, _)| !overridden(id));
    baseline.chain(restricted.iter().copied()).filter_map(|(_, revision)| (revision.check)(pod)).collect()
}

/// `host namespaces (hostNetwork=true), privileged (container "a" must not …)`: for one object.
pub fn in_detail(violations: &[Violation]) -> String {
    let one = |Violation { reason, detail }: &Violation| match detail.is_empty() {
        true => (*reason).to_owned(),
        false => format!("{reason} ({detail})"),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `host namespaces, privileged`: for many objects.
pub fn in_short(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}
