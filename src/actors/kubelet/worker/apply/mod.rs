//! Doing what was planned: calls of the runtime, files, mounts. No decisions.

mod accounts;
mod drivers;
mod hooks;
mod image;
mod material;
mod pre_stops;
mod prepare;
mod resize;
mod start;
mod takedown;

use std::{borrow::Cow, sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio_util::sync::CancellationToken;
use troupe_cri::{names::PodIdentity, proto, runtime::CriResult, sandbox::SandboxInputs};

pub use material::Tokens;
pub use pre_stops::PreStops;
pub use prepare::refresh;
pub use resize::Sizes;
pub use takedown::FAILED_CLEANUP;

use super::{
    ephemeral::find_any,
    observed::Observed,
    plan::{Action, FAILED_KILL},
};
use crate::kubelet::{
    call_trace::CallTrace,
    context::NodeContext,
    events::{ContainerField, Note},
    metrics, resolv,
    volumes::Made,
};

/// The reason of a container that does not start because volumes that were set up are gone.
pub const VOLUMES_MISSING: &str = "VolumesMissing";

/// The reason of a container that does not start because the rules of network policies do not stand; upstream's of a network that is not ready.
pub const NETWORK_NOT_READY: &str = "NetworkNotReady";

/// Why a step failed: what the container's status says until the next try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct StepFailure {
    pub reason: String,
    pub message: String,
}

/// Bytes of a failure's message: a runtime quotes whatever a pod's spec says.
const LONGEST_MESSAGE: usize = 4 << 10;

impl StepFailure {
    pub fn new(reason: &str, message: impl ToString) -> Self {
        let mut message = message.to_string();
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push('…');
        }
        StepFailure { reason: reason.to_owned(), message }
    }
}

/// All that a step may look at.
#[derive(Clone)]
pub struct Step {
    pub context: Arc<NodeContext>,
    /// An empty shell for pods that are only known from the runtime.
    pub pod: Arc<Pod>,
    pub id: PodIdentity,
    pub observed: Observed,
    pub tokens: Arc<Tokens>,
    pub made: Arc<Made>,
    pub sizes: Arc<Sizes>,
    pub pre_stops: Arc<PreStops>,
    pub cancel: CancellationToken,
    pub call_trace: CallTrace,
}

impl Step {
    /// Makes a call of the container runtime and records it.
    async fn cri<T>(&self, what: &str, call: impl Future<Output = CriResult<T>>) -> CriResult<T> {
        let service = if what == "PullImage" { "ImageService" } else { "RuntimeService" };
        self.call_trace.cri(&self.context.runtime_name, service, what, call).await
    }

    fn spec(&self) -> PodSpec {
        self.pod.spec.clone().unwrap_or_default()
    }

    fn container(&self, name: &str) -> Option<Container> {
        find_any(self.pod.spec.as_ref()?, name).map(Cow::into_owned)
    }

    fn field(&self, name: &str) -> Option<ContainerField> {
        Some(ContainerField::of(self.pod.spec.as_ref()?, name))
    }

    fn note(&self, note: Note) {
        self.context.events.pod(&self.pod, note);
    }

    fn note_container(&self, name: &str, note: Note) {
        self.note(note.about(self.field(name)));
    }

    fn sandbox_config(&self, attempt: u32) -> Result<proto::PodSandboxConfig, String> {
        let on_host = self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let hostname = if on_host { String::new() } else { resolv::hostname(&self.pod, &self.context.dns.domain)? };
        troupe_cri::sandbox::pod_sandbox_config(
            &self.pod,
            &SandboxInputs {
                attempt,
                hostname,
                dns: resolv::dns_config(&self.pod, &self.context.dns, &self.context.resolver),
                log_root: &self.context.log_root,
                cgroup_parent: &self.context.cgroup_parent,
                cpu_time: self.context.cpu_time,
                users: self.context.user_namespaces.of(&self.id.uid),
            },
        )
    }
}

/// Takes one planned step.
pub async fn apply(step: &Step, action: &Action) -> Result<(), StepFailure> {
    let begun = Instant::now();
    let outcome = take(step, action).await;
    metrics::stepped(&step.pod, action, outcome.as_ref().err().map(|failure| &*failure.reason), begun.elapsed());
    outcome
}

async fn take(step: &Step, action: &Action) -> Result<(), StepFailure> {
    let runtime = &step.context.runtime;
    let failed = |error: troupe_cri::CriError| StepFailure::new("Failed", error);
    match action {
        Action::Prepare => step.call_trace.call("volumes", "SetUp", prepare::prepare(step)).await,
        Action::CreateSandbox { attempt } => start::create_sandbox(step, *attempt).await,
        Action::StartContainer { name, attempt } => start::start_container(step, name, *attempt).await,
        Action::StopContainer { id, name, grace, reason, message } => takedown::stop_container(step, id, name, *grace, *reason, message).await,
        Action::RunPreStop { id, name, grace } => {
            takedown::run_pre_stop(step, id, name, *grace).await;
            Ok(())
        }
        Action::Resize => step.call_trace.call("cgroups", "Resize", resize::resize(step)).await,
        Action::StopSandbox { id } => {
            step.cri("StopPodSandbox", runtime.stop_pod_sandbox(id)).await.map_err(|error| StepFailure::new(FAILED_KILL, error))
        }
        Action::RemoveContainer { id, keep_log } => takedown::remove_container(step, id, *keep_log).await,
        Action::RemoveSandbox { id } => step.cri("RemovePodSandbox", runtime.remove_pod_sandbox(id)).await.map_err(failed),
        Action::CleanUp { logs } => step.call_trace.call("volumes", "TearDown", takedown::clean_up(step, *logs)).await,
    }
}
