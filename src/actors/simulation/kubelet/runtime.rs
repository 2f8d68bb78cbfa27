//! A container runtime that misbehaves by a seed, around the recording fake: slow, failing and lost calls, some of which go on after nobody
//! waits for them any more. It dies and comes back, with the machine or alone. It refuses names that are taken, as containerd does, and has each
//! start and stop judged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use troupe_cri::{
    CriError, ExecOutput, FakeRuntime, Runtime, names,
    proto::{self, ContainerState, PodSandboxState},
    runtime::{CriResult, EventStream},
};

use super::judge::{Judge, Seen};

/// How often what goes wrong, as probabilities.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeFaults {
    /// A call takes a while, and so does its reply.
    pub slow: f64,
    pub longest: Duration,
    /// A call fails, and nothing was done.
    pub refused: f64,
    /// A call is carried out, and its reply gets lost.
    pub lost_reply: f64,
    /// A call is carried out somewhat later, also if whoever made it has died meanwhile. Starts are not: containerd undoes those.
    pub late: f64,
}

impl Default for RuntimeFaults {
    fn default() -> Self {
        RuntimeFaults { slow: 0.15, longest: Duration::from_secs(3), refused: 0.06, lost_reply: 0.06, late: 0.2 }
    }
}

/// See the module. Share it by `Arc`.
pub struct FaultyRuntime {
    inner: Arc<FakeRuntime>,
    rng: Mutex<StdRng>,
    faults: Mutex<Option<RuntimeFaults>>,
    judge: Arc<Judge>,
    /// Counts its deaths and returns: while it is odd nobody answers.
    life: Arc<AtomicU64>,
}

/// Fails where the runtime died since then.
fn lives(life: &AtomicU64, since: u64) -> CriResult<()> {
    if life.load(Relaxed) == since { Ok(()) } else { Err(CriError::Unavailable("it died, says the simulation".into())) }
}

fn label<'a>(labels: &'a HashMap<String, String>, name: &str) -> &'a str {
    labels.get(name).map_or("", String::as_str)
}

fn fault(what: &str) -> CriError {
    CriError::Failed { code: "Unknown", message: format!("{what}, says the simulation") }
}

fn of_pod(uid: &str) -> HashMap<String, String> {
    HashMap::from([(names::POD_UID.to_owned(), uid.to_owned())])
}

impl FaultyRuntime {
    pub fn new(inner: FakeRuntime, judge: Arc<Judge>, seed: u64) -> Self {
        FaultyRuntime { inner: Arc::new(inner), rng: Mutex::new(StdRng::seed_from_u64(seed)), faults: Mutex::default(), judge, life: Arc::default() }
    }

    /// From now on calls go wrong so often, or not at all.
    pub fn misbehave(&self, faults: Option<RuntimeFaults>) {
        *self.faults.lock() = faults;
    }

    /// The runtime dies. What it was asked for and has not done yet is not done, and what runs goes on, unless all of the machine went down.
    pub async fn die(&self, with_machine: bool) {
        if self.life.load(Relaxed) % 2 == 1 {
            return;
        }
        self.life.fetch_add(1, Relaxed);
        if with_machine {
            for sandbox in self.inner.list_pod_sandboxes(proto::PodSandboxFilter::default()).await.unwrap_or_default() {
                self.inner.stop_pod_sandbox(&sandbox.id).await.expect("nobody makes it fail");
            }
        }
    }

    /// It answers again if it did not.
    pub fn come_back(&self) {
        if self.life.load(Relaxed) % 2 == 1 {
            self.life.fetch_add(1, Relaxed);
        }
    }

    /// Since when it lives.
    fn life(&self) -> CriResult<u64> {
        let since = self.life.load(Relaxed);
        if since % 2 == 1 { Err(CriError::Unavailable("nobody is there, says the simulation".into())) } else { Ok(since) }
    }

    /// The runtime itself, which always answers.
    pub fn inner(&self) -> &FakeRuntime {
        &self.inner
    }

