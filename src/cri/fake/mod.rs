//! A runtime without processes: it keeps the states of sandboxes, containers and images as a real one does, records
//! every call and fails on demand.

mod images;
mod state;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::broadcast;

pub use state::FakeContainer;
use state::State;

use crate::{
    proto::{self, ContainerEventType, ContainerState, PodSandboxState},
    runtime::{CriError, CriResult, EventStream, ExecOutput, Runtime},
};

/// The recording fake. Share it by `Arc`.
pub struct FakeRuntime {
    state: Mutex<State>,
    events: broadcast::Sender<proto::ContainerEventResponse>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        FakeRuntime { state: Mutex::default(), events: broadcast::channel(256).0 }
    }
}

impl FakeRuntime {
    /// A runtime that has these images.
    pub fn with_images(images: &[&str]) -> Self {
        let fake = FakeRuntime::default();
        images.iter().for_each(|image| fake.state.lock().images.add(image));
        fake
    }

    /// From now on its time is what this tells, in nanoseconds since 1970.
    pub fn follow(&self, now: impl Fn() -> i64 + Send + Sync + 'static) {
        self.state.lock().now = Some(Box::new(now));
    }

    /// The calls so far, as `verb argument`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// The next call of `verb` fails.
    pub fn fail_next(&self, verb: &str, error: CriError) {
        self.state.lock().failures.entry(verb.to_owned()).or_default().push_back(error);
    }

    /// Makes an image pullable.
    pub fn offer_image(&self, image: &str) {
        self.state.lock().images.offer(image, None);
    }

    /// Makes an image pullable for who shows a password.
    pub fn offer_private_image(&self, image: &str, password: &str) {
        self.state.lock().images.offer(image, Some(password));
    }

    /// The runtime says that it can do this.
    pub fn offer_features(&self, features: proto::RuntimeFeatures) {
        self.state.lock().offers.features = Some(features);
    }

    /// The runtime says that a handler can do this.
    pub fn offer_handler(&self, name: &str, features: proto::RuntimeHandlerFeatures) {
        let handler = proto::RuntimeHandler { name: name.to_owned(), features: Some(features) };
        self.state.lock().offers.runtime_handlers.push(handler);
    }

    /// The runtime tells that it makes cgroups so.
    pub fn offer_cgroup_driver(&self, driver: proto::CgroupDriver) {
        self.state.lock().cgroup_driver = Some(driver);
    }

    /// What commands of `exec_sync` in a container of this name give.
    pub fn answer_exec(&self, container: &str, output: ExecOutput) {
        self.state.lock().exec.insert(container.to_owned(), output);
    }

    /// What containers of this name take of memory, in bytes.
    pub fn use_memory(&self, container: &str, bytes: u64) {
        self.state.lock().memory.insert(container.to_owned(), bytes);
    }

    /// A running container ends by itself.
    pub fn exit(&self, container: &str, exit_code: i32) {
        let ended = self.state.lock().exit(container, exit_code, if exit_code == 0 { "Completed" } else { "Error" });
        if ended {
            self.announce(container, ContainerEventType::ContainerStoppedEvent);
        }
    }

    /// The newest container of a name in any sandbox, with its config.
    pub fn container_named(&self, name: &str) -> Option<FakeContainer> {
        let state = self.state.lock();
        let named = state.containers.values().filter(|container| container.name() == name);
        named.max_by_key(|container| container.created_at).cloned()
    }

    fn announce(&self, id: &str, kind: ContainerEventType) {
        let event = proto::ContainerEventResponse { container_id: id.to_owned(), container_event_type: kind.into(), ..Default::default() };
        // Nobody listens in most tests.
        let _ = self.events.send(event);
    }

    fn note(&self, verb: &str, argument: &str) -> CriResult<()> {
        self.state.lock().note(verb, argument)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> CriResult<proto::VersionResponse> {
        self.note("version", "")?;
        let text = |text: &str| text.to_owned();
        Ok(proto::VersionResponse {
            version: text("0.1.0"),
            runtime_name: text("fake"),
            runtime_version: text("v1.0.0"),
            runtime_api_version: text("v1"),
        })
    }

    async fn status(&self) -> CriResult<proto::StatusResponse> {
        self.note("status", "")?;
        let conditions =
            ["RuntimeReady", "NetworkReady"].map(|kind| proto::RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() });
        let status = proto::RuntimeStatus { conditions: conditions.to_vec() };
        Ok(proto::StatusResponse { status: Some(status), ..self.state.lock().offers.clone() })
    }

