//! The runtime behind a unix socket, spoken to with gRPC.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

use crate::{
    proto::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient},
    runtime::{CriError, CriResult, EventStream, ExecOutput, Runtime},
};

/// How long an ordinary call may take; upstream's `--runtime-request-timeout`.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Sandboxes wait for the network, upstream gives them twice as long.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);
/// Pulls end by progress, not by a clock; this only bounds a runtime that hangs.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Slack over the time a stop or an exec asked for itself.
const SLACK: Duration = Duration::from_secs(10);
/// Long lists (images, stats) exceed tonic's 4 MiB.
const MESSAGE_LIMIT: usize = 64 << 20;

/// A time as the runtime takes it. More than it can count in nanoseconds would wrap around there and mean "at once".
fn whole_seconds(time: Duration) -> i64 {
    const MOST: u64 = i32::MAX as u64;
    time.as_secs().min(MOST).cast_signed()
}

/// A client of one runtime. It connects on first use and reconnects by itself; cheap to clone.
#[derive(Clone)]
pub struct GrpcRuntime {
    socket: PathBuf,
    /// For calls whose messages are newer than those of the clients.
    channel: Traced,
    runtime: RuntimeServiceClient<Traced>,
    images: ImageServiceClient<Traced>,
}

/// A connection on which the runtime is told of which trace each call is a part.
type Traced = InterceptedService<Channel, TraceParent>;

/// Gives the W3C header `traceparent` of what is being done, if there is one.
#[derive(Clone, Copy)]
struct TraceParent(fn() -> Option<String>);

impl Interceptor for TraceParent {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = (self.0)().and_then(|text| text.parse().ok()) {
            request.metadata_mut().insert("traceparent", value);
        }
        Ok(request)
    }
}

impl GrpcRuntime {
    /// A client of the runtime at `socket`, a path with or without `unix://`. Must be called within a tokio runtime.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        GrpcRuntime::tracing(socket, || None)
    }

    /// The same that tells the runtime with each call of which span that is a part, as `traceparent` says where the call is made (a W3C header).
    pub fn tracing(socket: impl AsRef<Path>, traceparent: fn() -> Option<String>) -> Self {
        let path = socket.as_ref();
        let socket = path.to_str().and_then(|text| text.strip_prefix("unix://")).map_or_else(|| path.to_owned(), PathBuf::from);
        let target = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(target).await?)) }
        });
        let endpoint = Endpoint::from_static("http://localhost").http2_adaptive_window(true);
        let channel = InterceptedService::new(endpoint.connect_with_connector_lazy(connector), TraceParent(traceparent));
        GrpcRuntime {
            socket,
            channel: channel.clone(),
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT),
        }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes a call of the runtime service that its client does not have, or not with these messages.
    async fn ask<Q, A>(&self, method: &'static str, request: Q) -> CriResult<A>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        let reply = async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            client.unary(Request::new(request), PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
        };
        call(CALL_TIMEOUT, reply).await
    }

    async fn containers(&self, filter: proto::ContainerFilter) -> CriResult<Vec<proto::Container>> {
        let request = proto::ListContainersRequest { filter: Some(filter) };
        Ok(call(CALL_TIMEOUT, self.runtime.clone().list_containers(request)).await?.containers)
    }

    /// The same sandbox by sandbox: a runtime answers with no more than so many bytes (containerd with 16 MiB), and pods decide how
    /// much is said of their containers.
    async fn containers_of_each_sandbox(&self, filter: &proto::ContainerFilter) -> CriResult<Vec<proto::Container>> {
        let mut all = Vec::new();
        for sandbox in self.list_pod_sandboxes(proto::PodSandboxFilter::default()).await? {
            if filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == sandbox.id {
                all.extend(self.containers(proto::ContainerFilter { pod_sandbox_id: sandbox.id, ..filter.clone() }).await?);
            }
        }
        Ok(all)
    }
}

fn failure(status: Status) -> CriError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => CriError::NotFound(message),
        Code::Unavailable => CriError::Unavailable(message),
        Code::Unimplemented => CriError::Unimplemented(message),
        Code::DeadlineExceeded => CriError::DeadlineExceeded(message),
        code => CriError::Failed { code: code_name(code), message },
    }
}

/// The names that Go's gRPC prints, which users know from events.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::InvalidArgument => "InvalidArgument",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Internal => "Internal",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
        _ => "Unknown",
    }
}

