//! What the fake remembers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::images::Images;
use crate::{
    proto::{self, ContainerState, PodSandboxState},
    runtime::{CriError, CriResult, ExecOutput},
};

#[derive(Default)]
pub(super) struct State {
    pub sandboxes: BTreeMap<String, FakeSandbox>,
    pub containers: BTreeMap<String, FakeContainer>,
    pub images: Images,
    /// What its status says beside its conditions.
    pub offers: proto::StatusResponse,
    /// How it makes cgroups, where it tells.
    pub cgroup_driver: Option<proto::CgroupDriver>,
    pub exec: HashMap<String, ExecOutput>,
    /// Bytes by container name.
    pub memory: HashMap<String, u64>,
    pub calls: Vec<String>,
    pub failures: HashMap<String, VecDeque<CriError>>,
    /// Tells the time in nanoseconds since 1970, where somebody does.
    pub now: Option<Box<dyn Fn() -> i64 + Send + Sync>>,
    serial: u64,
    clock: i64,
}

pub(super) struct FakeSandbox {
    pub id: String,
    pub config: proto::PodSandboxConfig,
    pub state: PodSandboxState,
    pub created_at: i64,
    pub ip: String,
}

/// A container as the fake keeps it.
#[derive(Clone, Debug)]
pub struct FakeContainer {
    pub id: String,
    pub sandbox: String,
    pub config: proto::ContainerConfig,
    pub state: ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
}

impl State {
    /// Records a call, and fails it when asked to.
    pub fn note(&mut self, verb: &str, argument: &str) -> CriResult<()> {
        self.calls.push(format!("{verb} {argument}").trim_end().to_owned());
        match self.failures.get_mut(verb).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The time that somebody tells, who may set it back; else the fake's own, of which each step is a second.
    pub fn tick(&mut self) -> i64 {
        if let Some(now) = &self.now {
            return now();
        }
        self.clock += 1_000_000_000;
        self.clock
    }

    fn new_id(&mut self) -> String {
        self.serial += 1;
        format!("{:0>64x}", self.serial)
    }

    pub fn add_sandbox(&mut self, config: proto::PodSandboxConfig) -> String {
        let (id, created_at) = (self.new_id(), self.tick());
        let ip = format!("10.244.0.{}", 1 + self.serial % 250);
        let sandbox = FakeSandbox { id: id.clone(), config, state: PodSandboxState::SandboxReady, created_at, ip };
        self.sandboxes.insert(id.clone(), sandbox);
        id
    }

    pub fn add_container(&mut self, sandbox: &str, config: proto::ContainerConfig) -> String {
        let (id, created_at) = (self.new_id(), self.tick());
        let container = FakeContainer {
            id: id.clone(),
            sandbox: sandbox.to_owned(),
            config,
            state: ContainerState::ContainerCreated,
            created_at,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
        };
        self.containers.insert(id.clone(), container);
        id
    }

    /// Ends a running container; says whether it ran.
    pub fn exit(&mut self, id: &str, exit_code: i32, reason: &str) -> bool {
        let now = self.tick();
        match self.containers.get_mut(id) {
            Some(container) if container.state == ContainerState::ContainerRunning => {
                container.state = ContainerState::ContainerExited;
                container.exit_code = exit_code;
                container.finished_at = now;
                container.reason = reason.to_owned();
                true
            }
            _ => false,
        }
    }
}

impl FakeSandbox {
    pub fn listed(&self) -> proto::PodSandbox {
        proto::PodSandbox {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            ..Default::default()
        }
    }

    pub fn status(&self) -> proto::PodSandboxStatus {
        proto::PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            network: Some(proto::PodSandboxNetworkStatus { ip: self.ip.clone(), additional_ips: Vec::new() }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            ..Default::default()
        }
    }
}

impl FakeContainer {
    /// The container's name in its pod.
    pub fn name(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |metadata| &metadata.name)
    }

    pub(super) fn listed(&self) -> proto::Container {
        proto::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: self.config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            ..Default::default()
        }
    }

    pub(super) fn status(&self) -> proto::ContainerStatus {
        let image_ref = self.config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        proto::ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            image: self.config.image.clone(),
            image_ref,
            reason: self.reason.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.config.log_path.clone(),
            stop_signal: self.config.stop_signal,
            ..Default::default()
        }
    }
}
