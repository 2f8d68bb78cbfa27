use std::sync::Arc;

use super::*;
use crate::kubelet::{
    resize::{
        Actuated, PodAllocation,
        allocation::{DEFERRED, Pending},
    },
    worker::resize::SUBJECT,
};

fn sized(name: &str, cpu: &str, restarts: bool) -> serde_json::Value {
    let policy = if restarts { "RestartContainer" } else { "NotRequired" };
    json!({"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}, {"resourceName": "memory", "restartPolicy": "RestartContainer"}]})
}

fn of(containers: &[serde_json::Value]) -> Pod {
    pod(json!({"restartPolicy": "Never", "containers": containers}))
}

#[test]
fn containers_that_need_no_restart_are_resized_in_one_step() {
    let mut world = World::new(of(&[sized("a", "1", false), sized("b", "1", false)]));
    world.settle();
    world.pod = of(&[sized("a", "2", false), sized("b", "1", false)]);
    assert_eq!(world.settle(), [Action::Resize]);
}

#[test]
fn a_container_that_has_to_restart_stops_before_the_rest_is_resized_and_comes_back_whatever_its_policy() {
    let mut world = World::new(of(&[sized("a", "1", true), sized("b", "1", false)]));
    world.settle();
    world.pod = of(&[sized("a", "2", true), sized("b", "3", false)]);
    let stop = Action::StopContainer {
        id: "a-0".into(),
        name: "a".into(),
        grace: 30,
        reason: StopReason::Resized,
        message: "Container a resize requires restart".into(),
    };
    assert_eq!(world.settle(), [stop, Action::Resize, start("a", 1)]);
    assert_eq!(world.pod.spec, of(&[sized("a", "2", true), sized("b", "3", false)]).spec);
}

#[test]
fn a_resize_that_fails_holds_nothing_else_up_and_is_tried_again() {
    let mut world = World::new(of(&[sized("a", "1", false), sized("b", "1", false)]));
    world.settle();
    world.pod = of(&[sized("a", "2", false), sized("b", "1", false)]);
    let failure = Failure { reason: "ResizeError".into(), message: "no".into(), since: at(1), retry_at: at(10), count: 1 };
    world.memory.failures.insert(SUBJECT.into(), failure);
    let plan = world.plan(5);
    assert_eq!((plan.actions.as_slice(), plan.wake_at), ([].as_slice(), Some(at(10))));
    assert_eq!(world.plan(11).actions, [Action::Resize]);
}

/// A machine whose pod has one running container.
fn machine(allocation: PodAllocation, pod: &Pod) -> PodMachine {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    machine.spec(Arc::new(allocation.allocated.applied_to(&Arc::new(pod.clone())).as_ref().clone()));
    machine.sized(Actuated::as_specified(machine.pod().expect("a pod")));
    machine.allocate(Some(Arc::new(allocation)));
    machine.done(&Action::Prepare, Ok(()), at(1));
    let sandbox = SandboxView { id: "s".into(), ready: true, ..Default::default() };
    let view = ContainerView { id: "a-0".into(), name: "a".into(), sandbox: "s".into(), state: RunState::Running, ..Default::default() };
    machine.observed(Some(Observed { sandboxes: vec![sandbox], containers: vec![view] }), BTreeMap::new(), at(2));
    machine
}

fn published(effects: &[Effect]) -> Option<&k8s_openapi::api::core::v1::PodStatus> {
    effects.iter().find_map(|effect| if let Effect::Publish(status) = effect { Some(&**status) } else { None })
}

/// Type, reason, message and observed generation.
type Shown = (String, Option<String>, Option<String>, Option<i64>);

fn conditions(effects: &[Effect]) -> Vec<Shown> {
    let all = published(effects).expect("a status").conditions.clone().expect("conditions");
    let resize = all.into_iter().filter(|condition| condition.type_.starts_with("PodResize"));
    resize.map(|condition| (condition.type_, condition.reason, condition.message, condition.observed_generation)).collect()
}

fn notes(effects: &[Effect]) -> Vec<String> {
    let note = |effect: &Effect| if let Effect::Note(note) = effect { Some(note.reason.clone()) } else { None };
    effects.iter().filter_map(note).collect()
}

fn with_generation(mut pod: Pod, generation: i64) -> Pod {
    pod.metadata.generation = Some(generation);
    pod
}

/// Goes on with the answer to an observation that changed nothing.
fn go_on(machine: &mut PodMachine, second: i64) -> Vec<Effect> {
    let seen = machine.seen().cloned();
    let mut effects = machine.advance(at(second));
    machine.observed(seen, BTreeMap::new(), at(second));
    effects.extend(machine.advance(at(second)));
    effects
}

#[test]
fn a_resize_is_told_from_its_beginning_over_errors_to_its_end() {
    let before = with_generation(of(&[sized("a", "1", false)]), 1);
    let mut machine = machine(PodAllocation::admitted(&before), &before);
    assert_eq!(conditions(&go_on(&mut machine, 3)), []);

    let after = with_generation(of(&[sized("a", "2", false)]), 2);
    machine.spec(Arc::new(after.clone()));
    machine.allocate(Some(Arc::new(PodAllocation::admitted(&after))));
    let effects = go_on(&mut machine, 4);
    assert_eq!(conditions(&effects), [("PodResizeInProgress".to_owned(), None, None, Some(2))]);
    assert!(effects.contains(&Effect::Take(Action::Resize)), "{effects:?}");

    machine.done(&Action::Resize, Err(StepFailure::new("ResizeError", "too much is used")), at(5));
    let effects = go_on(&mut machine, 5);
    let error = Some("too much is used".to_owned());
    assert_eq!(conditions(&effects), [("PodResizeInProgress".to_owned(), Some("Error".to_owned()), error, Some(2))]);
    assert_eq!(notes(&effects), ["ResizeError"]);

    let effects = go_on(&mut machine, 7);
    assert_eq!((notes(&effects), effects.contains(&Effect::Take(Action::Resize))), (Vec::new(), true));
    machine.sized(Actuated::as_specified(&after));
    machine.done(&Action::Resize, Ok(()), at(8));
    let effects = go_on(&mut machine, 8);
    assert_eq!((conditions(&effects), notes(&effects)), (Vec::new(), vec!["ResizeCompleted".to_owned()]));
}

#[test]
fn a_size_that_is_not_allocated_is_told_and_what_the_pod_has_stays() {
    let before = with_generation(of(&[sized("a", "1", false)]), 1);
    let after = with_generation(of(&[sized("a", "2", false)]), 2);
    let pending = Pending { reason: DEFERRED, message: "Node didn't have enough resource: cpu".into(), generation: 2 };
    let allocation = PodAllocation { judged: 2, pending: Some(pending), ..PodAllocation::admitted(&before) };
    let mut machine = machine(allocation, &after);
    let effects = go_on(&mut machine, 3);
    let message = Some("Node didn't have enough resource: cpu".to_owned());
    assert_eq!(conditions(&effects), [("PodResizePending".to_owned(), Some("Deferred".to_owned()), message, Some(2))]);
    let status = published(&effects).expect("a status");
    let container = &status.container_statuses.as_ref().expect("statuses")[0];
    let cpu =
        |list: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| list.as_ref().map(|list| list["cpu"].0.clone());
    let had = container.resources.as_ref().and_then(|resources| cpu(&resources.requests));
    assert_eq!((cpu(&container.allocated_resources), had, status.observed_generation), (Some("1".into()), Some("1".into()), Some(2)));
    assert!(!effects.contains(&Effect::Take(Action::Resize)));
}
