//! The way down: hooks and signals, and removing what is left.

use std::{fs, io, path::Path, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::time::{Instant, timeout};
use troupe_cri::{CriError, names::legacy_log_name};

use super::{Step, StepFailure, hooks, material};
use crate::kubelet::{cgroups, events::Note, volumes::disk, worker::plan::StopReason};

/// What a container gets after its preStop hook used the grace up.
const LEAST: u64 = 2;

/// Announces, runs preStop, stops.
pub(super) async fn stop_container(step: &Step, id: &str, name: &str, grace: u64, reason: StopReason, message: &str) -> Result<(), StepFailure> {
    let text = if reason == StopReason::PodStops { format!("Stopping container {name}") } else { message.to_owned() };
    kill(step, id, name, grace, &text).await.map_err(|error| {
        step.note_container(name, Note::warning("FailedKillPod", format!("error killing container: {error}")));
        StepFailure::new("FailedKillPod", error)
    })
}

/// Stops a container within `grace` seconds, the preStop hook included.
pub(super) async fn kill(step: &Step, id: &str, name: &str, grace: u64, message: &str) -> Result<(), CriError> {
    step.note_container(name, Note::normal("Killing", message));
    let began = Instant::now();
    let total = Duration::from_secs(grace);
    if let Some((hook, container)) = pre_stop(step, id, name)
        && grace > 0
    {
        let ip = step.observed.ready_sandbox().and_then(|sandbox| sandbox.ips.first()).cloned().unwrap_or_default();
        match timeout(total, hooks::run(step, &hook, &container, id, &ip)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(container = id, error, "preStop hook failed");
                step.note_container(name, Note::warning("FailedPreStopHook", "PreStopHook failed"));
            }
            Err(_) => tracing::warn!(container = id, "preStop hook did not end in time"),
        }
    }
    let left = total.saturating_sub(began.elapsed());
    let left = if grace == 0 { Duration::ZERO } else { left.max(Duration::from_secs(LEAST.min(grace))) };
    step.cri("StopContainer", step.context.runtime.stop_container(id, left)).await
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

/// Removes a dead container with its log.
pub(super) async fn remove_container(step: &Step, id: &str) -> Result<(), StepFailure> {
    let seen = step.observed.containers.iter().find(|seen| seen.id == id).cloned();
    step.cri("RemoveContainer", step.context.runtime.remove_container(id)).await.map_err(|error| StepFailure::new("Failed", error))?;
    if let Some(seen) = seen {
        let log = step.id.log_file(&step.context.log_root, &seen.name, seen.attempt);
        forget_log(&log);
        forget(&step.context.container_log_links.join(legacy_log_name(&step.id, &seen.name, id)));
        forget(&step.context.paths(&step.id.uid).termination_file(&seen.name, seen.attempt));
    }
    Ok(())
}

/// Removes a log with the parts of it that were rotated away.
fn forget_log(log: &Path) {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else { return };
    let rotated = format!("{name}.");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&rotated)) {
            forget(&entry.path());
        }
    }
    forget(log);
}

fn forget(file: &Path) {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!(%error, file = %file.display(), "file not removed"),
        _ => {}
    }
}

/// Unmounts and removes the pod's volumes and cgroups; the logs too once nothing of it is left at the runtime.
pub(super) async fn clean_up(step: &Step) -> Result<(), StepFailure> {
    let paths = step.context.paths(&step.id.uid);
    let logs = step.observed.is_empty().then(|| step.id.log_directory(&step.context.log_root));
    let (root, uid) = (step.context.cgroup_root.clone(), step.id.uid.clone());
    let work = move || -> Result<(), String> {
        disk::tear_down(&paths).map_err(|error| error.to_string())?;
        cgroups::remove_pod(&root, &uid).map_err(|error| format!("remove cgroups of pod {uid}: {error}"))?;
        match logs.map(fs::remove_dir_all) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(format!("remove logs: {error}")),
            _ => Ok(()),
        }
    };
    material::blocking(work).await.map_err(|error| StepFailure::new("FailedKillPod", error))
}
