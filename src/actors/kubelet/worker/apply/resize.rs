//! Carrying a resize out: the pod's cgroup, and the runtime for its containers.

use parking_lot::Mutex;
use troupe_cri::{
    names::pod_cgroup,
    proto::ContainerStatsFilter,
    resources::{qos_class, sandbox_resources},
};

use super::{Step, StepFailure};
use crate::{
    files::blocking,
    kubelet::{
        cgroups::limit::{Limits, limit_pod, memory_of_pod},
        resize::{
            Actuated, Amounts, PodAmounts, Record, allocation,
            operations::{Change, Operation, changes, operations, pod_target},
        },
    },
};

/// What the pod's cgroup and containers have, shared between a worker and the steps it takes.
#[derive(Debug, Default)]
pub struct Sizes(Mutex<Actuated>);

impl Sizes {
    pub fn new(actuated: Actuated) -> Self {
        Sizes(Mutex::new(actuated))
    }

    pub fn get(&self) -> Actuated {
        self.0.lock().clone()
    }

    fn set_container(&self, name: &str, amounts: Amounts) {
        self.0.lock().containers.insert(name.to_owned(), amounts);
    }

    pub(super) fn set_pod(&self, amounts: PodAmounts) {
        self.0.lock().pod = amounts;
    }
}

/// Notes on disk what is allocated to the pod and what it has. Without its directory there is no pod.
pub(super) async fn record(step: &Step) -> Result<(), String> {
    let spec = step.spec();
    let known = step.context.allocations.get(&step.id.uid);
    let generation = known.as_ref().map_or_else(|| allocation::generation(&step.pod), |known| known.generation);
    let allocated = known.map_or_else(|| allocation::Allocated::of(&spec), |known| known.allocated.clone());
    let record = Record { generation, allocated, actuated: step.sizes.get() };
    let directory = step.context.paths(&step.id.uid).root().to_owned();
    blocking(move || record.write(&directory)).await.map_err(|error| format!("note the pod's resources: {error}"))
}

/// A container was made with what its spec says.
pub(super) async fn started(step: &Step, name: &str) {
    let spec = step.spec();
    let Some(container) = crate::kubelet::worker::plan::find_container(&spec, name) else { return };
    let amounts = Amounts::of(container, &spec);
    if step.sizes.get().containers.get(name) != Some(&amounts) {
        step.sizes.set_container(name, amounts);
        if let Err(error) = record(step).await {
            tracing::warn!(%error, pod = step.id.name, container = name, "size not noted");
        }
    }
}

/// Writes what differs, in order. What was written before a failure stays, and is noted.
pub(super) async fn resize(step: &Step) -> Result<(), StepFailure> {
    let failed = |error: String| StepFailure::new("ResizeError", error);
    // Whatever comes of it: after this the pod has no other size promised.
    record(step).await.map_err(failed)?;
    let (spec, has) = (step.spec(), step.sizes.get());
    let changes = changes(&spec, &step.observed, &has);
    let target = pod_target(&step.pod, &spec, has.pod);
    check_memory(step, &changes, has.pod, target).await.map_err(failed)?;
    let mut outcome = Ok(());
    for operation in operations(&changes, has.pod, target) {
        outcome = carry_out(step, &operation).await;
        if outcome.is_err() {
            break;
        }
    }
    let recorded = record(step).await;
    outcome.and(recorded).map_err(failed)
}

