//! What must hold at each step, whatever gets lost: looked at when a container is started or stopped, when a pod's phase is told, and when a
//! pod leaves the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, PodSpec};
use parking_lot::Mutex;
use troupe_cri::proto::ContainerState;

use crate::kubelet::worker::plan::LEAST_GRACE;

/// A container as the runtime has it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub sandbox: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub exit_code: i32,
}

impl Seen {
    pub fn runs(&self) -> bool {
        self.state == ContainerState::ContainerRunning
    }

    fn succeeded(&self) -> bool {
        self.state == ContainerState::ContainerExited && self.exit_code == 0
    }
}

/// Sees every step and notes what is wrong.
#[derive(Default)]
pub struct Judge(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    /// By uid.
    specs: BTreeMap<String, PodSpec>,
    /// The attempts that were started, by uid and container.
    started: BTreeMap<(String, String), BTreeSet<u32>>,
    /// Containers that were started, by sandbox and name.
    begun: BTreeSet<(String, String)>,
    /// Pods that were told to have ended for good, by uid.
    ended: BTreeSet<String>,
    /// Pods that somebody deleted, by uid.
    deleted: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Judge {
    /// A pod was made.
    pub fn made(&self, uid: &str, spec: PodSpec) {
        self.0.lock().specs.insert(uid.to_owned(), spec);
    }

    /// Somebody deleted a pod.
    pub fn deleted(&self, uid: &str) {
        self.0.lock().deleted.insert(uid.to_owned());
    }

    /// A container begins to run; `all` are the pod's containers before that.
    pub fn starts(&self, uid: &str, id: &str, all: &[Seen]) {
        let Some(starting) = all.iter().find(|seen| seen.id == id) else { return };
        let mut notes = self.0.lock();
        let times = notes.started.entry((uid.to_owned(), starting.name.clone())).or_default();
        let is_new = times.insert(starting.attempt);
        let times = times.len();
        let mut wrong = Vec::new();
        if !is_new {
            wrong.push("its attempt was started before".to_owned());
        }
        if all.iter().any(|other| other.name == starting.name && other.runs()) {
            wrong.push("it runs already".to_owned());
        }
        if notes.ended.contains(uid) {
            wrong.push("the pod has ended".to_owned());
        }
        if let Some(spec) = notes.specs.get(uid) {
            wrong.extend(restarted(spec, starting, all, times));
            wrong.extend(lacks(spec, starting, all, &notes.begun));
        }
        notes.begun.insert((starting.sandbox.clone(), starting.name.clone()));
        notes.wrong.extend(wrong.into_iter().map(|why| format!("{} {} of {uid} is started, but {why}", starting.name, starting.attempt)));
    }

    /// The kubelet ends a container of a pod whose `ready` sandboxes are these, within some time.
    pub fn stops(&self, uid: &str, id: &str, all: &[Seen], ready: &[String], within: Duration) {
        let Some(stopping) = all.iter().find(|seen| seen.id == id && seen.runs()) else { return };
        let mut notes = self.0.lock();
        let Some(spec) = notes.specs.get(uid) else { return };
        let is_sidecar = spec.init_containers.iter().flatten().any(|container| container.name == stopping.name && is_sidecar(container));
        // Where the sandbox is replaced all of it goes at once, and when the pod's time is over nobody waits for others.
        let is_over = within <= Duration::from_secs(LEAST_GRACE);
        if !is_sidecar || is_over || ready != std::slice::from_ref(&stopping.sandbox) {
            return;
        }
        let main = |seen: &&Seen| seen.runs() && spec.containers.iter().any(|container| container.name == seen.name);
        if let Some(main) = all.iter().find(main) {
            let why = format!("sidecar {} of {uid} is stopped while {} runs", stopping.name, main.name);
            notes.wrong.push(why);
        }
    }

    /// The API is told a pod's phase.
    pub fn told(&self, uid: &str, phase: &str, all: &[Seen]) {
        let mut notes = self.0.lock();
        let is_end = matches!(phase, "Succeeded" | "Failed");
        if is_end && let Some(running) = all.iter().find(|seen| seen.runs()) {
            notes.wrong.push(format!("{uid} is {phase} while {} runs", running.name));
        }
        if !is_end && notes.ended.contains(uid) {
            notes.wrong.push(format!("{uid} had ended and is {phase}"));
        }
        if is_end {
            notes.ended.insert(uid.to_owned());
        }
    }

    /// The kubelet removes a pod from the API.
    pub fn leaves(&self, uid: &str, all: &[Seen]) {
        let mut notes = self.0.lock();
        if !notes.deleted.contains(uid) {
            notes.wrong.push(format!("{uid} leaves the API, but nobody deleted it"));
        }
        if let Some(running) = all.iter().find(|seen| seen.runs()) {
            notes.wrong.push(format!("{uid} leaves the API while {} runs", running.name));
        }
    }

    /// How often a container of a pod was started.
    pub fn times(&self, uid: &str, container: &str) -> usize {
        self.0.lock().started.get(&(uid.to_owned(), container.to_owned())).map_or(0, BTreeSet::len)
    }

    /// What should not have happened.
    pub fn wrong(&self) -> Vec<String> {
        self.0.lock().wrong.clone()
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Why a container must not be started again, if so. `times` counts this start.
fn restarted(spec: &PodSpec, starting: &Seen, all: &[Seen], times: usize) -> Option<String> {
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let init = spec.init_containers.iter().flatten().find(|container| container.name == starting.name);
    if init.is_some_and(is_sidecar) {
        return None;
    }
    if policy == "Never" && times > 1 {
        return Some(format!("it never restarts, and this is start {times}"));
    }
    let mut succeeded = all.iter().filter(|seen| seen.name == starting.name && seen.succeeded());
    let is_done = match init {
        // Another sandbox has to be initialized anew.
        Some(_) => succeeded.any(|seen| seen.sandbox == starting.sandbox),
        None => policy == "OnFailure" && succeeded.next().is_some(),
    };
    is_done.then(|| "it had succeeded".to_owned())
}

/// What an earlier init container lacks, if anything: ordinary ones have succeeded in this sandbox, sidecars have begun in it.
fn lacks(spec: &PodSpec, starting: &Seen, all: &[Seen], begun: &BTreeSet<(String, String)>) -> Option<String> {
    let earlier = spec.init_containers.iter().flatten().take_while(|container| container.name != starting.name);
    for container in earlier {
        let mut own = all.iter().filter(|seen| seen.name == container.name && seen.sandbox == starting.sandbox);
        if is_sidecar(container) {
            if !begun.contains(&(starting.sandbox.clone(), container.name.clone())) {
                return Some(format!("{} has not begun", container.name));
            }
        } else if !own.any(Seen::succeeded) {
            return Some(format!("{} has not succeeded", container.name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> Seen {
        Seen { id: format!("{name}-{attempt}"), name: name.into(), sandbox: "s".into(), attempt, state, exit_code }
    }

    fn judge(policy: &str) -> Judge {
        let judge = Judge::default();
        let init = json!([{"name": "side", "restartPolicy": "Always"}, {"name": "init"}]);
        let spec = json!({"restartPolicy": policy, "initContainers": init, "containers": [{"name": "main"}]});
        judge.made("u", serde_json::from_value(spec).expect("a spec"));
        judge
    }

    const CREATED: ContainerState = ContainerState::ContainerCreated;
    const RUNNING: ContainerState = ContainerState::ContainerRunning;
    const EXITED: ContainerState = ContainerState::ContainerExited;

    #[test]
    fn containers_start_in_order_and_once() {
        let judge = judge("Never");
        let side = seen("side", 0, RUNNING, 0);
        judge.starts("u", "side-0", &[Seen { state: CREATED, ..side.clone() }]);
        judge.starts("u", "init-0", &[side.clone(), seen("init", 0, CREATED, 0)]);
        let done = [side.clone(), seen("init", 0, EXITED, 0), seen("main", 0, CREATED, 0)];
        judge.starts("u", "main-0", &done);
        assert_eq!(judge.wrong(), Vec::<String>::new());
        judge.starts("u", "main-1", &[side, seen("init", 0, RUNNING, 0), seen("main", 0, RUNNING, 0), seen("main", 1, CREATED, 0)]);
        let wrong = judge.wrong().join("\n");
        for why in ["it runs already", "it never restarts", "init has not succeeded"] {
            assert!(wrong.contains(why), "{why} in {wrong}");
        }
        assert_eq!((judge.times("u", "main"), judge.wrong().len()), (2, 3));
        judge.starts("u", "main-0", &done);
        assert!(judge.wrong().iter().any(|why| why.contains("its attempt was started before")));
    }

    #[test]
    fn what_succeeded_stays_so_and_sidecars_go_last() {
        let judge = judge("OnFailure");
        let (side, init) = (seen("side", 0, CREATED, 0), seen("init", 0, EXITED, 0));
        judge.starts("u", "side-0", std::slice::from_ref(&side));
        judge.starts("u", "main-1", &[init.clone(), seen("main", 0, EXITED, 1), seen("main", 1, CREATED, 0)]);
        assert_eq!(judge.wrong(), Vec::<String>::new());
        judge.starts("u", "main-2", &[init, seen("main", 1, EXITED, 0), seen("main", 2, CREATED, 0)]);
        let running = [Seen { state: RUNNING, ..side }, seen("main", 2, RUNNING, 0)];
        judge.stops("u", "side-0", &running, &["s".to_owned()], Duration::from_secs(LEAST_GRACE));
        judge.stops("u", "side-0", &running, &["s".to_owned()], Duration::from_secs(3));
        judge.told("u", "Succeeded", &running);
        judge.told("u", "Running", &running);
        judge.leaves("u", &running);
        judge.starts("u", "side-1", &[seen("side", 1, CREATED, 0)]);
        let wrong = judge.wrong();
        assert_eq!(wrong.len(), 7, "{wrong:#?}");
    }
}
