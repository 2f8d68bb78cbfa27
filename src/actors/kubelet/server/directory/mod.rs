//! What the server asks the kubelet: which container, which sandbox, which log.

pub mod cri;
mod kubelet;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;
use troupe_cri::CriError;

use crate::kubelet::stats::{PodLogs, PodVolumes};

/// A pod as paths name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    /// Where given, the pod of this name must have it.
    pub uid: Option<String>,
}

/// A container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub container_id: String,
}

/// Why nothing was found. Reads as what clients see.
#[derive(Debug, Error)]
pub enum LookupError {
    /// There is no such pod, or no such container in it.
    #[error("{0}")]
    NotFound(String),
    /// It exists but cannot serve the request now.
    #[error("{0}")]
    NotReady(String),
    #[error(transparent)]
    Runtime(#[from] CriError),
}

/// The pods of this node, as the server needs them.
#[async_trait]
pub trait PodDirectory: Send + Sync + 'static {
    /// The log of a container, or with `previous` of the one before it.
    async fn log(&self, pod: &PodRef, container: &str, previous: bool) -> Result<LogFile, LookupError>;

    /// The id of a running container.
    async fn container(&self, pod: &PodRef, container: &str) -> Result<String, LookupError>;

    /// The id of a pod's running sandbox.
    async fn sandbox(&self, pod: &PodRef) -> Result<String, LookupError>;

    /// Whether more may be written to a container's log. True where the runtime cannot tell.
    async fn is_running(&self, container_id: &str) -> bool;

    /// The pods bound to this node.
    async fn pods(&self) -> Vec<Arc<Pod>>;

    /// How full their volumes are, by the pods' uids, as far as drivers tell.
    async fn volumes(&self) -> PodVolumes {
        PodVolumes::default()
    }

    /// What their containers' logs take.
    async fn logs(&self) -> PodLogs {
        PodLogs::default()
    }
}