    fn comes(&self, probability: f64) -> bool {
        self.rng.lock().random_bool(probability)
    }

    fn some_of(&self, most: Duration) -> Duration {
        most.mul_f64(self.rng.lock().random_range(0.0..1.0))
    }

    async fn pause(&self, faults: &RuntimeFaults) {
        if self.comes(faults.slow) {
            let pause = self.some_of(faults.longest);
            tokio::time::sleep(pause).await;
        }
    }

    /// Carries a call out, or not.
    async fn disturbed<T: Send + 'static>(&self, call: impl Future<Output = CriResult<T>> + Send + 'static) -> CriResult<T> {
        let (since, life) = (self.life()?, self.life.clone());
        let call = async move {
            lives(&life, since)?;
            call.await
        };
        let faults = *self.faults.lock();
        let Some(faults) = faults else { return call.await };
        self.in_time(&faults, since, async {
            if !self.comes(faults.late) {
                return call.await;
            }
            let late = self.some_of(faults.longest / 2);
            let going_on = tokio::spawn(async move {
                tokio::time::sleep(late).await;
                call.await
            });
            going_on.await.unwrap_or_else(|_| Err(fault("the runtime broke")))
        })
        .await
    }

    /// The same for what is carried out while somebody waits for it, or never.
    async fn in_time<T>(&self, faults: &RuntimeFaults, since: u64, call: impl Future<Output = CriResult<T>>) -> CriResult<T> {
        self.pause(faults).await;
        if self.comes(faults.refused) {
            return Err(fault("the runtime is in a bad mood"));
        }
        let done = call.await;
        self.pause(faults).await;
        lives(&self.life, since)?;
        if self.comes(faults.lost_reply) { Err(CriError::DeadlineExceeded("the reply got lost, says the simulation".into())) } else { done }
    }

    /// Something of the world ends by itself: a container, or now and then a whole sandbox.
    pub async fn strike(&self) {
        let containers = self.inner.list_containers(proto::ContainerFilter::default()).await.unwrap_or_default();
        let running: Vec<_> = containers.into_iter().filter(|container| container.state() == ContainerState::ContainerRunning).collect();
        if running.is_empty() {
            return;
        }
        let chosen = self.rng.lock().random_range(0..running.len());
        let chosen = &running[chosen];
        let code = i32::from(self.comes(0.7));
        if self.comes(0.1) {
            self.inner.stop_pod_sandbox(&chosen.pod_sandbox_id).await.expect("nobody makes it fail");
        } else {
            self.inner.exit(&chosen.id, code);
        }
    }

    /// All running containers of these names end.
    pub async fn finish(&self, wanted: &[&str], code: i32) {
        for container in self.inner.list_containers(proto::ContainerFilter::default()).await.unwrap_or_default() {
            let is_wanted = wanted.contains(&label(&container.labels, names::CONTAINER_NAME));
            if is_wanted && container.state() == ContainerState::ContainerRunning {
                self.inner.exit(&container.id, code);
            }
        }
    }

    /// The containers of a pod.
    pub async fn containers(&self, uid: &str) -> Vec<Seen> {
        seen(&self.inner, uid).await
    }

    /// The sandboxes of a pod that are ready.
    pub async fn ready_sandboxes(&self, uid: &str) -> Vec<String> {
        ready(&self.inner, uid).await
    }
}

async fn seen(inner: &FakeRuntime, uid: &str) -> Vec<Seen> {
    let filter = proto::ContainerFilter { label_selector: of_pod(uid), ..Default::default() };
    let mut all = Vec::new();
    for listed in inner.list_containers(filter).await.unwrap_or_default() {
        let exit_code = inner.container_status(&listed.id).await.map_or(0, |status| status.exit_code);
        let state = listed.state();
        let name = label(&listed.labels, names::CONTAINER_NAME).to_owned();
        let attempt = listed.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        all.push(Seen { id: listed.id, name, sandbox: listed.pod_sandbox_id, attempt, state, exit_code });
    }
    all
}

