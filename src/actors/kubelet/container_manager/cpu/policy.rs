//! The static policy: containers of Guaranteed pods that ask for whole CPUs have them for themselves, all others share what is left. Pure.
//!
//! Reserved CPUs are nobody's own. They are shared like those that nobody has, unless the reservation is strict. What a container has it keeps
//! until its pod is gone; what an init container had later containers of its pod may have after it.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use troupe_cri::{quantity::milli_value, resources::qos_class};

use super::{
    assignment::take,
    distribution::distribute,
    options::PolicyOptions,
    state::Assignments,
    topology::{CpuTopology, Level},
};
use crate::kubelet::{
    container_manager::{
        refusal::Refusal,
        topology::{mask::NumaMask, merge::Hint},
    },
    cpu_set::CpuSet,
};

/// The reason of pods that would have to share cores.
const SMT_ALIGNMENT: &str = "SMTAlignmentError";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPolicy {
    topology: CpuTopology,
    options: PolicyOptions,
    reserved: CpuSet,
    /// With all threads of the cores in which they lie.
    reserved_cores: CpuSet,
}

impl StaticPolicy {
    /// A policy that keeps so much (thousandths of a CPU, begun ones whole) for others than pods, or the CPUs that are named.
    ///
    /// # Errors
    /// When nothing is kept, or more than there is, in upstream's words.
    pub fn new(topology: CpuTopology, milli_reserved: i64, named: &CpuSet, options: PolicyOptions) -> Result<Self, String> {
        let milli_reserved = usize::try_from(milli_reserved).unwrap_or(0);
        if milli_reserved == 0 {
            return Err("[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero".into());
        }
        let count = milli_reserved.div_ceil(1000);
        let all = topology.cpus();
        let reserved = if named.is_empty() { chosen(&topology, options, &all, count).unwrap_or_default() } else { named.clone() };
        if reserved.len() != count {
            return Err(format!("[cpumanager] unable to reserve the required amount of CPUs (size of {reserved} did not equal {count})"));
        }
        if let Some(missing) = reserved.difference(&all).iter().next() {
            return Err(format!("[cpumanager] unable to build the reserved physical CPUs from the reserved set: unknown CPU ID: {missing}"));
        }
        let cores = topology.parts(&reserved, Level::Core).into_iter();
        let reserved_cores = cores.flat_map(|core| topology.within(&all, Level::Core, core).0).collect();
        Ok(StaticPolicy { topology, options, reserved, reserved_cores })
    }

    /// Where the machine's CPUs lie.
    pub fn topology(&self) -> &CpuTopology {
        &self.topology
    }

    /// The CPUs that containers can have for themselves, whoever has them.
    pub fn allocatable(&self) -> CpuSet {
        self.topology.cpus().difference(&self.reserved)
    }

    /// What there is while nobody has anything.
    pub fn initial(&self) -> Assignments {
        let all = self.topology.cpus();
        let shared = if self.options.strict_reservation { all.difference(&self.reserved) } else { all };
        Assignments { shared, ..Assignments::default() }
    }

    /// Whether what an earlier process left fits the machine and its reservation.
    ///
    /// # Errors
    /// What does not, in upstream's words.
    pub fn check(&self, assignments: &Assignments) -> Result<(), String> {
        let shared = &assignments.shared;
        if shared.is_empty() {
            return Err("default cpuset cannot be empty".into());
        }
        let (reserved, lost) = (&self.reserved, self.reserved.difference(shared));
        if self.options.strict_reservation {
            let both = reserved.intersection(shared).to_string();
            if !both.is_empty() {
                return Err(format!("some of strictly reserved cpus: {both:?} are present in defaultCpuSet: {:?}", shared.to_string()));
            }
        } else if !lost.is_empty() {
            return Err(format!("not all reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\""));
        }
        for (pod, containers) in &assignments.containers {
            if let Some((container, cpus)) = containers.iter().find(|(_, cpus)| !cpus.intersection(shared).is_empty()) {
                return Err(format!("pod: {pod}, container: {container} cpuset: \"{cpus}\" overlaps with default cpuset \"{shared}\""));
            }
        }
        let known = assignments.known();
        let known = if self.options.strict_reservation { known.union(reserved) } else { known };
        let all = self.topology.cpus();
        if known == all {
            return Ok(());
        }
        Err(format!("current set of available CPUs \"{all}\" doesn't match with CPUs in state \"{known}\""))
    }