    async fn runtime_config(&self) -> CriResult<proto::RuntimeConfigResponse> {
        let driver = self.state.lock().cgroup_driver;
        let driver = driver.ok_or_else(|| CriError::Unimplemented("unknown method RuntimeConfig".to_owned()))?;
        let linux = proto::LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
        Ok(proto::RuntimeConfigResponse { linux: Some(linux) })
    }

    async fn run_pod_sandbox(&self, config: proto::PodSandboxConfig, handler: &str) -> CriResult<String> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let mut state = self.state.lock();
        state.note("run_pod_sandbox", &format!("{name} {handler}"))?;
        Ok(state.add_sandbox(config))
    }

    async fn stop_pod_sandbox(&self, id: &str) -> CriResult<()> {
        let mut state = self.state.lock();
        state.note("stop_pod_sandbox", id)?;
        let running: Vec<_> = state.containers.values().filter(|c| c.sandbox == id).map(|c| c.id.clone()).collect();
        for container in &running {
            state.exit(container, 137, "Error");
        }
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.state = PodSandboxState::SandboxNotready;
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> CriResult<()> {
        let mut state = self.state.lock();
        state.note("remove_pod_sandbox", id)?;
        state.containers.retain(|_, container| container.sandbox != id);
        state.sandboxes.remove(id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> CriResult<proto::PodSandboxStatus> {
        let mut state = self.state.lock();
        state.note("pod_sandbox_status", id)?;
        state.sandboxes.get(id).map(state::FakeSandbox::status).ok_or_else(|| CriError::NotFound(format!("sandbox \"{id}\" not found")))
    }

    async fn list_pod_sandboxes(&self, filter: proto::PodSandboxFilter) -> CriResult<Vec<proto::PodSandbox>> {
        let mut state = self.state.lock();
        state.note("list_pod_sandboxes", "")?;
        let labelled = |sandbox: &&state::FakeSandbox| filter.label_selector.iter().all(|(key, value)| sandbox.config.labels.get(key) == Some(value));
        Ok(state.sandboxes.values().filter(labelled).map(state::FakeSandbox::listed).collect())
    }

    async fn create_container(&self, sandbox: &str, config: proto::ContainerConfig, _sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let mut state = self.state.lock();
        state.note("create_container", &name)?;
        if !state.sandboxes.contains_key(sandbox) {
            return Err(CriError::NotFound(format!("sandbox \"{sandbox}\" not found")));
        }
        let id = state.add_container(sandbox, config);
        drop(state);
        self.announce(&id, ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> CriResult<()> {
        let mut state = self.state.lock();
        state.note("start_container", id)?;
        let now = state.tick();
        let container = state.containers.get_mut(id).ok_or_else(|| CriError::NotFound(format!("container \"{id}\" not found")))?;
        if container.state != ContainerState::ContainerCreated {
            return Err(CriError::Failed { code: "FailedPrecondition", message: format!("container \"{id}\" was started before") });
        }
        container.state = ContainerState::ContainerRunning;
        container.started_at = now;
        drop(state);
        self.announce(id, ContainerEventType::ContainerStartedEvent);
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> CriResult<()> {
        let ended = {
            let mut state = self.state.lock();
            state.note("stop_container", &format!("{id} {}", timeout.as_secs()))?;
            state.exit(id, if timeout.is_zero() { 137 } else { 143 }, "Error")
        };
        if ended {
            self.announce(id, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> CriResult<()> {
        let mut state = self.state.lock();
        state.note("remove_container", id)?;
        state.containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self, filter: proto::ContainerFilter) -> CriResult<Vec<proto::Container>> {
        let mut state = self.state.lock();
        state.note("list_containers", "")?;
        let wanted = |container: &&FakeContainer| {
            (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == container.sandbox)
                && filter.label_selector.iter().all(|(key, value)| container.config.labels.get(key) == Some(value))
        };
        Ok(state.containers.values().filter(wanted).map(FakeContainer::listed).collect())
    }

    async fn container_status(&self, id: &str) -> CriResult<proto::ContainerStatus> {
        let mut state = self.state.lock();
        state.note("container_status", id)?;
        state.containers.get(id).map(FakeContainer::status).ok_or_else(|| CriError::NotFound(format!("container \"{id}\" not found")))
    }

    async fn update_container_resources(&self, id: &str, resources: proto::LinuxContainerResources) -> CriResult<()> {
        let mut state = self.state.lock();
        let name = state.containers.get(id).map(|container| container.name().to_owned()).unwrap_or_default();
        let (cpu, memory) = (resources.cpu_quota, resources.memory_limit_in_bytes);
        let cpus = &resources.cpuset_cpus;
        let text = if cpus.is_empty() { format!("{name} {cpu} {memory}") } else { format!("{name} {cpu} {memory} {cpus}") };
        state.note("update_container_resources", &text)?;
        let container = state.containers.get_mut(id).ok_or_else(|| CriError::NotFound(format!("container \"{id}\" not found")))?;
        let known = container.config.linux.get_or_insert_default().resources.get_or_insert_default();
        let cpus = if cpus.is_empty() { known.cpuset_cpus.clone() } else { cpus.clone() };
        // Nothing but CPUs is said: the rest stays, as runtimes do it.
        let rest = if cpu == 0 && memory == 0 && resources.cpu_shares == 0 { known.clone() } else { resources };
        *known = proto::LinuxContainerResources { cpuset_cpus: cpus, ..rest };
        Ok(())
    }

    async fn update_pod_sandbox_resources(
        &self,
        id: &str,
        overhead: proto::LinuxContainerResources,
        resources: proto::LinuxContainerResources,
    ) -> CriResult<()> {
        let mut state = self.state.lock();
        let name = state.sandboxes.get(id).and_then(|sandbox| sandbox.config.metadata.as_ref()).map(|metadata| metadata.name.clone());
        let shown = |part: &proto::LinuxContainerResources| format!("{} {}", part.cpu_quota, part.memory_limit_in_bytes);
        let text = format!("{} {} + {}", name.unwrap_or_default(), shown(&resources), shown(&overhead));
        state.note("update_pod_sandbox_resources", &text)
    }

    async fn reopen_container_log(&self, id: &str) -> CriResult<()> {
        self.note("reopen_container_log", id)
    }

    async fn checkpoint_container(&self, id: &str, _location: &Path, _timeout: Duration) -> CriResult<()> {
        self.note("checkpoint_container", id)
    }

    async fn list_container_stats(&self, filter: proto::ContainerStatsFilter) -> CriResult<Vec<proto::ContainerStats>> {
        let mut state = self.state.lock();
        state.note("list_container_stats", "")?;
        let used = |container: &FakeContainer| state.memory.get(container.name()).copied();
        let known = state.containers.values().filter(|container| filter.id.is_empty() || container.id == filter.id);
        let stats = known.filter_map(|container| {
            let usage_bytes = Some(proto::UInt64Value { value: used(container)? });
            let attributes = proto::ContainerAttributes { id: container.id.clone(), ..Default::default() };
            let memory = Some(proto::MemoryUsage { usage_bytes, ..Default::default() });
            Some(proto::ContainerStats { attributes: Some(attributes), memory, ..Default::default() })
        });
        Ok(stats.collect())
    }

    async fn exec_sync(&self, id: &str, command: &[String], _timeout: Duration) -> CriResult<ExecOutput> {
        let mut state = self.state.lock();
        state.note("exec_sync", &command.join(" "))?;
        let container = state.containers.get(id).ok_or_else(|| CriError::NotFound(format!("container \"{id}\" not found")))?;
        Ok(state.exec.get(container.name()).cloned().unwrap_or_default())
    }

    async fn exec(&self, request: proto::ExecRequest) -> CriResult<String> {
        self.note("exec", &request.container_id)?;
        Ok("http://127.0.0.1:0/exec/fake".into())
    }

    async fn attach(&self, request: proto::AttachRequest) -> CriResult<String> {
        self.note("attach", &request.container_id)?;
        Ok("http://127.0.0.1:0/attach/fake".into())
    }

    async fn port_forward(&self, request: proto::PortForwardRequest) -> CriResult<String> {
        self.note("port_forward", &request.pod_sandbox_id)?;
        Ok("http://127.0.0.1:0/portforward/fake".into())
    }

    async fn events(&self) -> CriResult<EventStream> {
        self.note("events", "")?;
        let stream = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        Ok(stream.filter_map(|event| async move { event.ok().map(Ok) }).boxed())
    }

    async fn list_images(&self) -> CriResult<Vec<proto::Image>> {
        let mut state = self.state.lock();
        state.note("list_images", "")?;
        Ok(state.images.present())
    }

    async fn image_status(&self, image: &str) -> CriResult<Option<proto::Image>> {
        let mut state = self.state.lock();
        state.note("image_status", image)?;
        Ok(state.images.find(image))
    }

    async fn pull_image(&self, image: &str, auth: Option<proto::AuthConfig>, _sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        let mut state = self.state.lock();
        state.note("pull_image", image)?;
        state.images.pull(image, auth.as_ref())
    }

    async fn remove_image(&self, image: &str) -> CriResult<()> {
        let mut state = self.state.lock();
        state.note("remove_image", image)?;
        state.images.remove(image);
        Ok(())
    }

    async fn image_fs_info(&self) -> CriResult<Vec<proto::FilesystemUsage>> {
        self.note("image_fs_info", "")?;
        Ok(Vec::new())
    }
}
