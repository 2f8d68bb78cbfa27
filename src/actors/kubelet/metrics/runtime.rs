//! A container runtime whose calls are counted and timed.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use troupe_api::metrics::{Counter, DEFAULT_SECONDS, Family, Histogram, exponential};
use troupe_cri::{
    ExecOutput, Runtime, proto,
    runtime::{CriResult, EventStream},
};

const SECONDS: [f64; 14] = exponential(0.005, 2.5);
const LABELS: [&str; 1] = ["operation_type"];

pub static OPERATIONS: Family<Counter> =
    Family::new("kubelet_runtime_operations_total", "Cumulative number of runtime operations by operation type.", &LABELS);
pub static ERRORS: Family<Counter> =
    Family::new("kubelet_runtime_operations_errors_total", "Cumulative number of runtime operation errors by operation type.", &LABELS);
pub static DURATIONS: Family<Histogram> = Family::histogram(
    "kubelet_runtime_operations_duration_seconds",
    "Duration in seconds of runtime operations. Broken down by operation type.",
    &LABELS,
    &SECONDS,
);

pub static SANDBOXES: Family<Histogram> = Family::histogram(
    "kubelet_run_podsandbox_duration_seconds",
    "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
    &["runtime_handler"],
    &DEFAULT_SECONDS,
);
pub static SANDBOX_ERRORS: Family<Counter> = Family::new(
    "kubelet_run_podsandbox_errors_total",
    "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
    &["runtime_handler"],
);

/// Counts what is asked of a runtime.
pub struct MeteredRuntime(Arc<dyn Runtime>);

impl MeteredRuntime {
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        MeteredRuntime(runtime)
    }
}

async fn counted<T>(operation: &str, call: impl Future<Output = CriResult<T>>) -> CriResult<T> {
    let begun = Instant::now();
    let outcome = call.await;
    OPERATIONS.with(&[operation]).increment();
    DURATIONS.with(&[operation]).observe_time(begun.elapsed());
    if outcome.is_err() {
        ERRORS.with(&[operation]).increment();
    }
    outcome
}

#[async_trait]
impl Runtime for MeteredRuntime {
    async fn version(&self) -> CriResult<proto::VersionResponse> {
        counted("version", self.0.version()).await
    }

    async fn status(&self) -> CriResult<proto::StatusResponse> {
        counted("status", self.0.status()).await
    }

    async fn runtime_config(&self) -> CriResult<proto::RuntimeConfigResponse> {
        counted("runtime_config", self.0.runtime_config()).await
    }

    async fn run_pod_sandbox(&self, config: proto::PodSandboxConfig, handler: &str) -> CriResult<String> {
        let begun = Instant::now();
        let outcome = counted("run_podsandbox", self.0.run_pod_sandbox(config, handler)).await;
        SANDBOXES.with(&[handler]).observe_time(begun.elapsed());
        if outcome.is_err() {
            SANDBOX_ERRORS.with(&[handler]).increment();
        }
        outcome
    }

    async fn stop_pod_sandbox(&self, id: &str) -> CriResult<()> {
        counted("stop_podsandbox", self.0.stop_pod_sandbox(id)).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> CriResult<()> {
        counted("remove_podsandbox", self.0.remove_pod_sandbox(id)).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> CriResult<proto::PodSandboxStatus> {
        counted("podsandbox_status", self.0.pod_sandbox_status(id)).await
    }

    async fn list_pod_sandboxes(&self, filter: proto::PodSandboxFilter) -> CriResult<Vec<proto::PodSandbox>> {
        counted("list_podsandbox", self.0.list_pod_sandboxes(filter)).await
    }

    async fn create_container(&self, sandbox: &str, config: proto::ContainerConfig, sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        counted("create_container", self.0.create_container(sandbox, config, sandbox_config)).await
    }

    async fn start_container(&self, id: &str) -> CriResult<()> {
        counted("start_container", self.0.start_container(id)).await
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> CriResult<()> {
        counted("stop_container", self.0.stop_container(id, timeout)).await
    }

    async fn remove_container(&self, id: &str) -> CriResult<()> {
        counted("remove_container", self.0.remove_container(id)).await
    }

    async fn list_containers(&self, filter: proto::ContainerFilter) -> CriResult<Vec<proto::Container>> {
        counted("list_containers", self.0.list_containers(filter)).await
    }

    async fn container_status(&self, id: &str) -> CriResult<proto::ContainerStatus> {
        counted("container_status", self.0.container_status(id)).await
    }

    async fn update_container_resources(&self, id: &str, resources: proto::LinuxContainerResources) -> CriResult<()> {
        counted("update_container_resources", self.0.update_container_resources(id, resources)).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        id: &str,
        overhead: proto::LinuxContainerResources,
        resources: proto::LinuxContainerResources,
    ) -> CriResult<()> {
        counted("update_podsandbox_resources", self.0.update_pod_sandbox_resources(id, overhead, resources)).await
    }

    async fn reopen_container_log(&self, id: &str) -> CriResult<()> {
        counted("reopen_container_log", self.0.reopen_container_log(id)).await
    }

    async fn checkpoint_container(&self, id: &str, location: &Path, timeout: Duration) -> CriResult<()> {
        counted("checkpoint_container", self.0.checkpoint_container(id, location, timeout)).await
    }

    async fn list_container_stats(&self, filter: proto::ContainerStatsFilter) -> CriResult<Vec<proto::ContainerStats>> {
        counted("list_container_stats", self.0.list_container_stats(filter)).await
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> CriResult<ExecOutput> {
        counted("exec_sync", self.0.exec_sync(id, command, timeout)).await
    }

    async fn exec(&self, request: proto::ExecRequest) -> CriResult<String> {
        counted("exec", self.0.exec(request)).await
    }

    async fn attach(&self, request: proto::AttachRequest) -> CriResult<String> {
        counted("attach", self.0.attach(request)).await
    }

    async fn port_forward(&self, request: proto::PortForwardRequest) -> CriResult<String> {
        counted("port_forward", self.0.port_forward(request)).await
    }

    async fn events(&self) -> CriResult<EventStream> {
        self.0.events().await
    }

    async fn list_images(&self) -> CriResult<Vec<proto::Image>> {
        counted("list_images", self.0.list_images()).await
    }

    async fn image_status(&self, image: &str) -> CriResult<Option<proto::Image>> {
        counted("image_status", self.0.image_status(image)).await
    }

    async fn pull_image(&self, image: &str, auth: Option<proto::AuthConfig>, sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        counted("pull_image", self.0.pull_image(image, auth, sandbox_config)).await
    }

    async fn remove_image(&self, image: &str) -> CriResult<()> {
        counted("remove_image", self.0.remove_image(image)).await
    }

    async fn image_fs_info(&self) -> CriResult<Vec<proto::FilesystemUsage>> {
        counted("image_fs_info", self.0.image_fs_info()).await
    }
}
