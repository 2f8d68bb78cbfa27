//! How the kernel treats containers' memory beside their limits: swap (KEP-2400), and what dies with a process that it kills. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{proto, quantity::value};

const SWAP: &str = "memory.swap.max";
const OOM_GROUP: &str = "memory.oom.group";
/// Pods from here on are the system's.
const CRITICAL: i32 = 2_000_000_000;
/// Annotations of pods that come from a node's own manifests.
const SOURCE: &str = "kubernetes.io/config.source";

/// What holds on a node. By default the kernel is told nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryRules {
    /// Cgroups are of the second version.
    pub is_unified: bool,
    /// All processes of a container are killed when one is, for want of memory (upstream's `singleProcessOOMKill: false`). Only with cgroups of
    /// the second version.
    pub kills_group: bool,
    /// Whether containers may swap; `None` where the kernel does not count it.
    pub swap: Option<Swap>,
}

/// Who may swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    Nobody,
    /// Burstable pods, by their part of the machine's memory: of so many bytes that the machine has.
    Limited(i64),
}

impl MemoryRules {
    /// Tells the runtime what holds for a container of a pod of this class on a machine with so much memory in bytes.
    pub(crate) fn bind(self, (pod, class): (&Pod, &str), container: &Container, memory_bytes: i64, resources: &mut proto::LinuxContainerResources) {
        if self.is_unified && self.kills_group {
            resources.unified.insert(OOM_GROUP.to_owned(), "1".to_owned());
        }
        let Some(swap) = self.swap else { return };
        if !self.is_unified {
            self.bind_swap_v1(resources);
            return;
        }
        let bytes = match swap {
            Swap::Limited(all) if class == "Burstable" && may_swap(pod, container) => part(request(container), memory_bytes, all),
            Swap::Limited(_) | Swap::Nobody => 0,
        };
        resources.unified.insert(SWAP.to_owned(), bytes.to_string());
    }

    /// With cgroups of the first version nobody has more memory and swap together than memory. What the kernel counts together has to
    /// change together, too.
    pub fn bind_swap_v1(self, resources: &mut proto::LinuxContainerResources) {
        if self.swap.is_some() && !self.is_unified {
            resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
        }
    }
}

/// The system's pods do not swap, and of the others only containers that ask for less memory than they may use.
fn may_swap(pod: &Pod, container: &Container) -> bool {
    let is_critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL);
    let is_static = pod.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE)).is_some_and(|source| source != "api");
    let (request, limit) = (request(container), amount(container, false));
    !is_critical && !is_static && request != limit
}

fn request(container: &Container) -> i64 {
    amount(container, true)
}

/// What a container asks for of memory, or what its limit is; 0 for nothing.
fn amount(container: &Container, requested: bool) -> i64 {
    let resources = container.resources.as_ref();
    let list = resources.and_then(|resources| if requested { resources.requests.as_ref() } else { resources.limits.as_ref() });
    list.and_then(|list| list.get("memory")).map_or(0, |quantity| value(&quantity.0))
}

/// A container's part of the swap: that which it asks for of the memory.
fn part(request: i64, memory: i64, swap: i64) -> i64 {
    if memory <= 0 || request > memory {
        return 0;
    }
    let part = i128::from(request.max(0)) * i128::from(swap.max(0)) / i128::from(memory);
    i64::try_from(part).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resources::{CpuTime, MachineSize, container_resources};

    const UNIFIED: MemoryRules = MemoryRules { is_unified: true, kills_group: false, swap: Some(Swap::Limited(4 << 30)) };

    fn told(rules: MemoryRules, priority: i32, resources: &Value) -> proto::LinuxContainerResources {
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod");
        let machine = MachineSize { memory_bytes: 8 << 30, memory: rules, ..MachineSize::default() };
        container_resources(&pod, &pod.spec.as_ref().expect("a spec").containers[0], machine, CpuTime::default(), &[])
    }

    fn swap(rules: MemoryRules, priority: i32, resources: &Value) -> Option<String> {
        told(rules, priority, resources).unified.get(SWAP).cloned()
    }

    #[test]
    fn burstable_containers_swap_by_their_part_of_the_memory_and_no_others() {
        let burstable = json!({"requests": {"memory": "1Gi"}});
        assert_eq!(swap(UNIFIED, 0, &burstable).as_deref(), Some("536870912"));
        for other in [
            json!({}),
            json!({"requests": {"cpu": "1"}}),
            json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
            json!({"requests": {"memory": "1Gi", "cpu": "1"}, "limits": {"memory": "1Gi", "cpu": "1"}}),
            json!({"requests": {"memory": "9Gi"}}),
        ] {
            assert_eq!(swap(UNIFIED, 0, &other).as_deref(), Some("0"), "{other}");
        }
        assert_eq!(swap(UNIFIED, CRITICAL, &burstable).as_deref(), Some("0"), "the system's pods do not");
        assert_eq!(swap(MemoryRules { swap: Some(Swap::Nobody), ..UNIFIED }, 0, &burstable).as_deref(), Some("0"));
        assert_eq!(swap(MemoryRules { swap: None, ..UNIFIED }, 0, &burstable), None, "the kernel does not count it");
    }

    #[test]
    fn memory_and_swap_have_one_limit_with_the_first_version() {
        let limited = json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "512Mi"}});
        let got = told(MemoryRules { is_unified: false, kills_group: true, ..UNIFIED }, 0, &limited);
        assert_eq!((got.memory_swap_limit_in_bytes, got.unified.len()), (1 << 30, 0));
        assert_eq!(told(MemoryRules::default(), 0, &limited).memory_swap_limit_in_bytes, 0);
    }

    #[test]
    fn the_processes_of_a_container_die_together_unless_it_is_said_otherwise() {
        let group = |kills_group| told(MemoryRules { kills_group, ..UNIFIED }, 0, &json!({})).unified.get(OOM_GROUP).cloned();
        assert_eq!((group(true).as_deref(), group(false)), (Some("1"), None));
    }
}