async fn carry_out(step: &Step, operation: &Operation) -> Result<(), String> {
    match operation {
        Operation::Pod(amounts) => {
            // One that does not want it refuses before anything is written.
            tell(step, *amounts).await?;
            if step.context.cgroups_per_qos {
                let limits = |amounts: PodAmounts| Limits::of_pod(amounts, step.context.cpu_time, None);
                let limits = limits(*amounts).changed_from(limits(step.sizes.get().pod));
                if let Err(error) = limit(step, limits).await {
                    if let Err(error) = tell(step, step.sizes.get().pod).await {
                        tracing::warn!(error, pod = step.id.name, "the runtime takes the pod's cgroup for another size than it has");
                    }
                    return Err(format!("failed to set the pod's cgroup: {error}"));
                }
            }
            step.sizes.set_pod(*amounts);
        }
        Operation::Container { id, name, amounts } => {
            let mut resources = amounts.to_runtime(step.context.cpu_time);
            step.context.container_manager.lift_quota(&step.id.uid, name, &mut resources);
            step.context.machine.memory.bind_swap_v1(&mut resources);
            let update = step.context.runtime.update_container_resources(id, resources);
            step.cri("UpdateContainerResources", update).await.map_err(|error| error.to_string())?;
            step.sizes.set_container(name, *amounts);
        }
    }
    Ok(())
}

/// Limits the pod's cgroup anew.
async fn limit(step: &Step, limits: Limits) -> Result<(), String> {
    let (root, class, uid) = (step.context.cgroup_parent.clone(), qos_class(&step.pod), step.id.uid.clone());
    step.context.slices.set(&pod_cgroup(&root, class, &uid), &limits).await.map_err(|error| error.to_string())?;
    blocking(move || limit_pod(&root, class, &uid, &limits)).await.map_err(|error| error.to_string())
}

/// Tells the runtime which size the pod's own cgroup gets.
async fn tell(step: &Step, amounts: PodAmounts) -> Result<(), String> {
    let Some(sandbox) = step.observed.ready_sandbox() else { return Ok(()) };
    let size = (amounts.memory, amounts.cpu_quota, amounts.cpu_shares);
    let [overhead, rest] = sandbox_resources(&step.spec(), size, step.context.cpu_time);
    let update = step.context.runtime.update_pod_sandbox_resources(&sandbox.id, overhead, rest);
    match step.cri("UpdatePodSandboxResources", update).await {
        Err(error) if !error.is_unimplemented() => Err(format!("failed to notify runtime for UpdatePodSandboxResources: {error}")),
        _ => Ok(()),
    }
}

/// No limit goes below what is in use: the kernel would kill for it.
async fn check_memory(step: &Step, changes: &[Change<'_>], has: PodAmounts, gets: PodAmounts) -> Result<(), String> {
    let pod = (gets.memory != 0 && gets.memory != has.memory && (has.memory == 0 || gets.memory < has.memory)).then_some(gets.memory);
    let containers: Vec<_> = changes.iter().filter_map(|change| Some((change, change.lowered_memory()?))).collect();
    if pod.is_none() && containers.is_empty() {
        return Ok(());
    }
    let mut problems = Vec::new();
    if let Some(limit) = pod.filter(|_| step.context.cgroups_per_qos) {
        let (root, class, uid) = (step.context.cgroup_parent.clone(), qos_class(&step.pod), step.id.uid.clone());
        match blocking(move || memory_of_pod(&root, class, &uid)).await {
            Ok(used) if used >= limit.unsigned_abs() => {
                problems.push(format!("attempting to set pod memory limit ({limit}) below current usage ({used})"));
            }
            Ok(_) => {}
            Err(_) => problems.push("missing pod memory usage".to_owned()),
        }
    }
    for (change, limit) in containers {
        let name = &change.container.name;
        match memory_of_container(step, &change.seen.id).await {
            Some(used) if used >= limit.unsigned_abs() => {
                problems.push(format!("attempting to set container {name:?} memory limit ({limit}) below current usage ({used})"));
            }
            Some(_) => {}
            None => problems.push(format!("missing container {name:?} memory usage")),
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("cannot decrease memory limits: {one}")),
        many => Err(format!("cannot decrease memory limits: [{}]", many.join(", "))),
    }
}

async fn memory_of_container(step: &Step, id: &str) -> Option<u64> {
    let filter = ContainerStatsFilter { id: id.to_owned(), ..Default::default() };
    let stats = step.context.runtime.list_container_stats(filter).await.ok()?;
    let memory = stats.into_iter().next()?.memory?;
    memory.usage_bytes.or(memory.working_set_bytes).map(|bytes| bytes.value)
}
