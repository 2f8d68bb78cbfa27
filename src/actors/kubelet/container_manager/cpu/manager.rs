//! The assignments of this node: in memory for whoever asks, on disk before anything starts with them.

use std::{path::Path, sync::Arc};

use super::{
    options::{NONE, STATIC},
    policy::StaticPolicy,
    state::{Assignments, decode, encode},
    topology::{CpuTopology, Level},
};
use crate::kubelet::{
    container_manager::{
        kept::{Kept, read},
        metrics,
        refusal::Refusal,
    },
    cpu_set::CpuSet,
};

const FILE: &str = "cpu_manager_state";

/// See the module.
#[derive(Debug)]
pub struct CpuManager {
    pub policy: StaticPolicy,
    kept: Kept<Assignments>,
}

impl CpuManager {
    /// Goes on where an earlier process ended. Blocking.
    ///
    /// # Errors
    /// When what that left is of another policy or does not fit the machine, or when it cannot be read or written.
    pub fn start(policy: StaticPolicy, root: &Path) -> Result<Self, String> {
        let path = root.join(FILE);
        let assignments = match read(&path, |text| decode(STATIC, text)).map_err(|why| unusable(&path, &why))? {
            Some(kept) if !kept.known().is_empty() => {
                policy.check(&kept).map_err(|why| unusable(&path, &why))?;
                kept
            }
            _ => policy.initial(),
        };
        let kept = Kept::new(path, |assignments| encode(STATIC, assignments), assignments)?;
        let manager = CpuManager { policy, kept };
        manager.count();
        Ok(manager)
    }

    /// Whether nobody has CPUs for himself since an earlier process gave some. Blocking.
    ///
    /// # Errors
    /// When the file of an earlier process is of another policy.
    pub fn check_none(root: &Path) -> Result<(), String> {
        let path = root.join(FILE);
        read(&path, |text| decode(NONE, text)).map(drop).map_err(|why| unusable(&path, &why))
    }

    /// Who has which CPUs.
    pub fn assignments(&self) -> Arc<Assignments> {
        self.kept.get()
    }

    /// Changes that as a whole or, when that fails, not at all.
    ///
    /// # Errors
    /// Those of the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Assignments) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let changed = self.kept.change(change);
        self.count();
        changed
    }

    /// Shows in metrics who has how many.
    fn count(&self) {
        let assignments = self.assignments();
        let own = own(&assignments);
        metrics::assigned(self.policy.available(&assignments).len(), own.len(), &by_node(self.policy.topology(), &own));
    }

    /// What pods had is shared again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn release<'a>(&self, pods: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
        let released = self.change(|assignments| {
            for pod in pods {
                assignments.release(pod);
            }
            Ok(())
        });
        released.map_err(|refusal| refusal.message)?;
        self.keep().await
    }

    /// Somebody may run elsewhere than he should.
    pub fn wake(&self) {
        self.kept.wake();
    }

    /// Waits until somebody's CPUs are others than before, or somebody is woken. One at a time may wait.
    pub async fn changed(&self) {
        self.kept.changed().await;
    }

    /// Waits until the disk has the assignments.
    ///
    /// # Errors
    /// When the file cannot be written; it stays as it was.
    pub async fn keep(&self) -> Result<(), String> {
        self.kept.keep().await
    }
}

/// All CPUs that containers have for themselves.
fn own(assignments: &Assignments) -> CpuSet {
    assignments.containers.values().flat_map(|containers| containers.values()).flat_map(CpuSet::iter).collect()
}

/// How many of some CPUs each NUMA node of a machine has.
fn by_node(topology: &CpuTopology, cpus: &CpuSet) -> Vec<(u32, usize)> {
    let nodes = topology.parts(&topology.cpus(), Level::NumaNode).into_iter();
    nodes.map(|node| (node, topology.within(cpus, Level::NumaNode, node).len())).collect()
}

