//! The way down: hooks and signals, and removing what is left.

use std::{path::Path, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::time::Instant;
use troupe_cri::{CriError, names::legacy_log_name};

use super::{Step, StepFailure, hooks, pre_stops::Hooked};
use crate::{
    files::{Directory, blocking, mounts::unmount_below, place_and_name, remove_tree},
    kubelet::{
        cgroups,
        events::Note,
        volumes::disk,
        worker::plan::{FAILED_KILL, LEAST_GRACE, StopReason},
    },
};

/// The reason why what a pod had on this node is not removed.
pub const FAILED_CLEANUP: &str = "FailedCleanUp";

/// Announces, runs preStop, stops.
pub(super) async fn stop_container(step: &Step, id: &str, name: &str, grace: u64, reason: StopReason, message: &str) -> Result<(), StepFailure> {
    let stopped = match reason {
        StopReason::PodStops => kill(step, id, name, grace, &format!("Stopping container {name}")).await,
        StopReason::Turn => {
            if !message.is_empty() {
                step.note_container(name, Note::normal("Killing", message));
            }
            step.cri("StopContainer", step.context.runtime.stop_container(id, Duration::from_secs(grace))).await
        }
        _ => kill(step, id, name, grace, message).await,
    };
    stopped.map_err(|error| {
        step.note_container(name, Note::warning(FAILED_KILL, format!("error killing container: {error}")));
        StepFailure::new(FAILED_KILL, error)
    })
}

/// Stops a container within `grace` seconds, the preStop hook included.
pub(super) async fn kill(step: &Step, id: &str, name: &str, grace: u64, message: &str) -> Result<(), CriError> {
    step.note_container(name, Note::normal("Killing", message));
    let began = Instant::now();
    let total = Duration::from_secs(grace);
    hook(step, id, name, total).await;
    step.cri("StopContainer", step.context.runtime.stop_container(id, left(grace, began.elapsed()))).await
}

/// What is left of a grace. Runtimes count whole seconds: one that has only begun is there in full.
fn left(grace: u64, elapsed: Duration) -> Duration {
    Duration::from_secs(if grace == 0 { 0 } else { grace.saturating_sub(elapsed.as_secs()).max(LEAST_GRACE) })
}

/// Announces the end of a sidecar, which stops later, and runs its preStop hook.
pub(super) async fn run_pre_stop(step: &Step, id: &str, name: &str, grace: u64) {
    step.note_container(name, Note::normal("Killing", format!("Stopping container {name}")));
    hook(step, id, name, Duration::from_secs(grace)).await;
}

/// Runs a preStop hook if there are one and time for it, and it was not begun before.
async fn hook(step: &Step, id: &str, name: &str, time: Duration) {
    let Some((hook, container)) = pre_stop(step, id, name).filter(|_| !time.is_zero()) else { return };
    let ip = step.observed.ready_sandbox().and_then(|sandbox| sandbox.ips.first()).cloned().unwrap_or_default();
    let exists = |id: &str| step.observed.containers.iter().any(|seen| seen.id == id);
    match step.pre_stops.once(id, exists, time, hooks::run(step, &hook, &container, id, &ip)).await {
        Hooked::Ran(Ok(())) | Hooked::ByAnother => {}
        Hooked::Ran(Err(error)) => {
            tracing::warn!(container = id, error, "preStop hook failed");
            step.note_container(name, Note::warning("FailedPreStopHook", "PreStopHook failed"));
        }
        Hooked::OutOfTime => tracing::warn!(container = id, "preStop hook did not end in time"),
    }
}

/// The hook from the spec, or from the container's own annotations when the spec is gone.
fn pre_stop(step: &Step, id: &str, name: &str) -> Option<(LifecycleHandler, Container)> {
    if let Some(container) = step.container(name) {
        let hook = container.lifecycle.as_ref()?.pre_stop.clone()?;
        return Some((hook, container));
    }
    let seen = step.observed.containers.iter().find(|seen| seen.id == id)?;
    let hook = serde_json::from_str(seen.pre_stop.as_ref()?).ok()?;
    Some((hook, Container { name: name.to_owned(), ..Container::default() }))
}

/// Removes a dead container with its last words, and with its log unless that is kept until the pod goes.
pub(super) async fn remove_container(step: &Step, id: &str, keep_log: bool) -> Result<(), StepFailure> {
    let seen = step.observed.containers.iter().find(|seen| seen.id == id).cloned();
    step.cri("RemoveContainer", step.context.runtime.remove_container(id)).await.map_err(|error| StepFailure::new("Failed", error))?;
    if let Some(seen) = seen {
        let log = step.id.log_file(&step.context.log_root, &seen.name, seen.attempt);
        let link = step.context.container_log_links.join(legacy_log_name(&step.id, &seen.name, id));
        let words = step.context.paths(&step.id.uid).termination_file(&seen.name, seen.attempt);
        blocking(move || {
            if !keep_log {
                forget(&log, true);
                forget(&link, false);
            }
            forget(&words, false);
        })
        .await;
    }
    Ok(())
}

/// Removes a file and, of a log, the parts that were rotated away.
fn forget(file: &Path, rotated: bool) {
    let Ok((folder, name)) = place_and_name(file) else { return };
    // Without its directory it is gone.
    let Ok(folder) = Directory::open(folder) else { return };
    let mut names = vec![name.to_owned()];
    if rotated {
        let parts = format!("{name}.");
        let there = folder.entries().unwrap_or_default().into_iter();
        names.extend(there.filter_map(|entry| entry.name.into_string().ok()).filter(|name| name.starts_with(&parts)));
    }
    for name in names {
        if let Err(error) = folder.remove_file(&name) {
            tracing::warn!(%error, file = %file.with_file_name(name).display(), "file not removed");
        }
    }
}

/// Unmounts and removes the pod's volumes and cgroups, with `logs` its logs too once nothing of it is left at the runtime.
pub(super) async fn clean_up(step: &Step, logs: bool) -> Result<(), StepFailure> {
    let failed = |error: String| StepFailure::new(FAILED_CLEANUP, error);
    let uid = step.id.uid.clone();
    let paths = step.context.paths(&uid);
    step.context.dra.unprepare(&uid).await.map_err(failed)?;
    step.context.device_plugins.release(&uid).await.map_err(failed)?;
    step.context.container_manager.release(&uid).await.map_err(failed)?;
    // What is bound of a volume goes before its driver is told to take it away.
    for bound in ["volume-subpaths", "volumeDevices"] {
        let bound = paths.root().join(bound);
        blocking(move || unmount_below(&bound)).await.map_err(|error| failed(format!("unmount below {}: {error}", paths.root().display())))?;
    }
    step.context.csi.release(&uid).await.map_err(failed)?;
    disk::tear_down(&paths).await.map_err(|error| failed(error.to_string()))?;
    step.context.written.release(&uid);
    step.context.gate.left(&step.id.namespace, &step.id.name, &uid).await;
    let parent = step.context.cgroup_parent.clone();
    remove_cgroups(step, &parent).await.map_err(|error| failed(format!("remove cgroups of pod {uid}: {error}")))?;
    // Nobody has them any more.
    step.context.user_namespaces.release(&uid);
    if logs && step.observed.is_empty() {
        let logs = step.id.log_directory(&step.context.log_root);
        remove_tree(&logs).await.map_err(|error| failed(format!("remove logs: {error}")))?;
    }
    Ok(())
}

/// The runtime has forgotten all of the pod, but not ended all: what was setting a container up may live on in it.
async fn remove_cgroups(step: &Step, parent: &str) -> Result<(), String> {
    let (root, uid) = (parent.to_owned(), step.id.uid.clone());
    blocking(move || cgroups::kill_pod(&root, &uid)).await.map_err(|error| error.to_string())?;
    step.context.slices.stop_pod(parent, &step.id.uid).await.map_err(|error| error.to_string())?;
    let (root, uid) = (parent.to_owned(), step.id.uid.clone());
    blocking(move || cgroups::remove_pod(&root, &uid)).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_of_a_grace_is_lost() {
        let seconds = |grace, millis| left(grace, Duration::from_millis(millis)).as_secs();
        assert_eq!((seconds(30, 1), seconds(30, 999), seconds(30, 1000)), (30, 30, 29));
        assert_eq!((seconds(30, 30_000), seconds(1, 0), seconds(0, 0)), (2, 2, 0));
    }
}
