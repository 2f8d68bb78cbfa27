//! In which order a resize is written: pure.
//!
//! Memory first, then CPU. What the pod's cgroup gets more of it gets before its containers, what it gets less of after them. Among
//! containers those that shrink come first. Limits grow before requests and shrink after them. (Upstream's `doPodResizeAction`.)

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::amounts::{Actuated, Amounts, PodAmounts, Resource, resizable};
use crate::kubelet::worker::observed::{ContainerView, Observed, RunState};

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The pod's cgroup gets all of these; only what differs from before is written.
    Pod(PodAmounts),
    /// A running container gets these.
    Container { id: String, name: String, amounts: Amounts },
}

/// A running container whose size differs from what is allocated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change<'a> {
    pub container: &'a Container,
    pub seen: &'a ContainerView,
    pub has: Amounts,
    pub gets: Amounts,
}

impl Change<'_> {
    /// Whether the container has to start again for it, by its resize policies.
    pub fn restarts(&self) -> bool {
        let policies = self.container.resize_policy.iter().flatten();
        let mut asked = policies.filter(|policy| policy.restart_policy == "RestartContainer");
        asked.any(|policy| match policy.resource_name.as_str() {
            "cpu" => self.changes(Resource::Cpu),
            "memory" => self.changes(Resource::Memory),
            _ => false,
        })
    }

    fn changes(&self, resource: Resource) -> bool {
        self.has.of_resource(resource) != self.gets.of_resource(resource)
    }

    /// Whether a limit is set or lowered: the new one.
    pub fn lowered_memory(&self) -> Option<i64> {
        let (new, old) = (self.gets.memory_limit, self.has.memory_limit);
        (new != 0 && new != old && (old == 0 || new < old)).then_some(new)
    }
}

/// The running containers of a sandbox that do not have what is allocated to them.
pub fn changes<'a>(spec: &'a PodSpec, observed: &'a Observed, actuated: &Actuated) -> Vec<Change<'a>> {
    let Some(sandbox) = observed.ready_sandbox() else { return Vec::new() };
    let running = resizable(spec).filter_map(|container| {
        let seen = observed.newest_in(&container.name, &sandbox.id).filter(|seen| seen.state == RunState::Running)?;
        // One that this kubelet did not start and has no record of is as its spec says.
        let has = *actuated.containers.get(&container.name)?;
        let gets = Amounts::of(container, spec);
        (has != gets).then_some(Change { container, seen, has, gets })
    });
    running.collect()
}

/// What the pod's cgroup is to have. A limit that was set stays where none is asked for any more.
pub fn pod_target(pod: &Pod, spec: &PodSpec, has: PodAmounts) -> PodAmounts {
    let wanted = PodAmounts::of(pod, spec);
    let kept = |wanted: i64, has: i64| if wanted == 0 { has } else { wanted };
    PodAmounts { memory: kept(wanted.memory, has.memory), cpu_quota: kept(wanted.cpu_quota, has.cpu_quota), ..wanted }
}

/// Whether containers that run, or their pod's cgroup, do not have what is allocated.
pub fn in_progress(pod: &Pod, spec: &PodSpec, observed: &Observed, actuated: &Actuated) -> bool {
    let cgroup = || pod_target(pod, spec, actuated.pod) != actuated.pod;
    observed.ready_sandbox().is_some() && (!changes(spec, observed, actuated).is_empty() || cgroup())
}

/// All writes in their order.
pub fn operations(changes: &[Change<'_>], has: PodAmounts, gets: PodAmounts) -> Vec<Operation> {
    let mut all = Vec::new();
    let mut pod = has;
    let mut sizes: Vec<Amounts> = changes.iter().map(|change| change.has).collect();
    for resource in [Resource::Memory, Resource::Cpu] {
        let mut set = |all: &mut Vec<Operation>, part: Part, grows: bool| {
            let (old, new) = (part.of(pod), part.of(gets));
            if old != new && (part.rank(new) > part.rank(old)) == grows {
                pod = part.with(pod, new);
                all.push(Operation::Pod(pod));
            }
        };
        let (limit, request) = match resource {
            Resource::Memory => (Part::Memory, None),
            Resource::Cpu => (Part::Quota, Some(Part::Shares)),
        };
        set(&mut all, limit, true);
        request.into_iter().for_each(|part| set(&mut all, part, true));
        for index in by_direction(changes, resource) {
            let change = &changes[index];
            sizes[index] = sizes[index].with(resource, change.gets);
            let (id, name) = (change.seen.id.clone(), change.container.name.clone());
            all.push(Operation::Container { id, name, amounts: sizes[index] });
        }
        request.into_iter().for_each(|part| set(&mut all, part, false));
        set(&mut all, limit, false);
    }
    all
}

/// Those that change in this resource: shrinking ones first, from the last to the first, then growing ones.
fn by_direction(changes: &[Change<'_>], resource: Resource) -> Vec<usize> {
    let (mut shrinking, mut growing) = (Vec::new(), Vec::new());
    for (index, change) in changes.iter().enumerate().filter(|(_, change)| change.changes(resource)) {
        let ((old_request, old_limit), (request, limit)) = (change.has.of_resource(resource), change.gets.of_resource(resource));
        let (old, new) = if limit != old_limit { (old_limit, limit) } else { (old_request, request) };
        if new < old { shrinking.push(index) } else { growing.push(index) }
    }
    shrinking.into_iter().rev().chain(growing).collect()
}

/// One file of a pod's cgroup.
#[derive(Clone, Copy)]
enum Part {
    Memory,
    Quota,
    Shares,
}

impl Part {
    fn of(self, amounts: PodAmounts) -> i64 {
        match self {
            Part::Memory => amounts.memory,
            Part::Quota => amounts.cpu_quota,
            Part::Shares => amounts.cpu_shares,
        }
    }

    fn with(self, amounts: PodAmounts, value: i64) -> PodAmounts {
        match self {
            Part::Memory => PodAmounts { memory: value, ..amounts },
            Part::Quota => PodAmounts { cpu_quota: value, ..amounts },
            Part::Shares => PodAmounts { cpu_shares: value, ..amounts },
        }
    }

    /// No limit is more than any.
    fn rank(self, value: i64) -> i64 {
        if value == 0 { i64::MAX } else { value }
    }
}