fn absent_is_done(result: CriResult<()>) -> CriResult<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Makes one call with a deadline and unwraps the reply.
async fn call<T>(limit: Duration, reply: impl Future<Output = Result<tonic::Response<T>, Status>>) -> CriResult<T> {
    match tokio::time::timeout(limit, reply).await {
        Ok(reply) => reply.map(tonic::Response::into_inner).map_err(failure),
        Err(_) => Err(CriError::DeadlineExceeded(format!("no answer of the container runtime within {} s", limit.as_secs()))),
    }
}

fn missing(what: &str) -> CriError {
    CriError::Failed { code: "Internal", message: format!("the container runtime answered without {what}") }
}

fn present<T>(part: Option<T>, what: &str) -> CriResult<T> {
    part.ok_or_else(|| missing(what))
}

fn image_spec(image: &str) -> Option<proto::ImageSpec> {
    Some(proto::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() })
}

#[async_trait]
impl Runtime for GrpcRuntime {
    async fn version(&self) -> CriResult<proto::VersionResponse> {
        call(CALL_TIMEOUT, self.runtime.clone().version(proto::VersionRequest { version: "0.1.0".into() })).await
    }

    async fn status(&self) -> CriResult<proto::StatusResponse> {
        let reply = call(CALL_TIMEOUT, self.runtime.clone().status(proto::StatusRequest { verbose: false })).await?;
        if reply.status.is_some() { Ok(reply) } else { Err(missing("its status")) }
    }

    async fn runtime_config(&self) -> CriResult<proto::RuntimeConfigResponse> {
        call(CALL_TIMEOUT, self.runtime.clone().runtime_config(proto::RuntimeConfigRequest {})).await
    }

