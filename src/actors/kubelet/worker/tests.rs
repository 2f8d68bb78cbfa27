mod ephemeral;
mod hooks;
mod resize;
mod restarts;
mod settled;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;
use troupe_cri::names::PodIdentity;

use super::{
    apply::{StepFailure, VOLUMES_MISSING},
    machine::{Effect, PodMachine},
    observed::{ContainerView, Observed, RunState, SandboxView},
    plan::{Action, Failure, Memory, Plan, Situation, StopReason, Stopping, Verdict, find_container, plan},
};
use crate::kubelet::{
    resize::{Actuated, Amounts},
    status::{Evicted, PREEMPTING, PodFailure, TERMINATED},
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
        let memory = Memory { actuated: Some(Actuated::as_specified(&pod)), ..Memory::default() };
        World { pod, observed: Observed::default(), memory, verdicts: BTreeMap::new(), stopping: None, serial: 0 }
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
                let spec = self.pod.spec.as_ref().expect("a spec");
                if let Some(container) = find_container(spec, name) {
                    self.memory.actuated.get_or_insert_default().containers.insert(name.clone(), Amounts::of(container, spec));
                }
                let sandbox = self.observed.sandbox().expect("containers need a sandbox").id.clone();
                let (attempt, created_at) = (*attempt, self.serial);
                let view = ContainerView { id, name: name.clone(), sandbox, attempt, state: RunState::Running, created_at, ..Default::default() };
                self.observed.containers.push(view);
            }
            Action::RunPreStop { id, .. } => drop(self.memory.hooks.insert(id.clone(), true)),
            Action::StopContainer { id, reason, .. } => {
                if *reason == StopReason::Resized {
                    self.memory.replacing.insert(id.clone());
                }
                self.exit(id, 137);
            }
            Action::Resize => self.memory.actuated = Some(Actuated::as_specified(&self.pod)),
            Action::StopSandbox { id } => self.observed.sandboxes.iter_mut().filter(|s| s.id == *id).for_each(|s| s.ready = false),
            Action::RemoveContainer { id, .. } => self.observed.containers.retain(|container| container.id != *id),
            Action::RemoveSandbox { id } => self.observed.sandboxes.retain(|sandbox| sandbox.id != *id),
            Action::CleanUp { logs } => {
                self.memory.cleaned = true;
                self.memory.forgotten |= logs;
            }
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
fn the_first_restart_reads_as_an_end_and_later_ones_as_waiting_until_they_run() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}]})));
    world.settle();
    world.exit("a-0", 1);
    world.observed.containers[0].finished_at = 100_000_000_000;
    assert!(world.plan(101).waiting.is_empty());
    (world.memory.busy, world.memory.starting) = (true, Some(("a".to_owned(), 1)));
    let backoff = |seconds| super::backoff::RestartBackoff { delay: SignedDuration::from_secs(seconds), updated: at(101) };
    world.memory.backoffs.insert("a".into(), backoff(10));
    assert!(world.plan(101).waiting.is_empty(), "it is being started");
    world.memory.backoffs.insert("a".into(), backoff(20));
    assert_eq!(world.plan(101).waiting["a"].reason, "CrashLoopBackOff");
    (world.memory.busy, world.memory.starting) = (false, None);
    let due = world.plan(120);
    assert_eq!(due.waiting["a"].reason, "CrashLoopBackOff");
    assert_eq!(due.actions, [start("a", 1)]);
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

/// Sidecars with preStop hooks beside a main container, all running.
fn with_hooks() -> World {
    let hook = json!({"preStop": {"sleep": {"seconds": 1}}});
    let sidecar = |name: &str| json!({"name": name, "restartPolicy": "Always", "lifecycle": hook});
    let mut world = World::new(pod(json!({"initContainers": [sidecar("one"), sidecar("two")], "containers": [{"name": "a"}]})));
    world.settle();
    world.stopping = Some(Stopping { grace: 30, remove: true });
    world
}

fn turn(name: &str, grace: u64) -> Action {
    Action::StopContainer { id: format!("{name}-0"), name: name.into(), grace, reason: StopReason::Turn, message: String::new() }
}

