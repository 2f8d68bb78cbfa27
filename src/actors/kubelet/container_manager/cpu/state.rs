//! Who has which CPUs, and the file `cpu_manager_state` that keeps it for the next process. The format is upstream's, checksum and all: either
//! kubelet goes on where the other one ended.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use crate::kubelet::{container_manager::kept::fnv, cpu_set::CpuSet};

/// Who has which CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Those that all others share.
    pub shared: CpuSet,
    /// By pod's uid and container's name.
    pub containers: BTreeMap<String, BTreeMap<String, CpuSet>>,
}

impl Assignments {
    /// What a container has for itself.
    pub fn of(&self, pod: &str, container: &str) -> Option<&CpuSet> {
        self.containers.get(pod)?.get(container)
    }

    /// What a container may run on.
    pub fn of_or_shared(&self, pod: &str, container: &str) -> &CpuSet {
        self.of(pod, container).unwrap_or(&self.shared)
    }

    /// A pod is gone: what it had is shared again. Gives whether it had anything.
    pub fn release(&mut self, pod: &str) -> bool {
        let Some(had) = self.containers.remove(pod) else { return false };
        for cpus in had.values() {
            self.shared = self.shared.union(cpus);
        }
        true
    }

    /// All CPUs that it knows of.
    pub fn known(&self) -> CpuSet {
        self.containers.values().flat_map(BTreeMap::values).fold(self.shared.clone(), |all, cpus| all.union(cpus))
    }
}

type Entries = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    #[serde(default)]
    policy_name: String,
    #[serde(default)]
    default_cpu_set: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    entries: Entries,
    #[serde(default)]
    checksum: u64,
}

impl Kept {
    /// FNV-1a (32 bits) of what Go shows of upstream's `CPUManagerCheckpoint` with no checksum in it.
    fn sum(&self) -> u64 {
        let mut shown = format!(
            "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:(map[string]map[string]string)map[",
            self.policy_name, self.default_cpu_set
        );
        let mut before = "";
        for (pod, containers) in &self.entries {
            let containers: Vec<String> = containers.iter().map(|(name, cpus)| format!("{name}:{cpus}")).collect();
            // Writing into a text never fails.
            let _ = write!(shown, "{before}{pod}:map[{}]", containers.join(" "));
            before = " ";
        }
        shown.push_str("] Checksum:(checksum.Checksum)0}");
        fnv(shown.as_bytes()).into()
    }
}

/// The text of the file.
pub fn encode(policy: &str, assignments: &Assignments) -> String {
    let written = |of: &BTreeMap<String, CpuSet>| of.iter().map(|(name, cpus)| (name.clone(), cpus.to_string())).collect::<BTreeMap<_, _>>();
    let entries: Entries = assignments.containers.iter().map(|(pod, of)| (pod.clone(), written(of))).collect();
    let mut kept = Kept { policy_name: policy.to_owned(), default_cpu_set: assignments.shared.to_string(), entries, checksum: 0 };
    kept.checksum = kept.sum();
    serde_json::to_string(&kept).expect("texts and numbers always encode")
}

/// Reads the file's text.
///
/// # Errors
/// When it is of another policy, or was tampered with, in upstream's words.
pub fn decode(policy: &str, text: &str) -> Result<Assignments, String> {
    let kept: Kept = serde_json::from_str(text).map_err(|error| error.to_string())?;
    // Files of old kubelets have none.
    if kept.checksum != 0 && kept.checksum != kept.sum() {
        return Err("checkpoint is corrupted".into());
    }
    if kept.policy_name != policy {
        return Err(format!("configured policy {policy:?} differs from state checkpoint policy {:?}", kept.policy_name));
    }
    let shared = CpuSet::parse(&kept.default_cpu_set).map_err(|why| format!("could not parse default cpu set {:?}: {why}", kept.default_cpu_set))?;
    let mut assignments = Assignments { shared, containers: BTreeMap::new() };
    for (pod, containers) in kept.entries {
        let mut of_pod = BTreeMap::new();
        for (container, cpus) in containers {
            let failed = |why: String| format!("could not parse cpuset {cpus:?} for container {container:?} in pod {pod:?}: {why}");
            of_pod.insert(container.clone(), CpuSet::parse(&cpus).map_err(failed)?);
        }
        assignments.containers.insert(pod, of_pod);
    }
    Ok(assignments)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::set, *};

    #[test]
    fn the_file_is_upstreams() {
        let of_pod = BTreeMap::from([("container1".to_owned(), set("4-6")), ("container2".to_owned(), set("1-3"))]);
        let some = Assignments { shared: set("1-3"), containers: BTreeMap::from([("pod".to_owned(), of_pod)]) };
        let text = "{\"policyName\":\"none\",\"defaultCpuSet\":\"1-3\",\"entries\":{\"pod\":{\"container1\":\"4-6\",\"container2\":\"1-3\"}},\
                    \"checksum\":3610638499}";
        assert_eq!(encode("none", &some), text);
        assert_eq!(decode("none", text), Ok(some));
        let none = Assignments { shared: set("4-6"), containers: BTreeMap::new() };
        assert_eq!(encode("none", &none), "{\"policyName\":\"none\",\"defaultCpuSet\":\"4-6\",\"checksum\":354655845}");
        assert_eq!(decode("none", &encode("none", &none)), Ok(none));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_upstreams_words() {
        let text = encode("static", &Assignments { shared: set("0-3"), containers: BTreeMap::new() });
        assert_eq!(decode("none", &text), Err("configured policy \"none\" differs from state checkpoint policy \"static\"".into()));
        assert_eq!(decode("static", &text.replace("0-3", "0-2")), Err("checkpoint is corrupted".into()));
        let old = "{\"policyName\":\"static\",\"defaultCpuSet\":\"0,x\",\"checksum\":0}";
        let why = "could not parse default cpu set \"0,x\": strconv.Atoi: parsing \"x\": invalid syntax";
        assert_eq!(decode("static", old), Err(why.into()));
        let odd = "{\"policyName\":\"static\",\"defaultCpuSet\":\"0\",\"entries\":{\"p\":{\"c\":\"3-1\"}}}";
        let why = "could not parse cpuset \"3-1\" for container \"c\" in pod \"p\": invalid range \"3-1\" (3 > 1)";
        assert_eq!(decode("static", odd), Err(why.into()));
        assert!(decode("static", "{").is_err());
    }

    #[test]
    fn what_a_pod_had_is_shared_again() {
        let of_pod = BTreeMap::from([("a".to_owned(), set("1")), ("b".to_owned(), set("1,2"))]);
        let mut some = Assignments { shared: set("0"), containers: BTreeMap::from([("p".to_owned(), of_pod)]) };
        assert_eq!((some.of_or_shared("p", "a").to_string(), some.of_or_shared("p", "c").to_string()), ("1".into(), "0".into()));
        assert_eq!(some.known(), set("0-2"));
        assert!(some.release("p") && !some.release("p"));
        assert_eq!(some, Assignments { shared: set("0-2"), containers: BTreeMap::new() });
    }
}