    /// CPUs that a container could get.
    pub fn available(&self, assignments: &Assignments) -> CpuSet {
        assignments.shared.difference(&self.reserved)
    }

    /// Gives a container of a pod its CPUs, if it is to have some and has none: of some NUMA nodes as far as they have as many.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn allocate(&self, assignments: &mut Assignments, pod: &Pod, container: &Container, nodes: Option<NumaMask>) -> Result<(), Refusal> {
        let count = exclusive_cpus(pod, container);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if count == 0 || assignments.of(uid, &container.name).is_some() {
            return Ok(());
        }
        self.check_cores(assignments, count)?;
        let free = self.available(assignments).union(&reusable(assignments, pod, &container.name));
        let cpus = self.take(&free, count, nodes).map_err(|why| Refusal::unexpected(&why))?;
        assignments.shared = assignments.shared.difference(&cpus);
        assignments.containers.entry(uid.to_owned()).or_default().insert(container.name.clone(), cpus);
        Ok(())
    }

    fn take(&self, free: &CpuSet, count: usize, nodes: Option<NumaMask>) -> Result<CpuSet, String> {
        let near = nodes.map(|nodes| self.of_nodes(free, nodes)).unwrap_or_default();
        let first = chosen(&self.topology, self.options, &near, count.min(near.len()))?;
        let rest = chosen(&self.topology, self.options, &free.difference(&first), count - first.len())?;
        Ok(first.union(&rest))
    }

    fn of_nodes(&self, cpus: &CpuSet, nodes: NumaMask) -> CpuSet {
        cpus.iter().filter(|cpu| self.topology.info(*cpu).is_some_and(|info| nodes.has(info.numa_node))).collect()
    }

    /// Where a container's CPUs could lie; `None` for one that shares, and may lie anywhere.
    pub fn hints(&self, assignments: &Assignments, pod: &Pod, container: &Container) -> Option<Vec<Hint>> {
        let count = Some(exclusive_cpus(pod, container)).filter(|count| *count > 0)?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match assignments.of(uid, &container.name) {
            Some(has) if has.len() != count => Some(vec![Hint::NOWHERE]),
            Some(has) => Some(self.hints_of(has, &CpuSet::default(), count)),
            None => Some(self.hints_of(&self.available(assignments), &reusable(assignments, pod, &container.name), count)),
        }
    }

    /// Where the CPUs of a whole pod could lie.
    pub fn pod_hints(&self, assignments: &Assignments, pod: &Pod) -> Option<Vec<Hint>> {
        let spec = pod.spec.as_ref()?;
        let count = Some(exclusive_cpus_of_pod(pod)).filter(|count| *count > 0)?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut has = CpuSet::default();
        for (container, _) in in_order(spec) {
            if let Some(cpus) = assignments.of(uid, &container.name) {
                if cpus.len() != exclusive_cpus(pod, container) {
                    return Some(vec![Hint::NOWHERE]);
                }
                has = has.union(cpus);
            }
        }
        if has.len() == count {
            return Some(self.hints_of(&has, &CpuSet::default(), count));
        }
        Some(self.hints_of(&self.available(assignments), &has, count))
    }

    /// The sets of NUMA nodes with enough CPUs and with all that are to be used again. As few nodes as would do on an empty machine are preferred.
    fn hints_of(&self, available: &CpuSet, again: &CpuSet, count: usize) -> Vec<Hint> {
        let all = self.topology.cpus();
        let masks = NumaMask::all_of(&self.topology.parts(&all, Level::NumaNode));
        let has_room = |cpus: &CpuSet, mask: NumaMask, had: usize| had + self.of_nodes(cpus, mask).len() >= count;
        let least = masks.iter().filter(|mask| has_room(&all, **mask, 0)).map(|mask| mask.count()).min();
        let with_again = masks.into_iter().filter(|mask| self.of_nodes(again, *mask).len() == again.len());
        let hints: Vec<Hint> = with_again
            .filter(|mask| has_room(available, *mask, again.len()))
            .map(|mask| Hint { nodes: Some(mask), preferred: Some(mask.count()) == least })
            .collect();
        if hints.is_empty() { vec![Hint::NOWHERE] } else { hints }
    }

    /// Whether so many CPUs can be whole cores, if they have to.
    fn check_cores(&self, assignments: &Assignments, count: usize) -> Result<(), Refusal> {
        if !self.options.full_cores {
            return Ok(());
        }
        let per_core = self.topology.size(Level::Core);
        if !count.is_multiple_of(per_core) {
            let message = format!("SMT Alignment Error: requested {count} cpus not multiple cpus per core = {per_core}");
            return Err(Refusal::new(SMT_ALIGNMENT, message));
        }
        let free = assignments.shared.difference(&self.reserved_cores).len();
        if count > free {
            let message = format!(
                "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {free}, requested CPUs = {count}, CPUs per core = \
                 {per_core}"
            );
            return Err(Refusal::new(SMT_ALIGNMENT, message));
        }
        Ok(())
    }
}

