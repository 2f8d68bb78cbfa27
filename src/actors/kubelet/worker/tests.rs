use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;
use troupe_cri::names::PodIdentity;

use super::{
    machine::{Effect, PodMachine},
    observed::{ContainerView, Observed, RunState, SandboxView},
    plan::{Action, Failure, Memory, Plan, Situation, StopReason, Stopping, Verdict, plan},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod")
}

/// A pod's world, changed by actions as a runtime without surprises would.
struct World {
    pod: Pod,
    observed: Observed,
    memory: Memory,
    verdicts: BTreeMap<String, Verdict>,
    stopping: Option<Stopping>,
    serial: i64,
}

impl World {
    fn new(pod: Pod) -> Self {
        World { pod, observed: Observed::default(), memory: Memory::default(), verdicts: BTreeMap::new(), stopping: None, serial: 0 }
    }

    fn plan(&self, now: i64) -> Plan {
        plan(&Situation {
            pod: &self.pod,
            spec: self.pod.spec.as_ref().expect("a spec"),
            observed: &self.observed,
            verdicts: &self.verdicts,
            memory: &self.memory,
            stopping: self.stopping,
            now: at(now),
        })
    }

    fn apply(&mut self, action: &Action) {
        self.serial += 1;
        match action {
            Action::Prepare => self.memory.prepared = true,
            Action::CreateSandbox { attempt } => {
                let id = format!("s{attempt}");
                let sandbox = SandboxView { id, attempt: *attempt, ready: true, created_at: self.serial, ips: vec!["10.0.0.2".into()] };
                self.observed.sandboxes.push(sandbox);
            }
            Action::StartContainer { name, attempt } => {
                let id = format!("{name}-{attempt}");
                self.verdicts.insert(id.clone(), Verdict { started: true, ready: true, ..Verdict::default() });
                let sandbox = self.observed.sandbox().expect("containers need a sandbox").id.clone();
                let (attempt, created_at) = (*attempt, self.serial);
                let view = ContainerView { id, name: name.clone(), sandbox, attempt, state: RunState::Running, created_at, ..Default::default() };
                self.observed.containers.push(view);
            }
            Action::StopContainer { id, .. } => self.exit(id, 137),
            Action::StopSandbox { id } => self.observed.sandboxes.iter_mut().filter(|s| s.id == *id).for_each(|s| s.ready = false),
            Action::RemoveContainer { id } => self.observed.containers.retain(|container| container.id != *id),
            Action::RemoveSandbox { id } => self.observed.sandboxes.retain(|sandbox| sandbox.id != *id),
            Action::CleanUp => self.memory.cleaned = true,
        }
        self.observed.sort();
    }

    fn exit(&mut self, id: &str, code: i32) {
        for container in self.observed.containers.iter_mut().filter(|container| container.id == id) {
            container.state = RunState::Exited;
            container.exit_code = code;
        }
        self.verdicts.remove(id);
    }

    /// Plans and applies until nothing is left to do; gives all actions in order.
    fn settle(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..100 {
            let actions = self.plan(1_000_000).actions;
            if actions.is_empty() {
                return all;
            }
            actions.iter().for_each(|action| self.apply(action));
            all.extend(actions);
        }
        panic!("never settles: {all:#?}");
    }
}

fn start(name: &str, attempt: u32) -> Action {
    Action::StartContainer { name: name.into(), attempt }
}

#[test]
fn a_new_pod_gets_volumes_a_sandbox_and_its_containers_in_order() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})));
    assert_eq!(world.settle(), [Action::Prepare, Action::CreateSandbox { attempt: 0 }, start("a", 0), start("b", 0)]);
}

#[test]
fn init_containers_run_one_by_one_before_the_others() {
    let mut world = World::new(pod(json!({"initContainers": [{"name": "i"}, {"name": "side", "restartPolicy": "Always"}, {"name": "j"}],
        "containers": [{"name": "a"}]})));
    assert_eq!(world.settle().last(), Some(&start("i", 0)));
    world.exit("i-0", 0);
    assert_eq!(world.settle(), [start("side", 0), start("j", 0)]);
    world.exit("j-0", 0);
    assert_eq!(world.settle(), [start("a", 0)]);
}

