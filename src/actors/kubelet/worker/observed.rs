//! What the runtime reports about one pod, in the terms that planning and status need.

use jiff::Timestamp;
use troupe_cri::{names, proto, stop_signal};

/// All that exists of a pod at the runtime. Sandboxes and containers are sorted newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub sandboxes: Vec<SandboxView>,
    pub containers: Vec<ContainerView>,
}

/// A sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxView {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub ips: Vec<String>,
}

/// The states of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// Made, never started.
    Created,
    Running,
    Exited,
    /// The runtime does not know.
    #[default]
    Unknown,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerView {
    pub id: String,
    pub name: String,
    pub sandbox: String,
    /// How often the container was started before.
    pub attempt: u32,
    pub state: RunState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_ref: String,
    pub hash: String,
    /// `File` or `FallbackToLogsOnError`.
    pub termination_policy: String,
    /// Seconds that the container may take to stop, from the time it was made.
    pub grace_seconds: Option<i64>,
    /// The preStop hook from the time it was made, as JSON.
    pub pre_stop: Option<String>,
    /// What the runtime says that it has of CPU and memory.
    pub resources: Option<proto::LinuxContainerResources>,
    /// As whom its first process runs, where the runtime tells.
    pub user: Option<proto::ContainerUser>,
    /// The signal that ends it, where the runtime tells.
    pub stop_signal: Option<&'static str>,
    /// It was changed since this was read.
    pub outdated: bool,
}

impl Observed {
    /// The newest container of a name.
    pub fn newest(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of a name within one sandbox.
    pub fn newest_in(&self, name: &str, sandbox: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name && container.sandbox == sandbox)
    }

    /// The one before the newest container of a name.
    pub fn previous(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.first()
    }

    /// The newest sandbox if it is ready.
    pub fn ready_sandbox(&self) -> Option<&SandboxView> {
        self.sandbox().filter(|sandbox| sandbox.ready)
    }

    pub fn running(&self) -> impl Iterator<Item = &ContainerView> {
        self.containers.iter().filter(|container| container.state == RunState::Running)
    }

    /// Nothing at all is left at the runtime.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    /// Newest first: by attempts, which only grow, and equal ones by time. The clock may have been set back between two of them.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        self.containers.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
    }
}

impl SandboxView {
    /// From a status.
    pub fn of(status: &proto::PodSandboxStatus) -> Self {
        let network = status.network.clone().unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|extra| extra.ip);
        SandboxView {
            id: status.id.clone(),
            attempt: status.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            ready: status.state() == proto::PodSandboxState::SandboxReady,
            created_at: status.created_at,
            ips: std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect(),
        }
    }
}

impl ContainerView {
    /// From a container's status; `sandbox` comes from the listing, which alone has it.
    pub fn of(status: &proto::ContainerStatus, sandbox: &str) -> Self {
        let annotation = |name: &str| status.annotations.get(name).filter(|text| !text.is_empty()).cloned();
        let image = status.image.clone().unwrap_or_default();
        let attempt = annotation(names::RESTART_COUNT).and_then(|text| text.parse().ok());
        ContainerView {
            id: status.id.clone(),
            name: status.labels.get(names::CONTAINER_NAME).cloned().unwrap_or_default(),
            sandbox: sandbox.to_owned(),
            attempt: attempt.unwrap_or_else(|| status.metadata.as_ref().map_or(0, |metadata| metadata.attempt)),
            state: run_state(status.state()),
            created_at: status.created_at,
            started_at: status.started_at,
            finished_at: status.finished_at,
            exit_code: status.exit_code,
            reason: status.reason.clone(),
            message: shortened(&status.message),
            image: if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image },
            image_ref: status.image_ref.clone(),
            hash: annotation(names::CONTAINER_HASH).unwrap_or_default(),
            termination_policy: annotation(names::TERMINATION_POLICY).unwrap_or_default(),
            grace_seconds: annotation(names::POD_TERMINATION_GRACE).and_then(|text| text.parse().ok()),
            pre_stop: annotation(names::PRE_STOP),
            resources: status.resources.as_ref().and_then(|resources| resources.linux.clone()),
            user: status.user.clone(),
            stop_signal: stop_signal::name(status.stop_signal),
            outdated: false,
        }
    }

    /// When the container ended.
    pub fn finished(&self) -> Timestamp {
        nanos(self.finished_at)
    }

    /// When the container began to run.
    pub fn started(&self) -> Timestamp {
        nanos(self.started_at)
    }
}

/// As much as the API takes of last words. Runtimes quote what could not be started, however long that is.
fn shortened(message: &str) -> String {
    message[..message.floor_char_boundary(4096)].to_owned()
}

fn run_state(state: proto::ContainerState) -> RunState {
    match state {
        proto::ContainerState::ContainerCreated => RunState::Created,
        proto::ContainerState::ContainerRunning => RunState::Running,
        proto::ContainerState::ContainerExited => RunState::Exited,
        proto::ContainerState::ContainerUnknown => RunState::Unknown,
    }
}

/// A time as the runtime counts it.
pub fn nanos(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_last_is_the_newest_although_the_clock_was_set_back() {
        let sandbox = |attempt, created_at| SandboxView { id: format!("s{attempt}"), attempt, created_at, ..SandboxView::default() };
        let container = |attempt, created_at| ContainerView { name: "c".into(), attempt, created_at, ..ContainerView::default() };
        let (sandboxes, containers) = (vec![sandbox(0, 90), sandbox(1, 40)], vec![container(3, 100), container(4, 50), container(2, 80)]);
        let mut observed = Observed { sandboxes, containers };
        observed.sort();
        assert_eq!(observed.sandbox().map(|sandbox| sandbox.attempt), Some(1));
        assert_eq!(observed.containers.iter().map(|container| container.attempt).collect::<Vec<_>>(), [4, 3, 2]);
    }
}