/// Which of the free CPUs are taken.
fn chosen(topology: &CpuTopology, options: PolicyOptions, free: &CpuSet, count: usize) -> Result<CpuSet, String> {
    if options.across_numa {
        return distribute(topology, free, count, if options.full_cores { topology.size(Level::Core) } else { 1 });
    }
    take(topology, free, count, options.by_cache)
}

/// How many CPUs a container is to have for itself; 0 for one that shares. Pods with resources of their own share, as upstream's do without its
/// feature `PodLevelResourceManagers`.
pub fn exclusive_cpus(pod: &Pod, container: &Container) -> usize {
    let own = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let of_pod = own.is_some_and(|own| [&own.requests, &own.limits].into_iter().flatten().any(|list| !list.is_empty()));
    if of_pod || qos_class(pod) != "Guaranteed" {
        return 0;
    }
    let resources = container.resources.as_ref();
    let listed =
        resources.and_then(|resources| resources.requests.as_ref().and_then(|list| list.get("cpu")).or(resources.limits.as_ref()?.get("cpu")));
    let milli = listed.map_or(0, |quantity| milli_value(&quantity.0));
    if milli % 1000 == 0 { usize::try_from(milli / 1000).unwrap_or(0) } else { 0 }
}

/// The same of all containers of a pod that run at the same time, at most.
pub fn exclusive_cpus_of_pod(pod: &Pod) -> usize {
    pod.spec.as_ref().map_or(0, |spec| at_once(spec, |container| exclusive_cpus(pod, container)))
}

/// What all containers that run at the same time have together, at most.
pub fn at_once(spec: &PodSpec, of: impl Fn(&Container) -> usize) -> usize {
    let (mut sidecars, mut most) = (0_usize, 0);
    for container in spec.init_containers.iter().flatten() {
        let cpus = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(cpus);
        } else {
            most = most.max(sidecars.saturating_add(cpus));
        }
    }
    spec.containers.iter().map(of).fold(sidecars, usize::saturating_add).max(most)
}

/// The containers that may have CPUs, in the order in which they start, and whether they end before the next one begins.
pub fn in_order(spec: &PodSpec) -> impl Iterator<Item = (&Container, bool)> {
    let init = spec.init_containers.iter().flatten().map(|container| (container, container.restart_policy.as_deref() != Some("Always")));
    init.chain(spec.containers.iter().map(|container| (container, false)))
}

/// What init containers of a pod have and no container after them before the one that is named: it can have that too.
pub fn reusable(assignments: &Assignments, pod: &Pod, before: &str) -> CpuSet {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else { return CpuSet::default() };
    let mut reusable = CpuSet::default();
    for (container, ends) in in_order(spec).take_while(|(container, _)| container.name != before) {
        if let Some(cpus) = assignments.of(uid, &container.name) {
            reusable = if ends { reusable.union(cpus) } else { reusable.difference(cpus) };
        }
    }
    reusable
}

#[cfg(test)]
mod tests;
