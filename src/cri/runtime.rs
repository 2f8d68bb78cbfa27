//! What the kubelet needs of a container runtime.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use thiserror::Error;

use crate::proto;

/// A failed call to the runtime.
#[derive(Clone, Debug, Error)]
pub enum CriError {
    /// Nobody answers at the socket.
    #[error("the container runtime is not available: {0}")]
    Unavailable(String),
    /// The sandbox, container or image does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The runtime does not know this call.
    #[error("{0}")]
    Unimplemented(String),
    /// The call took longer than it may.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// Everything else; `code` is the gRPC code's name.
    #[error("rpc error: code = {code} desc = {message}")]
    Failed { code: &'static str, message: String },
}

impl CriError {
    /// The object of the call does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, CriError::NotFound(_))
    }

    /// The runtime does not know what it was asked for. containerd 2.2 says so of some calls in words alone.
    pub fn is_unimplemented(&self) -> bool {
        match self {
            CriError::Unimplemented(_) => true,
            CriError::Failed { code: "Unknown", message } => message.contains("not implemented"),
            _ => false,
        }
    }

    /// What the runtime says, without the name of its code: what events and statuses of containers tell.
    pub fn message(&self) -> &str {
        match self {
            CriError::Unavailable(message)
            | CriError::NotFound(message)
            | CriError::Unimplemented(message)
            | CriError::DeadlineExceeded(message)
            | CriError::Failed { message, .. } => message,
        }
    }

    /// The answer would be longer than the runtime, or this client, takes.
    pub fn is_too_large(&self) -> bool {
        matches!(self, CriError::Failed { code: "ResourceExhausted" | "OutOfRange", .. })
    }
}

/// The result of a call to the runtime.
pub type CriResult<T> = Result<T, CriError>;

/// What a command run inside a container gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// Changes that the runtime reports by itself.
pub type EventStream = BoxStream<'static, CriResult<proto::ContainerEventResponse>>;

/// The calls of RuntimeService and ImageService that the kubelet makes. Stopping and removing what does not exist succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> CriResult<proto::VersionResponse>;
    /// The conditions `RuntimeReady` and `NetworkReady`, and what the runtime can do.
    async fn status(&self) -> CriResult<proto::StatusResponse>;

    /// How the runtime makes cgroups; [`CriError::Unimplemented`] where it does not tell.
    async fn runtime_config(&self) -> CriResult<proto::RuntimeConfigResponse> {
        Err(CriError::Unimplemented("unknown method RuntimeConfig".to_owned()))
    }

    /// Creates and starts a sandbox; gives its id.
    async fn run_pod_sandbox(&self, config: proto::PodSandboxConfig, handler: &str) -> CriResult<String>;
    async fn stop_pod_sandbox(&self, id: &str) -> CriResult<()>;
    async fn remove_pod_sandbox(&self, id: &str) -> CriResult<()>;
    async fn pod_sandbox_status(&self, id: &str) -> CriResult<proto::PodSandboxStatus>;
    async fn list_pod_sandboxes(&self, filter: proto::PodSandboxFilter) -> CriResult<Vec<proto::PodSandbox>>;

    /// Creates a container in a sandbox; gives its id.
    async fn create_container(&self, sandbox: &str, config: proto::ContainerConfig, sandbox_config: proto::PodSandboxConfig) -> CriResult<String>;
    async fn start_container(&self, id: &str) -> CriResult<()>;
    /// Sends the stop signal, and kills after `timeout`.
    async fn stop_container(&self, id: &str, timeout: Duration) -> CriResult<()>;
    async fn remove_container(&self, id: &str) -> CriResult<()>;
    async fn list_containers(&self, filter: proto::ContainerFilter) -> CriResult<Vec<proto::Container>>;
    async fn container_status(&self, id: &str) -> CriResult<proto::ContainerStatus>;
    async fn update_container_resources(&self, id: &str, resources: proto::LinuxContainerResources) -> CriResult<()>;
    /// Tells that the pod's own cgroup gets another size: the part of its overhead, and the rest. Some do not want to know.
    async fn update_pod_sandbox_resources(
        &self,
        _id: &str,
        _overhead: proto::LinuxContainerResources,
        _resources: proto::LinuxContainerResources,
    ) -> CriResult<()> {
        Err(CriError::Unimplemented("unknown method UpdatePodSandboxResources".to_owned()))
    }
    /// The runtime opens the log file anew, after rotation.
    async fn reopen_container_log(&self, id: &str) -> CriResult<()>;
    /// Writes what a container is at this moment to `location`; a `timeout` of zero leaves it to the runtime. Some cannot.
    async fn checkpoint_container(&self, _id: &str, _location: &Path, _timeout: Duration) -> CriResult<()> {
        Err(CriError::Unimplemented("unknown method CheckpointContainer".to_owned()))
    }
    async fn list_container_stats(&self, filter: proto::ContainerStatsFilter) -> CriResult<Vec<proto::ContainerStats>>;

    /// Runs a command in a container and waits for its end, at most `timeout`.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> CriResult<ExecOutput>;
    /// Prepares a streaming exec; gives the URL to connect to.
    async fn exec(&self, request: proto::ExecRequest) -> CriResult<String>;
    /// Prepares an attach; gives the URL to connect to.
    async fn attach(&self, request: proto::AttachRequest) -> CriResult<String>;
    /// Prepares a port-forward; gives the URL to connect to.
    async fn port_forward(&self, request: proto::PortForwardRequest) -> CriResult<String>;

    /// Container events; [`CriError::Unimplemented`] where the runtime has none.
    async fn events(&self) -> CriResult<EventStream>;

    async fn list_images(&self) -> CriResult<Vec<proto::Image>>;
    /// `None` when the image is not there.
    async fn image_status(&self, image: &str) -> CriResult<Option<proto::Image>>;
    /// Pulls an image; gives its reference.
    async fn pull_image(&self, image: &str, auth: Option<proto::AuthConfig>, sandbox_config: proto::PodSandboxConfig) -> CriResult<String>;
    async fn remove_image(&self, image: &str) -> CriResult<()>;
    async fn image_fs_info(&self) -> CriResult<Vec<proto::FilesystemUsage>>;
}