#[test]
fn a_failed_init_container_of_a_pod_that_never_restarts_ends_it() {
    let mut world = World::new(pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]})));
    world.settle();
    world.exit("i-0", 1);
    let plan = world.plan(1_000_000);
    assert!(plan.finished && plan.actions.is_empty());
}

#[test]
fn a_crashed_container_restarts_at_once_and_then_backs_off() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}]})));
    world.settle();
    world.exit("a-0", 1);
    world.observed.containers[0].finished_at = 100_000_000_000;
    assert_eq!(world.plan(101).actions, [start("a", 1)]);
    let backoff = super::backoff::RestartBackoff { delay: SignedDuration::from_secs(10), updated: at(95) };
    world.memory.backoffs.insert("a".into(), backoff);
    let waiting = world.plan(101);
    assert!(waiting.actions.is_empty());
    assert_eq!(waiting.waiting["a"].message, "back-off 10s restarting failed container=a pod=p_n(u)");
    assert_eq!((waiting.wake_at, world.plan(110).actions), (Some(at(110)), vec![start("a", 1)]));
}

#[test]
fn restart_policies_decide_what_comes_back() {
    for (policy, code, comes_back) in [("Always", 0, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)] {
        let mut world = World::new(pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]})));
        world.settle();
        world.exit("a-0", code);
        let plan = world.plan(1_000_000);
        assert_eq!((!plan.actions.is_empty(), plan.finished), (comes_back, !comes_back), "{policy} {code}");
    }
}

#[test]
fn an_unhealthy_container_is_stopped_and_started_again() {
    let mut world = World::new(pod(json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a"}]})));
    world.settle();
    world.verdicts.insert("a-0".into(), Verdict { started: true, unhealthy: Some(StopReason::Liveness), ..Verdict::default() });
    let message = "Container a failed liveness probe, will be restarted".to_owned();
    let stop = Action::StopContainer { id: "a-0".into(), name: "a".into(), grace: 7, reason: StopReason::Liveness, message };
    assert_eq!(world.settle(), [stop, start("a", 1)]);
}

#[test]
fn a_lost_sandbox_is_replaced_and_init_containers_run_again() {
    let mut world = World::new(pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]})));
    world.settle();
    world.exit("i-0", 0);
    world.settle();
    world.apply(&Action::StopSandbox { id: "s0".into() });
    world.exit("a-0", 255);
    assert_eq!(world.settle(), [Action::CreateSandbox { attempt: 1 }, start("i", 1)]);
    world.exit("i-1", 0);
    assert_eq!(world.settle().first(), Some(&start("a", 1)));
}

#[test]
fn a_deleted_pod_leaves_nothing_and_sidecars_stop_last() {
    let mut world = World::new(pod(json!({"initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]})));
    world.settle();
    world.stopping = Some(Stopping { grace: 5, remove: true });
    let names = world.settle().into_iter().filter_map(|action| match action {
        Action::StopContainer { name, .. } => Some(name),
        _ => None,
    });
    assert_eq!(names.collect::<Vec<_>>(), ["a", "side"]);
    assert!(world.observed.is_empty() && world.memory.cleaned && world.plan(1_000_000).gone);
}

#[test]
fn a_shorter_grace_is_passed_on_to_a_stop_under_way() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}]})));
    world.settle();
    world.memory.stopping.insert("a-0".into(), 30);
    world.stopping = Some(Stopping { grace: 30, remove: true });
    assert!(world.plan(0).actions.is_empty());
    world.stopping = Some(Stopping { grace: 1, remove: true });
    assert_eq!(world.plan(0).actions.len(), 1);
}

