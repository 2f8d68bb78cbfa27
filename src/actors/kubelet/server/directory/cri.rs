//! The pods as the runtime alone knows them: enough without any kubelet.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use troupe_cri::{
    CriError, Runtime, names,
    proto::{Container, ContainerFilter, ContainerState, PodSandbox, PodSandboxFilter, PodSandboxState},
};

use super::{LogFile, LookupError, PodDirectory, PodRef};

/// Reads everything from the runtime's labels.
pub struct CriPodDirectory {
    runtime: Arc<dyn Runtime>,
}

impl CriPodDirectory {
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        CriPodDirectory { runtime }
    }

    /// All attempts at one container, newest first.
    async fn attempts(&self, pod: &PodRef, container: &str) -> Result<Vec<Container>, LookupError> {
        let mut selector = labels_of(pod);
        selector.insert(names::CONTAINER_NAME.to_owned(), container.to_owned());
        let filter = ContainerFilter { label_selector: selector, ..Default::default() };
        let mut found = self.runtime.list_containers(filter).await?;
        let attempt = |container: &Container| container.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        found.sort_by_key(|container| std::cmp::Reverse((container.created_at, attempt(container))));
        Ok(found)
    }

    async fn sandboxes(&self, pod: &PodRef) -> Result<Vec<PodSandbox>, LookupError> {
        let filter = PodSandboxFilter { label_selector: labels_of(pod), ..Default::default() };
        Ok(self.runtime.list_pod_sandboxes(filter).await?)
    }
}

fn labels_of(pod: &PodRef) -> HashMap<String, String> {
    let mut labels = HashMap::from([(names::POD_NAMESPACE.to_owned(), pod.namespace.clone()), (names::POD_NAME.to_owned(), pod.name.clone())]);
    if let Some(uid) = &pod.uid {
        labels.insert(names::POD_UID.to_owned(), uid.clone());
    }
    labels
}

#[async_trait]
impl PodDirectory for CriPodDirectory {
    async fn log(&self, pod: &PodRef, container: &str, previous: bool) -> Result<LogFile, LookupError> {
        let attempts = self.attempts(pod, container).await?;
        if attempts.is_empty() && self.sandboxes(pod).await?.is_empty() {
            return Err(LookupError::NotFound(format!("pod {:?} does not exist", pod.name)));
        }
        let what = || match previous {
            true => format!("previous terminated container {container:?} in pod {:?} not found", pod.name),
            false => format!("container {container:?} in pod {:?} is waiting to start: ContainerCreating", pod.name),
        };
        let wanted = attempts.get(usize::from(previous)).ok_or_else(|| LookupError::NotReady(what()))?;
        let status = self.runtime.container_status(&wanted.id).await?;
        Ok(LogFile { path: PathBuf::from(status.log_path), container_id: wanted.id.clone() })
    }

    async fn container(&self, pod: &PodRef, container: &str) -> Result<String, LookupError> {
        let attempts = self.attempts(pod, container).await?;
        let running = attempts.into_iter().find(|container| container.state() == ContainerState::ContainerRunning);
        running.map(|container| container.id).ok_or_else(|| LookupError::NotReady(format!("container not found ({container:?})")))
    }

    async fn sandbox(&self, pod: &PodRef) -> Result<String, LookupError> {
        let sandboxes = self.sandboxes(pod).await?;
        let ready = sandboxes.into_iter().filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady);
        let newest = ready.max_by_key(|sandbox| sandbox.created_at);
        newest.map(|sandbox| sandbox.id).ok_or_else(|| LookupError::NotFound(format!("pod {:?} does not exist", pod.name)))
    }

    async fn is_running(&self, container_id: &str) -> bool {
        match self.runtime.container_status(container_id).await {
            Ok(status) => status.state() == ContainerState::ContainerRunning,
            Err(CriError::Unavailable(_) | CriError::DeadlineExceeded(_)) => true,
            Err(_) => false,
        }
    }

    async fn pods(&self) -> Vec<Arc<Pod>> {
        let sandboxes = self.runtime.list_pod_sandboxes(PodSandboxFilter::default()).await.unwrap_or_default();
        sandboxes.into_iter().filter_map(|sandbox| sandbox.metadata).map(|metadata| Arc::new(pod_of(metadata))).collect()
    }
}

fn pod_of(metadata: troupe_cri::proto::PodSandboxMetadata) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some(metadata.namespace);
    pod.metadata.name = Some(metadata.name);
    pod.metadata.uid = Some(metadata.uid);
    pod
}