#[test]
fn hooks_of_sidecars_run_at_once_and_signals_follow_in_turn_within_one_grace_period() {
    let mut world = with_hooks();
    let begun = world.plan(100);
    let hooks =
        begun.actions.iter().filter_map(|action| if let Action::RunPreStop { name, grace, .. } = action { Some((&**name, *grace)) } else { None });
    assert_eq!(hooks.collect::<Vec<_>>(), [("two", 30), ("one", 30)]);
    assert!(matches!(&begun.actions[0], Action::StopContainer { name, grace: 30, .. } if name == "a"), "{begun:?}");
    assert_eq!((begun.actions.len(), begun.wake_at), (3, Some(at(130))));
    world.memory.stop_began = Some(at(100));
    world.memory.stopping.insert("a-0".into(), 30);
    world.memory.hooks = [("one-0".to_owned(), true), ("two-0".to_owned(), false)].into();
    assert_eq!(world.plan(101).actions, [], "the main container still runs");
    world.exit("a-0", 0);
    assert_eq!(world.plan(105).actions, [], "so does the hook of the one that stops first");
    world.memory.hooks.insert("two-0".into(), true);
    assert_eq!(world.plan(110).actions, [turn("two", 20)]);
    world.memory.stopping.insert("two-0".into(), 30);
    assert_eq!(world.plan(111).actions, [], "it is under way");
    world.exit("two-0", 0);
    assert_eq!(world.plan(129).actions, [turn("one", 2)], "nobody has less than two seconds");
}

#[test]
fn sidecars_wait_no_longer_than_the_grace_period() {
    let mut world = with_hooks();
    world.memory.stop_began = Some(at(100));
    world.memory.stopping.insert("a-0".into(), 30);
    world.memory.hooks = [("one-0".to_owned(), false), ("two-0".to_owned(), false)].into();
    assert_eq!(world.plan(129).actions, []);
    assert_eq!(world.plan(130).actions, [turn("two", 2), turn("one", 2)]);
    world.stopping = Some(Stopping { grace: 0, remove: true });
    let killed = world.plan(101).actions;
    assert!(
        matches!(&killed[..], [Action::StopContainer { grace: 0, .. }, two, one] if *two == turn("two", 0) && *one == turn("one", 0)),
        "{killed:?}"
    );
}

#[test]
fn a_stop_that_failed_is_tried_again_after_a_moment() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}]})));
    world.settle();
    world.stopping = Some(Stopping { grace: 30, remove: true });
    let failure = |reason: &str| Failure { reason: reason.into(), message: String::new(), since: at(100), retry_at: at(102), count: 1 };
    let stops = |plan: &Plan| matches!(&plan.actions[..], [Action::StopContainer { .. }]);
    world.memory.failures.insert(String::new(), failure("FailedKillPod"));
    let held = world.plan(101);
    assert_eq!((held.actions, held.wake_at), (Vec::new(), Some(at(102))));
    assert!(stops(&world.plan(102)));
    world.memory.failures.insert(String::new(), failure("FailedMount"));
    assert!(stops(&world.plan(101)), "nothing else holds it up");
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
fn containers_whose_images_are_there_do_not_wait_behind_pulls_that_fail() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]})));
    world.memory.prepared = true;
    world.apply(&Action::CreateSandbox { attempt: 0 });
    let failure = |since| Failure { reason: "ErrImagePull".into(), message: "no".into(), since: at(since), retry_at: at(since + 10), count: 1 };
    world.memory.failures.insert("a".into(), failure(0));
    world.memory.failures.insert("b".into(), failure(10));
    assert_eq!(world.plan(20).actions, [start("c", 0)], "it was never tried");
    world.apply(&start("c", 0));
    assert_eq!(world.plan(20).actions, [start("a", 0)]);
    world.memory.failures.insert("a".into(), failure(30));
    assert_eq!(world.plan(40).actions, [start("b", 0)], "now it is the other's turn");
}

