//! Keeping running containers on the CPUs that are theirs: when somebody gets CPUs for himself those who share have to leave them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use troupe_cri::{
    CriError, Runtime, names,
    proto::{self, ContainerFilter, ContainerState, LinuxContainerResources},
};

use super::cpu::{manager::CpuManager, state::Assignments};
use crate::{
    kubelet::cpu_set::CpuSet,
    runtime::host::{Unit, UnitContext},
};

/// Containers are looked at no more often than this.
const LEAST: Duration = Duration::from_millis(100);

/// The uids of the pods of this node; `None` before they are known.
pub type KnownPods = Arc<dyn Fn() -> Option<BTreeSet<String>> + Send + Sync>;

/// A container at the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub pod: String,
    pub name: String,
    pub running: bool,
}

impl Listed {
    /// `None` for one that is no pod's.
    pub fn of(container: &proto::Container) -> Option<Self> {
        let label = |name: &str| container.labels.get(name).cloned();
        let (pod, name) = label(names::POD_UID).zip(label(names::CONTAINER_NAME))?;
        Some(Listed { id: container.id.clone(), pod, name, running: container.state() == ContainerState::ContainerRunning })
    }
}

/// A running container gets other CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub id: String,
    pub cpus: CpuSet,
}

/// The containers that do not run where they should, as far as is known what they were given last.
pub fn plan(assignments: &Assignments, listed: &[Listed], given: &BTreeMap<String, CpuSet>) -> Vec<Update> {
    let running = listed.iter().filter(|container| container.running);
    let wanted = running.map(|container| (container, assignments.of_or_shared(&container.pod, &container.name)));
    let differs = wanted.filter(|(container, cpus)| !cpus.is_empty() && given.get(&container.id) != Some(*cpus));
    differs.map(|(container, cpus)| Update { id: container.id.clone(), cpus: cpus.clone() }).collect()
}

/// Pods that have CPUs and are gone.
pub fn gone<'a>(assignments: &'a Assignments, known: &BTreeSet<String>, listed: &[Listed]) -> Vec<&'a str> {
    let is_there = |pod: &&String| known.contains(*pod) || listed.iter().any(|container| container.pod == **pod);
    assignments.containers.keys().filter(|pod| !is_there(pod)).map(String::as_str).collect()
}

/// The unit that does so now and then, and when somebody's CPUs change.
pub struct CpuReconciler {
    manager: Arc<CpuManager>,
    runtime: Arc<dyn Runtime>,
    pods: KnownPods,
    period: Duration,
    /// By container's id.
    given: BTreeMap<String, CpuSet>,
    busy: bool,
    /// Something changed meanwhile.
    again: bool,
}

impl CpuReconciler {
    pub fn new(manager: Arc<CpuManager>, runtime: Arc<dyn Runtime>, pods: KnownPods, period: Duration) -> Self {
        CpuReconciler { manager, runtime, pods, period: period.max(LEAST), given: BTreeMap::new(), busy: false, again: false }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        if std::mem::replace(&mut self.busy, true) {
            self.again = true;
            return;
        }
        let (manager, runtime, pods, given) = (self.manager.clone(), self.runtime.clone(), self.pods.clone(), self.given.clone());
        let work = async move { reconcile(&manager, &*runtime, &pods, given).await };
        cx.spawn_then(work, |unit, given, cx| {
            unit.busy = false;
            unit.given = given;
            if std::mem::take(&mut unit.again) {
                unit.look(cx);
            }
        });
    }

    fn wait(&mut self, cx: &mut UnitContext<'_, Self>) {
        let manager = self.manager.clone();
        cx.spawn_then(async move { manager.changed().await }, |unit, (), cx| {
            unit.look(cx);
            unit.wait(cx);
        });
    }
}