    async fn run_pod_sandbox(&self, config: proto::PodSandboxConfig, handler: &str) -> CriResult<String> {
        let request = proto::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        Ok(call(SANDBOX_TIMEOUT, self.runtime.clone().run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> CriResult<()> {
        let request = proto::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_done(call(SANDBOX_TIMEOUT, self.runtime.clone().stop_pod_sandbox(request)).await.map(drop))
    }

    async fn remove_pod_sandbox(&self, id: &str) -> CriResult<()> {
        let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_done(call(CALL_TIMEOUT, self.runtime.clone().remove_pod_sandbox(request)).await.map(drop))
    }

    async fn pod_sandbox_status(&self, id: &str) -> CriResult<proto::PodSandboxStatus> {
        let request = proto::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        present(call(CALL_TIMEOUT, self.runtime.clone().pod_sandbox_status(request)).await?.status, "the sandbox")
    }

    async fn list_pod_sandboxes(&self, filter: proto::PodSandboxFilter) -> CriResult<Vec<proto::PodSandbox>> {
        let request = proto::ListPodSandboxRequest { filter: Some(filter) };
        Ok(call(CALL_TIMEOUT, self.runtime.clone().list_pod_sandbox(request)).await?.items)
    }

    async fn create_container(&self, sandbox: &str, config: proto::ContainerConfig, sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        let request =
            proto::CreateContainerRequest { pod_sandbox_id: sandbox.to_owned(), config: Some(config), sandbox_config: Some(sandbox_config) };
        let made: proto::CreateContainerResponse = self.ask("/runtime.v1.RuntimeService/CreateContainer", request).await?;
        Ok(made.container_id)
    }

    async fn start_container(&self, id: &str) -> CriResult<()> {
        let request = proto::StartContainerRequest { container_id: id.to_owned() };
        call(CALL_TIMEOUT, self.runtime.clone().start_container(request)).await.map(drop)
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> CriResult<()> {
        let request = proto::StopContainerRequest { container_id: id.to_owned(), timeout: whole_seconds(timeout) };
        absent_is_done(call(timeout.saturating_add(CALL_TIMEOUT), self.runtime.clone().stop_container(request)).await.map(drop))
    }

    async fn remove_container(&self, id: &str) -> CriResult<()> {
        let request = proto::RemoveContainerRequest { container_id: id.to_owned() };
        absent_is_done(call(CALL_TIMEOUT, self.runtime.clone().remove_container(request)).await.map(drop))
    }

    async fn list_containers(&self, filter: proto::ContainerFilter) -> CriResult<Vec<proto::Container>> {
        match self.containers(filter.clone()).await {
            Err(error) if error.is_too_large() => self.containers_of_each_sandbox(&filter).await,
            listed => listed,
        }
    }

    async fn container_status(&self, id: &str) -> CriResult<proto::ContainerStatus> {
        let request = proto::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let told: proto::ContainerStatusResponse = self.ask("/runtime.v1.RuntimeService/ContainerStatus", request).await?;
        present(told.status, "the container")
    }

    async fn update_container_resources(&self, id: &str, resources: proto::LinuxContainerResources) -> CriResult<()> {
        let request = proto::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(resources), ..Default::default() };
        call(CALL_TIMEOUT, self.runtime.clone().update_container_resources(request)).await.map(drop)
    }

    async fn update_pod_sandbox_resources(
        &self,
        id: &str,
        overhead: proto::LinuxContainerResources,
        resources: proto::LinuxContainerResources,
    ) -> CriResult<()> {
        let (overhead, resources) = (Some(overhead), Some(resources));
        let request = proto::UpdatePodSandboxResourcesRequest { pod_sandbox_id: id.to_owned(), overhead, resources };
        let told: CriResult<proto::UpdatePodSandboxResourcesResponse> =
            self.ask("/runtime.v1.RuntimeService/UpdatePodSandboxResources", request).await;
        told.map(drop)
    }

    async fn reopen_container_log(&self, id: &str) -> CriResult<()> {
        let request = proto::ReopenContainerLogRequest { container_id: id.to_owned() };
        call(CALL_TIMEOUT, self.runtime.clone().reopen_container_log(request)).await.map(drop)
    }

    async fn checkpoint_container(&self, id: &str, location: &Path, timeout: Duration) -> CriResult<()> {
        let (container_id, location) = (id.to_owned(), location.display().to_string());
        let request = proto::CheckpointContainerRequest { container_id, location, timeout: whole_seconds(timeout) };
        let patience = if timeout.is_zero() { CALL_TIMEOUT } else { timeout.saturating_add(SLACK) };
        call(patience, self.runtime.clone().checkpoint_container(request)).await.map(drop)
    }

    async fn list_container_stats(&self, filter: proto::ContainerStatsFilter) -> CriResult<Vec<proto::ContainerStats>> {
        let request = proto::ListContainerStatsRequest { filter: Some(filter) };
        Ok(call(CALL_TIMEOUT, self.runtime.clone().list_container_stats(request)).await?.stats)
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> CriResult<ExecOutput> {
        // The runtime counts whole seconds and 0 means "for ever".
        let seconds = whole_seconds(timeout).max(1);
        let request = proto::ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout: seconds };
        let reply = call(timeout.saturating_add(SLACK), self.runtime.clone().exec_sync(request)).await?;
        Ok(ExecOutput { stdout: reply.stdout, stderr: reply.stderr, exit_code: reply.exit_code })
    }

    async fn exec(&self, request: proto::ExecRequest) -> CriResult<String> {
        Ok(call(CALL_TIMEOUT, self.runtime.clone().exec(request)).await?.url)
    }

    async fn attach(&self, request: proto::AttachRequest) -> CriResult<String> {
        Ok(call(CALL_TIMEOUT, self.runtime.clone().attach(request)).await?.url)
    }

    async fn port_forward(&self, request: proto::PortForwardRequest) -> CriResult<String> {
        Ok(call(CALL_TIMEOUT, self.runtime.clone().port_forward(request)).await?.url)
    }

    async fn events(&self) -> CriResult<EventStream> {
        let reply = self.runtime.clone().get_container_events(Request::new(proto::GetEventsRequest {})).await.map_err(failure)?;
        Ok(reply.into_inner().map(|event| event.map_err(failure)).boxed())
    }

    async fn list_images(&self) -> CriResult<Vec<proto::Image>> {
        Ok(call(CALL_TIMEOUT, self.images.clone().list_images(proto::ListImagesRequest { filter: None })).await?.images)
    }

    async fn image_status(&self, image: &str) -> CriResult<Option<proto::Image>> {
        let request = proto::ImageStatusRequest { image: image_spec(image), verbose: false };
        match call(CALL_TIMEOUT, self.images.clone().image_status(request)).await {
            Ok(reply) => Ok(reply.image),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull_image(&self, image: &str, auth: Option<proto::AuthConfig>, sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        let request = proto::PullImageRequest { image: image_spec(image), auth, sandbox_config: Some(sandbox_config) };
        Ok(call(PULL_TIMEOUT, self.images.clone().pull_image(request)).await?.image_ref)
    }

    async fn remove_image(&self, image: &str) -> CriResult<()> {
        let request = proto::RemoveImageRequest { image: image_spec(image) };
        absent_is_done(call(CALL_TIMEOUT, self.images.clone().remove_image(request)).await.map(drop))
    }

    async fn image_fs_info(&self) -> CriResult<Vec<proto::FilesystemUsage>> {
        Ok(call(CALL_TIMEOUT, self.images.clone().image_fs_info(proto::ImageFsInfoRequest {})).await?.image_filesystems)
    }
}