#[test]
fn a_pull_that_waits_is_told_of_once_each_time() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    machine.spec(Arc::new(pod(json!({"containers": [{"name": "a", "image": "x"}]}))));
    let sandboxes = vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }];
    let seen = Observed { sandboxes, containers: Vec::new() };
    let mut notes = |second| {
        let mut told = Vec::new();
        for _ in 0..8 {
            for effect in machine.advance(at(second)) {
                match effect {
                    Effect::Observe => machine.observed(Some(seen.clone()), BTreeMap::new(), at(second)),
                    Effect::Take(action @ Action::StartContainer { .. }) => {
                        machine.done(&action, Err(StepFailure::new("ErrImagePull", "no")), at(second));
                    }
                    Effect::Take(action) => machine.done(&action, Ok(()), at(second)),
                    Effect::Note(note) => told.push(format!("{}: {}", note.reason, note.message)),
                    _ => {}
                }
            }
        }
        told
    };
    let waits = ["BackOff: Back-off pulling image \"x\"", "Failed: Error: ImagePullBackOff"];
    assert!(notes(1).is_empty());
    assert_eq!(notes(4), waits);
    assert!(notes(6).is_empty());
    assert!(notes(12).is_empty(), "it is tried again and fails");
    assert_eq!(notes(15), waits);
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
        machine.look_again();
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

#[test]
fn a_container_that_lost_a_volume_is_restarted_unless_it_would_not_come_back() {
    let spec = |policy: &str| {
        let mounts = json!([{"name": "v", "mountPath": "/v"}]);
        pod(json!({"restartPolicy": policy, "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "a", "volumeMounts": mounts}, {"name": "b"}]}))
    };
    let mut world = World::new(spec("Always"));
    world.settle();
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    machine.spec(std::sync::Arc::new(world.pod.clone()));
    machine.observed(Some(world.observed.clone()), BTreeMap::new(), at(1));
    assert!(machine.restored(&BTreeSet::from(["other".to_owned()])).is_none());
    assert!(machine.restored(&BTreeSet::from(["v".to_owned()])).is_some_and(|note| note.message.contains("\"v\"")));
    world.memory.lost.insert("a-0".into(), "v".into());
    let stop = world.plan(1).actions;
    assert!(matches!(&stop[..], [Action::StopContainer { id, message, .. }] if id == "a-0" && message.contains("lost volume \"v\"")), "{stop:?}");
    assert_eq!(world.settle().last(), Some(&start("a", 1)));
    for policy in ["Never", "OnFailure"] {
        let mut world = World::new(spec(policy));
        world.settle();
        world.memory.lost.insert("a-0".into(), "v".into());
        assert_eq!(world.plan(1).actions, [], "{policy}");
    }
}

#[test]
fn volumes_that_are_missing_are_set_up_before_a_container_starts() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}]})));
    let steps = |effects: Vec<Effect>| effects.into_iter().find_map(|effect| if let Effect::Take(action) = effect { Some(action) } else { None });
    machine.spec(std::sync::Arc::new(world.pod.clone()));
    let mut now = 1;
    let mut next = |machine: &mut PodMachine, world: &World| {
        now += 1;
        machine.advance(at(now));
        machine.observed(Some(world.observed.clone()), BTreeMap::new(), at(now));
        let action = steps(machine.advance(at(now)));
        (action, at(now))
    };
    for wanted in [Action::Prepare, Action::CreateSandbox { attempt: 0 }] {
        let (action, when) = next(&mut machine, &world);
        assert_eq!(action.as_ref(), Some(&wanted));
        world.apply(&wanted);
        machine.done(&wanted, Ok(()), when);
    }
    let (action, when) = next(&mut machine, &world);
    assert_eq!(action, Some(start("a", 0)));
    let gone = StepFailure::new(VOLUMES_MISSING, "volumes are missing");
    machine.done(&start("a", 0), Err(gone), when);
    let (action, when) = next(&mut machine, &world);
    assert_eq!(action, Some(Action::Prepare));
    machine.done(&Action::Prepare, Ok(()), when);
    let (action, _) = next(&mut machine, &world);
    assert_eq!(action, Some(start("a", 0)));
}

