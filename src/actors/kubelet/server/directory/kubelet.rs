//! The pods as the running kubelet knows them.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use super::{LogFile, LookupError, PodDirectory, PodRef};
use crate::kubelet::{
    handle::{self, KubeletHandle},
    stats::{PodLogs, PodVolumes},
};

impl From<handle::LookupError> for LookupError {
    fn from(error: handle::LookupError) -> Self {
        match error {
            handle::LookupError::Runtime(error) => LookupError::Runtime(error),
            handle::LookupError::NotRunning(why) => LookupError::NotReady(why),
            missing => LookupError::NotFound(missing.to_string()),
        }
    }
}

#[async_trait]
impl PodDirectory for KubeletHandle {
    async fn log(&self, pod: &PodRef, container: &str, previous: bool) -> Result<LogFile, LookupError> {
        let log = KubeletHandle::log(self, &pod.namespace, &pod.name, pod.uid.as_deref(), container, previous).await?;
        Ok(LogFile { path: log.path, container_id: log.container_id })
    }

    async fn container(&self, pod: &PodRef, container: &str) -> Result<String, LookupError> {
        Ok(KubeletHandle::container(self, &pod.namespace, &pod.name, pod.uid.as_deref(), container).await?)
    }

    async fn sandbox(&self, pod: &PodRef) -> Result<String, LookupError> {
        Ok(KubeletHandle::sandbox(self, &pod.namespace, &pod.name, pod.uid.as_deref()).await?)
    }

    async fn is_running(&self, container_id: &str) -> bool {
        KubeletHandle::is_running(self, container_id).await
    }

    async fn pods(&self) -> Vec<Arc<Pod>> {
        KubeletHandle::pods(self)
    }

    async fn volumes(&self) -> PodVolumes {
        KubeletHandle::volumes(self).await
    }

    async fn logs(&self) -> PodLogs {
        KubeletHandle::logs(self).await
    }
}