async fn ready(inner: &FakeRuntime, uid: &str) -> Vec<String> {
    let filter = proto::PodSandboxFilter { label_selector: of_pod(uid), ..Default::default() };
    let all = inner.list_pod_sandboxes(filter).await.unwrap_or_default();
    all.into_iter().filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady).map(|sandbox| sandbox.id).collect()
}

/// The uid of a container's pod; `None` when there is no such container.
async fn uid_of(inner: &FakeRuntime, id: &str) -> Option<String> {
    let status = inner.container_status(id).await.ok()?;
    status.labels.get(names::POD_UID).cloned()
}

/// Refuses a second sandbox of the same name and attempt.
async fn run_sandbox(inner: &FakeRuntime, config: proto::PodSandboxConfig, handler: &str) -> CriResult<String> {
    let all = inner.list_pod_sandboxes(proto::PodSandboxFilter::default()).await?;
    if let Some(taken) = all.iter().find(|sandbox| sandbox.metadata == config.metadata) {
        return Err(fault(&format!("failed to reserve sandbox name: it is reserved for {:?}", taken.id)));
    }
    inner.run_pod_sandbox(config, handler).await
}

/// Refuses a second container of the same name and attempt in one pod, and one in a sandbox that is not ready.
async fn create(inner: &FakeRuntime, sandbox: &str, config: proto::ContainerConfig, of: proto::PodSandboxConfig) -> CriResult<String> {
    let uid = label(&config.labels, names::POD_UID).to_owned();
    let metadata = config.metadata.clone().unwrap_or_default();
    let same = |seen: &Seen| seen.name == metadata.name && seen.attempt == metadata.attempt;
    if let Some(taken) = seen(inner, &uid).await.into_iter().find(same) {
        return Err(fault(&format!("failed to reserve container name: it is reserved for {:?}", taken.id)));
    }
    if !ready(inner, &uid).await.iter().any(|ready| ready == sandbox) {
        return Err(fault("the sandbox of the container is not ready"));
    }
    inner.create_container(sandbox, config, of).await
}

/// Starts a container and has that judged.
async fn start(inner: &FakeRuntime, judge: &Judge, id: &str) -> CriResult<()> {
    let uid = uid_of(inner, id).await.unwrap_or_default();
    let (all, ready) = (seen(inner, &uid).await, ready(inner, &uid).await);
    if all.iter().any(|seen| seen.id == id && !ready.contains(&seen.sandbox)) {
        return Err(fault("the sandbox of the container is not ready"));
    }
    inner.start_container(id).await?;
    judge.starts(&uid, id, &all);
    Ok(())
}

/// Stops a container and has that judged.
async fn stop(inner: &FakeRuntime, judge: &Judge, id: &str, timeout: Duration) -> CriResult<()> {
    let uid = uid_of(inner, id).await.unwrap_or_default();
    judge.stops(&uid, id, &seen(inner, &uid).await, &ready(inner, &uid).await, timeout);
    inner.stop_container(id, timeout).await
}

#[async_trait]
impl Runtime for FaultyRuntime {
    async fn version(&self) -> CriResult<proto::VersionResponse> {
        self.inner.version().await
    }

    async fn status(&self) -> CriResult<proto::StatusResponse> {
        self.inner.status().await
    }

