//! Security contexts, of pods and of containers.

use std::collections::BTreeSet;

use super::{
    super::{Field, path},
    check_id, windows,
};
use crate::status::FieldError;

const LONGEST_PROFILE: usize = 4095;
const LONGEST_SYSCTL: usize = 253;
pub(super) const SYSCTL: &str =
    "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Checks the context of a whole pod, with the fields of the spec that upstream counts to it.
pub fn of_pod(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let context = spec.child("securityContext");
    for id in ["fsGroup", "runAsUser", "runAsGroup"] {
        check_id(errors, &context.child(id));
    }
    for group in context.child("supplementalGroups").each() {
        check_id(errors, &group);
    }
    let share = spec.child("shareProcessNamespace");
    if share.is_true() && spec.child("hostPID").is_true() {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(context.child("shareProcessNamespace").with(share.value).invalid(detail));
    }
    sysctls(errors, spec, &context.child("sysctls"));
    context.child("fsGroupChangePolicy").check_supported(errors, &["Always", "OnRootMismatch"]);
    seccomp(errors, &context.child("seccompProfile"));
    windows::options(errors, &context.child("windowsOptions"));
    app_armor(errors, &context.child("appArmorProfile"));
    context.child("supplementalGroupsPolicy").check_supported(errors, &["Merge", "Strict"]);
    context.child("seLinuxChangePolicy").check_supported(errors, &["MountOption", "Recursive"]);
}

/// Checks the context of a container.
pub fn of_container(errors: &mut Vec<FieldError>, context: &Field<'_>, host_users: bool) {
    if !context.is_set() {
        return;
    }
    check_id(errors, &context.child("runAsUser"));
    check_id(errors, &context.child("runAsGroup"));
    let proc_mount = context.child("procMount");
    proc_mount.check_supported(errors, &["Default", "Unmasked"]);
    if host_users && proc_mount.text() == "Unmasked" {
        errors.push(proc_mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(errors, &context.child("seccompProfile"));
    escalation(errors, context);
    windows::options(errors, &context.child("windowsOptions"));
    app_armor(errors, &context.child("appArmorProfile"));
}

fn escalation(errors: &mut Vec<FieldError>, context: &Field<'_>) {
    if context.child("allowPrivilegeEscalation").value.as_bool() != Some(false) {
        return;
    }
    if context.child("privileged").is_true() {
        errors.push(context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
    }
    if context.child("capabilities").child("add").items().iter().any(|capability| capability == "CAP_SYS_ADMIN") {
        errors.push(context.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"));
    }
}

/// A pod with users of its own shares no other namespace with the host.
pub fn host_users(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    const DETAIL: &str = "when `hostUsers` is false";
    if spec.child("hostUsers").value.as_bool() != Some(false) {
        return;
    }
    for (name, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.child(name).is_true() {
            errors.push(spec.child(shown).forbidden(DETAIL));
        }
    }
    super::visit_containers(spec, |container| {
        let devices = container.child("volumeDevices");
        if !devices.items().is_empty() {
            errors.push(devices.forbidden(DETAIL));
        }
    });
}

fn seccomp(errors: &mut Vec<FieldError>, profile: &Field<'_>) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.child("type"), profile.child("localhostProfile"));
    match kind.text() {
        "" => errors.push(kind.required("type is required when seccompProfile is set")),
        _ => kind.check_supported(errors, &PROFILE_TYPES),
    }
    match (kind.text() == "Localhost", local.is_set()) {
        (true, false) => errors.push(local.required("must be set when seccomp type is Localhost")),
        (true, true) => path::descending(errors, &local),
        (false, true) => errors.push(local.with(profile.value).invalid("can only be set when seccomp type is Localhost")),
        (false, false) => {}
    }
}

fn app_armor(errors: &mut Vec<FieldError>, profile: &Field<'_>) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.child("type"), profile.child("localhostProfile"));
    match kind.text() {
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        "Localhost" => {
            let name = local.text();
            if name.trim() != name {
                errors.push(local.invalid("must not be padded with whitespace"));
            } else if name.is_empty() {
                errors.push(local.required("must be set when AppArmor type is Localhost"));
            }
            if name.len() > LONGEST_PROFILE {
                errors.push(local.too_long(LONGEST_PROFILE));
            }
        }
        "RuntimeDefault" | "Unconfined" if local.is_set() => errors.push(local.invalid("can only be set when AppArmor type is Localhost")),
        _ => kind.check_supported(errors, &PROFILE_TYPES),
    }
}

fn sysctls(errors: &mut Vec<FieldError>, spec: &Field<'_>, sysctls: &Field<'_>) {
    let mut seen = BTreeSet::new();
    for sysctl in sysctls.each() {
        let name = sysctl.child("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl(name.text()) {
            errors.push(name.invalid(SYSCTL));
        } else if seen.contains(name.text()) {
            errors.push(name.duplicate());
        }
        for (shared, namespace) in [("hostNetwork", Namespace::Net), ("hostIPC", Namespace::Ipc)] {
            if spec.child(shared).is_true() && namespace_of(name.text()) == Some(namespace) {
                errors.push(name.invalid(format!("may not be specified when '{shared}' is true")));
            }
        }
        seen.insert(name.text().to_owned());
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let segment = |text: &str| {
        let bytes = text.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b))
    };
    name.len() <= LONGEST_SYSCTL && name.split(['.', '/']).all(segment)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// The kernel namespace that a sysctl belongs to, where it is known to belong to one.
fn namespace_of(name: &str) -> Option<Namespace> {
    const IPC: [&str; 10] = [
        "kernel.sem",
        "kernel.shm",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
    ];
    let name = normal(name);
    match name.split('*').next().unwrap_or_default() {
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Namespace::Ipc),
        name if name.starts_with("net.") => Some(Namespace::Net),
        _ => None,
    }
}

/// Of dots and slashes the first one found separates; where it is a slash, both are exchanged.
fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}
