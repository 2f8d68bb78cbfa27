//! The pod's directories and volumes.

use super::{Step, StepFailure, drivers, material};
use crate::{
    files::blocking,
    kubelet::{
        events::Note,
        volumes::{VolumeError, disk, payload::PayloadInputs},
    },
};

/// The reason of a pod for which device plugins have nothing.
const UNEXPECTED: &str = "UnexpectedAdmissionError";
/// The reason of a pod whose claims for devices are not ready.
const FAILED_DEVICES: &str = "FailedPrepareDynamicResources";

/// Makes directories and sets all volumes up.
pub(super) async fn prepare(step: &Step) -> Result<(), StepFailure> {
    let outcome = write(step, true).await;
    if let Err(failure) = &outcome {
        step.note(Note::warning("FailedMount", failure.message.clone()));
    }
    outcome?;
    let affinity = step.context.container_manager.affinity(&step.id.uid);
    step.context.device_plugins.allocate(&step.pod, &affinity).await.map_err(|why| {
        step.note(Note::warning(UNEXPECTED, why.clone()));
        StepFailure::new(UNEXPECTED, why)
    })?;
    step.context.dra.prepare(&step.pod).await.map_err(|why| {
        let message = format!("Failed to prepare dynamic resources: {why}");
        step.note(Note::warning(FAILED_DEVICES, message.clone()));
        StepFailure::new(FAILED_DEVICES, message)
    })
}

/// Brings the volumes up to date, and puts back what somebody took away.
pub async fn refresh(step: &Step) -> Result<(), StepFailure> {
    write(step, false).await
}

async fn write(step: &Step, all: bool) -> Result<(), StepFailure> {
    let failed = |error: String| StepFailure::new("FailedMount", error);
    let context = &step.context;
    let mut references = material::references(&*context.cluster, &step.pod, None).await.map_err(|status| failed(status.message))?;
    references.certificates = context.pod_certificates.bundles(&step.pod).map_err(failed)?;
    let tokens = step.tokens.for_pod(context, &step.pod).await.map_err(|status| failed(status.message))?;
    let gone = disk::missing(&context.paths(&step.id.uid), &step.pod);
    if all {
        let paths = context.paths(&step.id.uid);
        blocking(move || disk::make_directories(&paths)).await.map_err(|error| failed(error.to_string()))?;
    }
    let kept = drivers::kept(step).await;
    let (mut claims, unclaimed) =
        material::claims(context, &step.pod, |volume| all || gone.iter().any(|gone| gone == volume) || kept.iter().any(|kept| kept == volume)).await;
    let driven = drivers::mount(step, &mut claims, all, &gone).await;
    if let (false, Some(why)) = (all, &driven) {
        step.note(Note::warning("FailedMount", why.clone()));
    }
    let (context, pod, made) = (context.clone(), step.pod.clone(), step.made.clone());
    let (paths, logs) = (context.paths(&step.id.uid), step.id.log_directory(&context.log_root));
    let ips = context.pod_ips(&pod, &step.observed);
    let now = context.clock.now();
    let work = move || -> Result<(), VolumeError> {
        let (node_ips, machine, runtime) = (&context.node_ips, context.unreserved, context.runtime_version.load_full());
        let inputs = PayloadInputs {
            pod: &pod,
            references: &references,
            tokens: &tokens,
            claims: &claims,
            pod_ips: &ips,
            node_ips,
            machine,
            runtime: &runtime,
        };
        if all {
            disk::make_log_directory(&logs)?;
            disk::set_up(&paths, &inputs, &context.written, &made, now)
        } else {
            disk::refresh(&paths, &inputs, &context.written, &made, now)
        }
    };
    blocking(work).await.map_err(|error| failed(error.to_string()))?;
    if let Some(why) = unclaimed.or(driven) {
        return Err(failed(why));
    }
    if all { super::resize::record(step).await.map_err(failed) } else { Ok(()) }
}