    async fn run_pod_sandbox(&self, config: proto::PodSandboxConfig, handler: &str) -> CriResult<String> {
        let (inner, handler) = (self.inner.clone(), handler.to_owned());
        self.disturbed(async move { run_sandbox(&inner, config, &handler).await }).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> CriResult<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.stop_pod_sandbox(&id).await }).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> CriResult<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.remove_pod_sandbox(&id).await }).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> CriResult<proto::PodSandboxStatus> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.pod_sandbox_status(&id).await }).await
    }

    async fn list_pod_sandboxes(&self, filter: proto::PodSandboxFilter) -> CriResult<Vec<proto::PodSandbox>> {
        let inner = self.inner.clone();
        self.disturbed(async move { inner.list_pod_sandboxes(filter).await }).await
    }

    async fn create_container(&self, sandbox: &str, config: proto::ContainerConfig, sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        let (inner, sandbox) = (self.inner.clone(), sandbox.to_owned());
        self.disturbed(async move { create(&inner, &sandbox, config, sandbox_config).await }).await
    }

    async fn start_container(&self, id: &str) -> CriResult<()> {
        let since = self.life()?;
        let call = async {
            lives(&self.life, since)?;
            start(&self.inner, &self.judge, id).await
        };
        let faults = *self.faults.lock();
        match faults {
            Some(faults) => self.in_time(&faults, since, call).await,
            None => call.await,
        }
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> CriResult<()> {
        let (inner, judge, id) = (self.inner.clone(), self.judge.clone(), id.to_owned());
        // Some hear the signal late, some never.
        let takes = self.some_of(timeout);
        let call = async move {
            tokio::time::sleep(takes).await;
            stop(&inner, &judge, &id, timeout).await
        };
        self.disturbed(call).await
    }

    async fn remove_container(&self, id: &str) -> CriResult<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.remove_container(&id).await }).await
    }

    async fn list_containers(&self, filter: proto::ContainerFilter) -> CriResult<Vec<proto::Container>> {
        let inner = self.inner.clone();
        self.disturbed(async move { inner.list_containers(filter).await }).await
    }

    async fn container_status(&self, id: &str) -> CriResult<proto::ContainerStatus> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.container_status(&id).await }).await
    }

    async fn update_container_resources(&self, id: &str, resources: proto::LinuxContainerResources) -> CriResult<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.update_container_resources(&id, resources).await }).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        id: &str,
        overhead: proto::LinuxContainerResources,
        resources: proto::LinuxContainerResources,
    ) -> CriResult<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        self.disturbed(async move { inner.update_pod_sandbox_resources(&id, overhead, resources).await }).await
    }

    async fn reopen_container_log(&self, id: &str) -> CriResult<()> {
        self.inner.reopen_container_log(id).await
    }

    async fn list_container_stats(&self, filter: proto::ContainerStatsFilter) -> CriResult<Vec<proto::ContainerStats>> {
        self.inner.list_container_stats(filter).await
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> CriResult<ExecOutput> {
        let (inner, id, command) = (self.inner.clone(), id.to_owned(), command.to_vec());
        self.disturbed(async move { inner.exec_sync(&id, &command, timeout).await }).await
    }

    async fn exec(&self, request: proto::ExecRequest) -> CriResult<String> {
        self.inner.exec(request).await
    }

    async fn attach(&self, request: proto::AttachRequest) -> CriResult<String> {
        self.inner.attach(request).await
    }

    async fn port_forward(&self, request: proto::PortForwardRequest) -> CriResult<String> {
        self.inner.port_forward(request).await
    }

    async fn events(&self) -> CriResult<EventStream> {
        self.inner.events().await
    }

    async fn list_images(&self) -> CriResult<Vec<proto::Image>> {
        self.inner.list_images().await
    }

    async fn image_status(&self, image: &str) -> CriResult<Option<proto::Image>> {
        let (inner, image) = (self.inner.clone(), image.to_owned());
        self.disturbed(async move { inner.image_status(&image).await }).await
    }

    async fn pull_image(&self, image: &str, auth: Option<proto::AuthConfig>, sandbox_config: proto::PodSandboxConfig) -> CriResult<String> {
        let (inner, image) = (self.inner.clone(), image.to_owned());
        self.disturbed(async move { inner.pull_image(&image, auth, sandbox_config).await }).await
    }

    async fn remove_image(&self, image: &str) -> CriResult<()> {
        self.inner.remove_image(image).await
    }

    async fn image_fs_info(&self) -> CriResult<Vec<proto::FilesystemUsage>> {
        self.inner.image_fs_info().await
    }
}