#[test]
fn an_evicted_pod_is_killed_at_once_and_leaves_nothing_but_its_object() {
    let mut machine =
        PodMachine::new(PodIdentity { namespace: "n".into(), name: "p".into(), uid: "u".into() }, Vec::new(), "containerd", BTreeMap::new());
    let running = pod(json!({"terminationGracePeriodSeconds": 3600, "containers": [{"name": "a"}]}));
    machine.spec(Arc::new(running.clone()));
    let container = |state| ContainerView { id: "a-0".into(), name: "a".into(), sandbox: "s".into(), state, ..ContainerView::default() };
    let sandbox = |ready| SandboxView { id: "s".into(), ready, ..SandboxView::default() };
    let mut second = 0;
    let mut next = |machine: &mut PodMachine, sandboxes: Vec<SandboxView>, containers: Vec<ContainerView>| {
        second += 1;
        machine.look_again();
        let mut effects = machine.advance(at(second));
        machine.observed(Some(Observed { sandboxes, containers }), BTreeMap::new(), at(second));
        effects.extend(machine.advance(at(second)));
        effects
    };
    next(&mut machine, vec![sandbox(true)], vec![container(RunState::Running)]);
    machine.done(&Action::Prepare, Ok(()), at(1));
    let evicted = Some(Evicted { disruption: true, grace: 0, stays: false });
    machine.fail_pod(PodFailure { reason: "Evicted".into(), message: "Too much. ".into(), rejected: false, evicted });
    assert!(!machine.is_open());
    let effects = next(&mut machine, vec![sandbox(true)], vec![container(RunState::Running)]);
    let stops = |effect: &Effect| matches!(effect, Effect::Take(Action::StopContainer { grace: 0, .. }));
    assert!(effects.iter().any(stops), "{effects:?}");
    let status = effects.iter().find_map(|effect| if let Effect::Publish(status) = effect { Some(status.clone()) } else { None });
    let status = status.expect("it is told at once");
    assert_eq!((status.phase.as_deref(), status.reason.as_deref(), status.message.as_deref()), (Some("Failed"), Some("Evicted"), Some("Too much. ")));
    let disruption = status.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionTarget").expect("a condition");
    assert_eq!((disruption.status.as_str(), disruption.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    // A kubelet that is started now knows it by its status.
    let shown = Pod { status: Some(*status), ..running };
    let mut later = PodMachine::new(machine.id.clone(), Vec::new(), "containerd", BTreeMap::new());
    later.spec(Arc::new(shown.clone()));
    for machine in [&mut machine, &mut later] {
        machine.spec(Arc::new(shown.clone()));
        next(machine, vec![sandbox(false)], vec![container(RunState::Exited)]);
        let effects = next(machine, vec![sandbox(false)], vec![container(RunState::Exited)]);
        let all = format!("{:?}", machine.waits_for()) + &format!("{effects:?}");
        assert!(all.contains("container a to be removed"), "{all}");
        machine.done(&Action::RemoveContainer { id: "a-0".into(), keep_log: false }, Ok(()), at(40));
        next(machine, Vec::new(), Vec::new());
        machine.done(&Action::CleanUp { logs: true }, Ok(()), at(40));
        let effects = next(machine, Vec::new(), Vec::new());
        assert!(!effects.contains(&Effect::Finish), "it stays to be seen: {effects:?}");
    }
    let mut deleted = shown;
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(50)));
    machine.spec(Arc::new(deleted));
    let effects = next(&mut machine, Vec::new(), Vec::new());
    assert!(effects.contains(&Effect::Finish), "{effects:?}");
}