fn unusable(path: &Path, why: &str) -> String {
    let path = path.display().to_string();
    format!(
        "could not restore state from checkpoint: {why}, please drain this node and delete the CPU manager checkpoint file {path:?} before restarting \
         Kubelet"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{
            options::PolicyOptions,
            testing::{set, topology},
        },
        *,
    };

    fn policy(cores: u32) -> StaticPolicy {
        StaticPolicy::new(topology(1, 1, cores, 1), 1000, &CpuSet::default(), PolicyOptions::default()).expect("a policy")
    }

    fn give(manager: &CpuManager, pod: &str, cpus: &str) {
        let given = manager.change(|assignments| {
            assignments.shared = assignments.shared.difference(&set(cpus));
            assignments.containers.entry(pod.to_owned()).or_default().insert("c".into(), set(cpus));
            Ok(())
        });
        given.expect("given");
    }

    #[test]
    fn cpus_that_containers_have_are_counted_by_node() {
        let mut assignments = Assignments { shared: set("0,3,6-7"), ..Assignments::default() };
        for (container, cpus) in [("a", "1-2"), ("b", "4-5"), ("after-a", "1-2")] {
            assignments.containers.entry("pod".into()).or_default().insert(container.into(), set(cpus));
        }
        let (own, machine) = (own(&assignments), topology(2, 2, 8, 1));
        assert_eq!((&own, by_node(&machine, &own)), (&set("1-2,4-5"), vec![(0, 2), (1, 2)]));
        assert_eq!(by_node(&machine, &CpuSet::default()), [(0, 0), (1, 0)]);
    }

    #[tokio::test]
    async fn the_next_process_goes_on_with_what_is_kept() {
        let place = tempfile::tempdir().expect("a directory");
        let manager = CpuManager::start(policy(4), place.path()).expect("starts");
        let text = || fs::read_to_string(place.path().join(FILE)).expect("a file");
        assert_eq!(decode(STATIC, &text()), Ok(policy(4).initial()), "it is there from the start");
        give(&manager, "a", "2-3");
        give(&manager, "b", "1");
        manager.changed().await;
        assert_eq!(decode(STATIC, &text()).map(|kept| kept.shared), Ok(set("0-3")), "nothing was started with it yet");
        manager.keep().await.expect("kept");
        drop(manager);
        let next = CpuManager::start(policy(4), place.path()).expect("goes on");
        assert_eq!((next.assignments().of("a", "c"), &next.assignments().shared), (Some(&set("2-3")), &set("0")));
        next.release(["a", "nobody"]).await.expect("kept");
        assert_eq!(decode(STATIC, &text()).map(|kept| kept.shared), Ok(set("0,2-3")));
    }

    #[tokio::test]
    async fn a_change_that_fails_changes_nothing() {
        let place = tempfile::tempdir().expect("a directory");
        let manager = CpuManager::start(policy(4), place.path()).expect("starts");
        let failed: Result<(), Refusal> = manager.change(|assignments| {
            assignments.shared = CpuSet::default();
            Err(Refusal::unexpected("odd"))
        });
        assert!(failed.is_err());
        assert_eq!(*manager.assignments(), policy(4).initial());
    }

    #[test]
    fn another_policy_or_machine_is_refused_until_the_file_is_deleted() {
        let place = tempfile::tempdir().expect("a directory");
        assert_eq!(CpuManager::check_none(place.path()), Ok(()), "nobody had any");
        drop(CpuManager::start(policy(4), place.path()).expect("starts"));
        let end =
            format!(", please drain this node and delete the CPU manager checkpoint file {:?} before restarting Kubelet", place.path().join(FILE));
        let why = |refused: Result<(), String>| {
            let why = refused.expect_err("refused");
            why.strip_prefix("could not restore state from checkpoint: ").and_then(|why| why.strip_suffix(&end)).expect(&why).to_owned()
        };
        let none = why(CpuManager::check_none(place.path()));
        assert_eq!(none, "configured policy \"none\" differs from state checkpoint policy \"static\"");
        let fewer = why(CpuManager::start(policy(2), place.path()).map(drop));
        assert_eq!(fewer, "current set of available CPUs \"0-1\" doesn't match with CPUs in state \"0-3\"");
        fs::remove_file(place.path().join(FILE)).expect("deleted");
        drop(CpuManager::start(policy(2), place.path()).expect("starts"));
        fs::write(place.path().join(FILE), "{").expect("written");
        assert!(why(CpuManager::start(policy(2), place.path()).map(drop)).contains("EOF"));
    }
}
