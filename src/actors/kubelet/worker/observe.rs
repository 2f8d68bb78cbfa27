//! Asking the runtime about one pod.

use std::collections::HashMap;

use troupe_cri::{
    Runtime, names,
    proto::{ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState},
    runtime::CriResult,
};

use super::observed::{ContainerView, Observed, RunState, SandboxView};

/// Reads all that exists of the pod with this uid. What cannot change any more is taken over from `before`.
pub async fn observe(runtime: &dyn Runtime, uid: &str, before: Option<&Observed>) -> CriResult<Observed> {
    let selector = HashMap::from([(names::POD_UID.to_owned(), uid.to_owned())]);
    let sandboxes = runtime.list_pod_sandboxes(PodSandboxFilter { label_selector: selector.clone(), ..Default::default() }).await?;
    let containers = runtime.list_containers(ContainerFilter { label_selector: selector, ..Default::default() }).await?;
    let mut observed = Observed::default();
    for listed in sandboxes {
        let ready = listed.state() == PodSandboxState::SandboxReady;
        let known = before.and_then(|before| before.sandboxes.iter().find(|known| known.id == listed.id && known.ready == ready));
        match known.filter(|known| !ready || !known.ips.is_empty()) {
            Some(known) => observed.sandboxes.push(known.clone()),
            None => match runtime.pod_sandbox_status(&listed.id).await {
                Ok(status) => observed.sandboxes.push(SandboxView::of(&status)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            },
        }
    }
    for listed in containers {
        let state = match listed.state() {
            ContainerState::ContainerCreated => RunState::Created,
            ContainerState::ContainerRunning => RunState::Running,
            ContainerState::ContainerExited => RunState::Exited,
            ContainerState::ContainerUnknown => RunState::Unknown,
        };
        let known = before.and_then(|before| before.containers.iter().find(|known| known.id == listed.id && known.state == state));
        match known.filter(|known| known.state != RunState::Unknown && !known.outdated) {
            Some(known) => observed.containers.push(known.clone()),
            None => match runtime.container_status(&listed.id).await {
                Ok(status) => observed.containers.push(ContainerView::of(&status, &listed.pod_sandbox_id)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            },
        }
    }
    observed.sort();
    Ok(observed)
}