#[test]
fn a_pod_that_is_evicted_with_time_to_end_has_failed_when_it_has_ended() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "containerd", BTreeMap::new());
    machine.spec(Arc::new(pod(json!({"terminationGracePeriodSeconds": 3600, "containers": [{"name": "a"}]}))));
    let container = |state| ContainerView { id: "a-0".into(), name: "a".into(), sandbox: "s".into(), state, ..ContainerView::default() };
    let next = |machine: &mut PodMachine, second, state| {
        machine.look_again();
        let mut effects = machine.advance(at(second));
        let sandboxes = vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }];
        machine.observed(Some(Observed { sandboxes, containers: vec![container(state)] }), BTreeMap::new(), at(second));
        effects.extend(machine.advance(at(second)));
        effects
    };
    let phase = |effects: &[Effect]| {
        let told = effects.iter().rev().find_map(|effect| if let Effect::Publish(status) = effect { Some(status.clone()) } else { None });
        told.map(|status| (status.phase.unwrap_or_default(), status.reason.unwrap_or_default()))
    };
    next(&mut machine, 1, RunState::Running);
    machine.done(&Action::Prepare, Ok(()), at(1));
    let evicted = Some(Evicted { disruption: true, grace: 7, stays: false });
    machine.fail_pod(PodFailure { reason: "Evicted".into(), message: "Too much. ".into(), rejected: false, evicted });
    let effects = next(&mut machine, 2, RunState::Running);
    let stops = |effect: &Effect| matches!(effect, Effect::Take(Action::StopContainer { grace: 7, .. }));
    assert!(effects.iter().any(stops), "{effects:?}");
    assert!(phase(&effects).is_none_or(|(phase, reason)| (phase.as_str(), reason.as_str()) == ("Running", "")), "{effects:?}");
    let effects = next(&mut machine, 5, RunState::Exited);
    assert_eq!(phase(&effects), Some(("Failed".to_owned(), "Evicted".to_owned())), "{effects:?}");
}

#[test]
fn a_pod_that_was_in_the_way_of_others_ends_as_its_containers_do() {
    let end = |reason: &str, exit_code: i32| {
        let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "containerd", BTreeMap::new());
        machine.spec(Arc::new(pod(json!({"containers": [{"name": "a"}]}))));
        let next = |machine: &mut PodMachine, second, state| {
            machine.look_again();
            let mut effects = machine.advance(at(second));
            let sandboxes = vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }];
            let container = ContainerView { id: "a-0".into(), name: "a".into(), sandbox: "s".into(), state, exit_code, ..ContainerView::default() };
            machine.observed(Some(Observed { sandboxes, containers: vec![container] }), BTreeMap::new(), at(second));
            effects.extend(machine.advance(at(second)));
            effects
        };
        next(&mut machine, 1, RunState::Running);
        machine.done(&Action::Prepare, Ok(()), at(1));
        let evicted = Some(Evicted { disruption: true, grace: 7, stays: true });
        machine.fail_pod(PodFailure { reason: reason.into(), message: "Why".into(), rejected: false, evicted });
        next(&mut machine, 2, RunState::Running);
        let effects = next(&mut machine, 5, RunState::Exited);
        let told = effects.iter().rev().find_map(|effect| if let Effect::Publish(status) = effect { Some(status.clone()) } else { None });
        let status = told.expect("its end is told");
        let disruption = status.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionTarget");
        let message = disruption.and_then(|condition| condition.message.clone()).unwrap_or_default();
        (status.phase.unwrap_or_default(), status.reason.unwrap_or_default(), message)
    };
    let of = |phase: &str, reason: &str, message: &str| (phase.to_owned(), reason.to_owned(), message.to_owned());
    assert_eq!(end(TERMINATED, 0), of("Succeeded", "", "Why"));
    assert_eq!(end(TERMINATED, 143), of("Failed", "Terminated", "Why"));
    assert_eq!(end(PREEMPTING, 137), of("Failed", "Preempting", "Pod was preempted by Kubelet to accommodate a critical pod."));
}

/// What a worker does that looks once more and finds its container `a` running.
fn seen_to_run(machine: &mut PodMachine, second: i64) -> Vec<Effect> {
    machine.look_again();
    let mut effects = machine.advance(at(second));
    let sandboxes = vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }];
    let running = ContainerView { id: "a-0".into(), name: "a".into(), sandbox: "s".into(), state: RunState::Running, ..ContainerView::default() };
    machine.observed(Some(Observed { sandboxes, containers: vec![running] }), BTreeMap::new(), at(second));
    effects.extend(machine.advance(at(second)));
    effects
}

