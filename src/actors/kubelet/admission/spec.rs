//! What no valid spec says, and what would mean something else to the runtime or the kernel than was asked.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};
use troupe_cri::{
    RuntimeFeatures,
    security::{capabilities::capabilities, no_user_namespaces, profiles, user::MAX_ID},
};

/// Checks a pod's spec, for a runtime that can do so much.
pub(super) fn check(pod: &Pod, spec: &PodSpec, runtime: &RuntimeFeatures) -> Result<(), String> {
    pod_ids(spec)?;
    let of_pod = spec.security_context.as_ref();
    at("spec.securityContext.seccompProfile", profiles::seccomp(of_pod.and_then(|context| context.seccomp_profile.as_ref()), ""))?;
    for (path, container) in super::containers(spec) {
        at(&format!("{path}.securityContext.appArmorProfile"), profiles::apparmor(pod, &container))?;
        propagation(&path, &container)?;
        if let Some(own) = &container.security_context {
            security(&format!("{path}.securityContext"), own, spec)?;
        }
    }
    users_of_running(pod, spec, runtime)
}

fn at<T>(path: &str, outcome: Result<T, String>) -> Result<(), String> {
    outcome.map(drop).map_err(|why| format!("{path}: {why}"))
}

/// An id beyond 31 bits is another one, root even, to the kernel.
fn id(path: &str, name: &str, id: Option<i64>) -> Result<(), String> {
    match id {
        Some(id) if !(0..=MAX_ID).contains(&id) => Err(format!("{path}.{name}: Invalid value: {id}: must be between 0 and {MAX_ID}, inclusive")),
        _ => Ok(()),
    }
}

fn pod_ids(spec: &PodSpec) -> Result<(), String> {
    let Some(context) = &spec.security_context else { return Ok(()) };
    let path = "spec.securityContext";
    id(path, "runAsUser", context.run_as_user)?;
    id(path, "runAsGroup", context.run_as_group)?;
    id(path, "fsGroup", context.fs_group)?;
    let mut groups = context.supplemental_groups.iter().flatten().enumerate();
    groups.try_for_each(|(index, group)| id(path, &format!("supplementalGroups[{index}]"), Some(*group)))
}

fn security(path: &str, own: &SecurityContext, spec: &PodSpec) -> Result<(), String> {
    id(path, "runAsUser", own.run_as_user)?;
    id(path, "runAsGroup", own.run_as_group)?;
    at(&format!("{path}.seccompProfile"), profiles::seccomp(own.seccomp_profile.as_ref(), ""))?;
    at(&format!("{path}.capabilities"), own.capabilities.as_ref().map(capabilities).transpose())?;
    match own.proc_mount.as_deref() {
        None | Some("Default") => {}
        Some("Unmasked") if spec.host_users == Some(false) => {}
        Some("Unmasked") => return Err(format!("{path}.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`")),
        Some(kind) => return Err(format!("{path}.procMount: Unsupported value: {kind:?}: supported values: \"Default\", \"Unmasked\"")),
    }
    if own.allow_privilege_escalation == Some(false) && own.privileged == Some(true) {
        return Err(format!("{path}: Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
    }
    Ok(())
}

/// A container whose mounts reach the host can do all that the host can.
fn propagation(path: &str, container: &Container) -> Result<(), String> {
    let privileged = container.security_context.as_ref().is_some_and(|own| own.privileged == Some(true));
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let field = format!("{path}.volumeMounts[{index}].mountPropagation");
        match mount.mount_propagation.as_deref() {
            None | Some("None" | "HostToContainer") => {}
            Some("Bidirectional") if privileged => {}
            Some("Bidirectional") => {
                return Err(format!("{field}: Forbidden: Bidirectional mount propagation is available only to privileged containers"));
            }
            Some(mode) => return Err(format!("{field}: Unsupported value: {mode:?}")),
        }
    }
    Ok(())
}

/// A pod with users of its own never gets a sandbox of a runtime that gives it none. One that runs nevertheless shares the host's users.
fn users_of_running(pod: &Pod, spec: &PodSpec, runtime: &RuntimeFeatures) -> Result<(), String> {
    let runs = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if runs && spec.host_users == Some(false) && !runtime.any_user_namespaces() {
        return Err(no_user_namespaces(""));
    }
    Ok(())
}