#[test]
fn a_failed_pull_reads_err_image_pull_and_then_back_off() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a", "image": "x"}]})));
    world.settle();
    world.observed.containers.clear();
    let failure = Failure { reason: "ErrImagePull".into(), message: "no".into(), since: at(0), retry_at: at(10), count: 1 };
    world.memory.failures.insert("a".into(), failure);
    let reason = |second| world.plan(second).waiting["a"].reason.clone();
    assert_eq!((reason(1), reason(3)), ("ErrImagePull".into(), "ImagePullBackOff".into()));
    assert_eq!(world.plan(3).waiting["a"].message, "Back-off pulling image \"x\": ErrImagePull: no");
    assert_eq!(world.plan(10).actions, [start("a", 0)]);
}

#[test]
fn dead_containers_are_kept_for_one_previous_log() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}]})));
    world.settle();
    for attempt in 0..4 {
        world.exit(&format!("a-{attempt}"), 1);
        world.settle();
    }
    let kept: Vec<_> = world.observed.containers.iter().map(|container| container.attempt).collect();
    assert_eq!(kept, [4, 3]);
}

proptest! {
    /// Whatever happened to a pod: once all that is planned is done, nothing more is planned.
    #[test]
    fn an_applied_plan_leaves_nothing_to_plan(
        policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
        inits in 0_usize..3, sidecar in any::<bool>(), mains in 1_usize..4,
        exits in prop::collection::vec((0_usize..6, 0_i32..2), 0..6),
        sandbox_lost in any::<bool>(), stop in any::<Option<bool>>(),
    ) {
        let mut init: Vec<_> = (0..inits).map(|index| json!({"name": format!("i{index}")})).collect();
        if sidecar {
            init.push(json!({"name": "side", "restartPolicy": "Always"}));
        }
        let main: Vec<_> = (0..mains).map(|index| json!({"name": format!("m{index}")})).collect();
        let mut world = World::new(pod(json!({"restartPolicy": policy, "initContainers": init, "containers": main})));
        world.settle();
        for (which, code) in exits {
            let running: Vec<_> = world.observed.running().map(|container| container.id.clone()).collect();
            if let Some(id) = running.get(which % running.len().max(1)) {
                world.exit(id, code);
            }
            world.settle();
        }
        if sandbox_lost && !world.observed.sandboxes.is_empty() {
            world.observed.sandboxes[0].ready = false;
            world.settle();
        }
        world.stopping = stop.map(|remove| Stopping { grace: 3, remove });
        world.settle();
        prop_assert!(world.plan(1_000_000).actions.is_empty());
        if stop == Some(true) {
            prop_assert!(world.observed.is_empty() && world.plan(1_000_000).gone);
        }
    }
}

#[test]
fn a_runtime_that_does_not_answer_is_asked_once_a_second() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    let at = |milliseconds: i64| Timestamp::from_millisecond(milliseconds).expect("a time");
    let mut asked = 0;
    for milliseconds in (0..5_000).step_by(10) {
        machine.stir();
        if machine.advance(at(milliseconds)).contains(&Effect::Observe) {
            asked += 1;
            machine.observed(None, BTreeMap::new(), at(milliseconds));
            assert!(!machine.advance(at(milliseconds)).contains(&Effect::Observe), "not at once");
            assert_eq!(machine.wake_at(), Some(at(milliseconds + 1_000)), "it asks again by itself");
        }
    }
    assert_eq!(asked, 5);
}

#[test]
fn a_runtime_is_asked_again_although_the_clock_was_set_back() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    assert!(machine.advance(at(10_000)).contains(&Effect::Observe));
    machine.observed(None, BTreeMap::new(), at(10_000));
    assert!(machine.advance(at(6_400)).contains(&Effect::Observe), "an hour earlier, by the clock");
    machine.observed(None, BTreeMap::new(), at(6_400));
    assert!(machine.advance(at(10_000)).contains(&Effect::Observe), "and when it is set forward");
}
