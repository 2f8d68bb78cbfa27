//! Asking the runtime about one pod.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    path::Path,
};

use troupe_cri::{
    Runtime, names,
    proto::{ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState},
    runtime::CriResult,
};

use super::observed::{ContainerView, Observed, RunState, SandboxView};
use crate::files::Directory;

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
        match known.filter(|known| known.state != RunState::Unknown) {
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

/// The restart counts that log files prove: the highest number of each container's directory.
pub fn logged_attempts(directory: &Path) -> BTreeMap<String, u32> {
    let Ok((pod, containers)) = Directory::open(directory).and_then(|pod| pod.entries().map(|entries| (pod, entries))) else {
        return BTreeMap::new();
    };
    let highest = |name: &OsStr| {
        let files = pod.open_dir(Path::new(name)).ok()?.entries().ok()?;
        files.iter().filter_map(|file| file.name.to_str()?.split('.').next()?.parse().ok()).max()
    };
    containers.iter().filter_map(|entry| Some((entry.name.to_str()?.to_owned(), highest(&entry.name)?))).collect()
}