#[test]
fn a_pod_that_was_granted_time_is_killed_when_none_is_left() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "containerd", BTreeMap::new());
    machine.spec(Arc::new(pod(json!({"terminationGracePeriodSeconds": 3600, "containers": [{"name": "a"}]}))));
    let evicted = |grace| {
        let evicted = Some(Evicted { disruption: true, grace, stays: false });
        PodFailure { reason: "Evicted".into(), message: "Too much. ".into(), rejected: false, evicted }
    };
    seen_to_run(&mut machine, 1);
    machine.done(&Action::Prepare, Ok(()), at(1));
    assert!(!machine.is_hurried_by(&evicted(7)), "it was not evicted yet");
    machine.fail_pod(evicted(600));
    seen_to_run(&mut machine, 2);
    assert!(!machine.is_hurried_by(&evicted(600)) && machine.is_hurried_by(&evicted(0)));
    machine.fail_pod(evicted(0));
    let effects = seen_to_run(&mut machine, 3);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Take(Action::StopContainer { grace: 0, .. }))), "{effects:?}");
    machine.fail_pod(evicted(600));
    assert!(!machine.is_hurried_by(&evicted(0)), "what was taken is not given back");
}

#[test]
fn a_pod_that_is_past_its_deadline_has_no_more_time_than_its_node() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "containerd", BTreeMap::new());
    machine.spec(Arc::new(pod(json!({"terminationGracePeriodSeconds": 3600, "containers": [{"name": "a"}]}))));
    let next = |machine: &mut PodMachine, second| {
        let grace = |effect: Effect| if let Effect::Take(Action::StopContainer { grace, .. }) = effect { Some(grace) } else { None };
        seen_to_run(machine, second).into_iter().filter_map(grace).collect::<Vec<u64>>()
    };
    let failure = |reason: &str, rejected, evicted| PodFailure { reason: reason.into(), message: String::new(), rejected, evicted };
    let ending = |grace| failure(TERMINATED, false, Some(Evicted { disruption: true, grace, stays: true }));
    next(&mut machine, 1);
    machine.done(&Action::Prepare, Ok(()), at(1));
    machine.fail_pod(failure("DeadlineExceeded", false, None));
    assert_eq!(next(&mut machine, 2), [3600]);
    assert!(machine.is_hurried_by(&ending(5)));
    machine.fail_pod(ending(5));
    assert_eq!((next(&mut machine, 3), machine.is_hurried_by(&ending(5))), (vec![5], false));
    let mut refused = PodMachine::new(PodIdentity::default(), Vec::new(), "containerd", BTreeMap::new());
    refused.fail_pod(failure("SysctlForbidden", true, None));
    assert!(!refused.is_hurried_by(&ending(5)), "it never began");
}

#[test]
fn a_container_that_the_runtime_forgot_goes_on_counting_where_the_api_saw_it_last() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "containerd", [("b".to_owned(), 9)].into());
    let mut restarted = pod(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}));
    let statuses = json!([
        {"name": "a", "restartCount": 4, "containerID": "containerd://x", "image": "", "imageID": "", "ready": true, "state": {"running": {}}},
        {"name": "b", "restartCount": 4, "containerID": "containerd://y", "image": "", "imageID": "", "ready": true},
        {"name": "c", "restartCount": 0, "image": "", "imageID": "", "ready": false},
    ]);
    restarted.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": statuses})).expect("a status");
    machine.spec(Arc::new(restarted));
    machine.look_again();
    machine.advance(at(1));
    let sandbox = SandboxView { id: "s".into(), ready: true, ..SandboxView::default() };
    machine.observed(Some(Observed { sandboxes: vec![sandbox], containers: Vec::new() }), BTreeMap::new(), at(1));
    machine.advance(at(1));
    machine.done(&Action::Prepare, Ok(()), at(1));
    let mut started = Vec::new();
    for second in 2..10 {
        machine.advance(at(second));
        machine.observed(
            Some(Observed { sandboxes: vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }], containers: Vec::new() }),
            BTreeMap::new(),
            at(second),
        );
        for effect in machine.advance(at(second)) {
            if let Effect::Take(Action::StartContainer { name, attempt }) = effect {
                let action = Action::StartContainer { name: name.clone(), attempt };
                started.push((name, attempt));
                machine.done(&action, Ok(()), at(second));
            }
        }
    }
    assert_eq!(started.first(), Some(&("a".to_owned(), 5)), "one more than the API told: {started:?}");
}