/// Takes back what pods had that are gone, and updates containers. Gives what containers were given last.
async fn reconcile(manager: &CpuManager, runtime: &dyn Runtime, pods: &KnownPods, mut given: BTreeMap<String, CpuSet>) -> BTreeMap<String, CpuSet> {
    // Before the others are asked: who comes meanwhile is not gone.
    let before = manager.assignments();
    let known = pods();
    let listed: Vec<Listed> = match runtime.list_containers(ContainerFilter::default()).await {
        Ok(containers) => containers.iter().filter_map(Listed::of).collect(),
        Err(error) => {
            tracing::debug!(%error, "CPUs of containers are not looked at");
            return given;
        }
    };
    let gone = known.map(|known| gone(&before, &known, &listed)).unwrap_or_default();
    if !gone.is_empty()
        && let Err(why) = manager.release(gone).await
    {
        tracing::warn!(why, "CPUs of pods that are gone are free, which is not written yet");
    }
    given.retain(|id, _| listed.iter().any(|container| container.id == *id));
    for Update { id, cpus } in plan(&manager.assignments(), &listed, &given) {
        let resources = LinuxContainerResources { cpuset_cpus: cpus.to_string(), ..Default::default() };
        match runtime.update_container_resources(&id, resources).await {
            Ok(()) => drop(given.insert(id, cpus)),
            Err(CriError::NotFound(_)) => {}
            Err(error) => tracing::warn!(%error, container = id, %cpus, "container runs on other CPUs than it should, will retry"),
        }
    }
    given
}

impl Unit for CpuReconciler {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
        self.wait(cx);
        cx.every(self.period, Self::look);
    }

    fn observe(&self) -> Value {
        let assignments = self.manager.assignments();
        let shown = |cpus: &CpuSet| Value::from(cpus.to_string());
        let of_pod = |containers: &BTreeMap<String, CpuSet>| containers.iter().map(|(name, cpus)| (name.clone(), shown(cpus))).collect::<Value>();
        let exclusive: Value = assignments.containers.iter().map(|(pod, containers)| (pod.clone(), of_pod(containers))).collect();
        json!({"shared": shown(&assignments.shared), "exclusive": exclusive, "containers": self.given.len()})
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cpu::testing::set, *};

    fn listed(id: &str, pod: &str, running: bool) -> Listed {
        Listed { id: id.to_owned(), pod: pod.to_owned(), name: "c".to_owned(), running }
    }

    fn assignments() -> Assignments {
        let of_pod = BTreeMap::from([("c".to_owned(), set("1"))]);
        Assignments { shared: set("0,2-3"), containers: BTreeMap::from([("own".to_owned(), of_pod)]) }
    }

    #[test]
    fn running_containers_get_what_they_were_not_given_yet() {
        let all = [listed("1", "own", true), listed("2", "other", true), listed("3", "ended", false)];
        let update = |id: &str, cpus: &str| Update { id: id.to_owned(), cpus: set(cpus) };
        let mut given = BTreeMap::new();
        let planned = plan(&assignments(), &all, &given);
        assert_eq!(planned, [update("1", "1"), update("2", "0,2-3")]);
        given.extend(planned.into_iter().map(|update| (update.id, update.cpus)));
        assert!(plan(&assignments(), &all, &given).is_empty(), "planning again gives nothing");
        let mut released = assignments();
        released.release("own");
        assert_eq!(plan(&released, &all, &given), [update("1", "0-3"), update("2", "0-3")]);
    }

    #[test]
    fn who_runs_or_is_known_is_not_gone() {
        let (known, none) = (BTreeSet::from(["own".to_owned()]), BTreeSet::new());
        assert_eq!(gone(&assignments(), &known, &[]), [""; 0]);
        assert_eq!(gone(&assignments(), &none, &[listed("1", "own", false)]), [""; 0]);
        assert_eq!(gone(&assignments(), &none, &[listed("2", "other", true)]), ["own"]);
    }

    #[test]
    fn only_containers_of_pods_are_looked_at() {
        assert_eq!(Listed::of(&proto::Container::default()), None);
        let labels = [(names::POD_UID, "p"), (names::CONTAINER_NAME, "c")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let container =
            proto::Container { id: "1".into(), labels: labels.into(), state: ContainerState::ContainerRunning.into(), ..Default::default() };
        assert_eq!(Listed::of(&container), Some(listed("1", "p", true)));
    }
}
