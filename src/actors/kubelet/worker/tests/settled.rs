use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

#[test]
fn sidecars_wait_for_the_start_that_was_under_way_when_the_end_came() {
    let mut world = World::new(pod(json!({"initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]})));
    world.settle();
    world.exit("a-0", 1);
    (world.memory.busy, world.memory.starting) = (true, Some(("a".to_owned(), 1)));
    world.stopping = Some(Stopping { grace: 5, remove: true });
    assert_eq!(world.plan(1_000_000).actions, []);
    world.apply(&start("a", 1));
    (world.memory.busy, world.memory.starting) = (false, None);
    let stopped = world.settle().into_iter().filter_map(|action| match action {
        Action::StopContainer { id, .. } => Some(id),
        _ => None,
    });
    assert_eq!(stopped.collect::<Vec<_>>(), ["a-1", "side-0"]);
}

#[test]
fn what_was_only_made_in_a_sandbox_that_is_gone_runs_in_the_next() {
    let mut world = World::new(pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]})));
    world.settle();
    world.observed.containers[0].state = RunState::Created;
    world.observed.sandboxes[0].ready = false;
    assert_eq!(world.settle(), [Action::CreateSandbox { attempt: 1 }, start("a", 1)]);
    world.observed.sandboxes[0].ready = false;
    world.exit("a-1", 137);
    assert!(world.plan(1_000_000).finished, "what ran does not run again");
}

#[test]
fn nothing_is_done_by_what_was_seen_before_the_last_step() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    machine.spec(Arc::new(pod(json!({"containers": [{"name": "a"}]}))));
    let taken = |effects: Vec<Effect>| effects.into_iter().filter(|effect| matches!(effect, Effect::Take(_))).collect::<Vec<_>>();
    machine.advance(at(1));
    machine.observed(Some(Observed::default()), BTreeMap::new(), at(1));
    assert_eq!(taken(machine.advance(at(1))), [Effect::Take(Action::Prepare)]);
    machine.done(&Action::Prepare, Ok(()), at(2));
    assert!(machine.advance(at(2)).contains(&Effect::Observe));
    machine.observed(None, BTreeMap::new(), at(2));
    assert_eq!(taken(machine.advance(at(2))), [], "the runtime did not answer");
    assert!(machine.advance(at(4)).contains(&Effect::Observe));
    machine.observed(Some(Observed::default()), BTreeMap::new(), at(4));
    assert_eq!(taken(machine.advance(at(4))), [Effect::Take(Action::CreateSandbox { attempt: 0 })]);
}

#[test]
fn no_end_is_told_while_a_container_is_being_started() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    let mut crashing = pod(json!({"containers": [{"name": "a"}]}));
    machine.spec(Arc::new(crashing.clone()));
    let step = |machine: &mut PodMachine, second, attempt: u32, state| {
        let id = format!("a-{attempt}");
        let seen = ContainerView { id, name: "a".into(), sandbox: "s".into(), attempt, state, exit_code: 1, ..ContainerView::default() };
        let sandboxes = vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }];
        machine.look_again();
        let mut effects = machine.advance(at(second));
        machine.observed(Some(Observed { sandboxes, containers: vec![seen] }), BTreeMap::new(), at(second));
        effects.extend(machine.advance(at(second)));
        effects
    };
    let ends = |effects: &[Effect]| {
        let told = effects.iter().filter_map(|effect| if let Effect::Publish(status) = effect { status.phase.clone() } else { None });
        told.filter(|phase| phase == "Failed" || phase == "Succeeded").count()
    };
    step(&mut machine, 1, 0, RunState::Exited);
    machine.done(&Action::Prepare, Ok(()), at(2));
    assert!(step(&mut machine, 2, 0, RunState::Exited).contains(&Effect::Take(start("a", 1))));
    crashing.metadata.deletion_timestamp = Some(Time(at(3)));
    machine.spec(Arc::new(crashing));
    assert_eq!(ends(&step(&mut machine, 3, 0, RunState::Exited)), 0, "its start is under way");
    machine.done(&start("a", 1), Ok(()), at(4));
    assert_eq!(ends(&machine.advance(at(4))), 0, "what was seen is older than the start");
    machine.observed(None, BTreeMap::new(), at(4));
    assert_eq!(ends(&machine.advance(at(4))), 0, "the runtime did not answer");
    assert_eq!(ends(&step(&mut machine, 6, 1, RunState::Running)), 0);
    assert_eq!(ends(&step(&mut machine, 7, 1, RunState::Exited)), 1);
}

#[test]
fn a_pod_that_could_not_be_set_up_leaves_at_once() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    let mut stuck = pod(json!({"containers": [{"name": "a"}]}));
    machine.spec(Arc::new(stuck.clone()));
    let look = |machine: &mut PodMachine, second| {
        machine.advance(at(second));
        machine.observed(Some(Observed::default()), BTreeMap::new(), at(second));
        machine.advance(at(second))
    };
    for second in [0, 200, 400, 600, 800, 1000] {
        assert!(look(&mut machine, second).contains(&Effect::Take(Action::Prepare)));
        machine.done(&Action::Prepare, Err(StepFailure::new("FailedMount", "no")), at(second));
    }
    assert!(!look(&mut machine, 1001).contains(&Effect::Take(Action::Prepare)), "it is tried again later");
    stuck.metadata.deletion_timestamp = Some(Time(at(1002)));
    machine.spec(Arc::new(stuck));
    machine.look_again();
    let effects = look(&mut machine, 1002);
    assert!(effects.contains(&Effect::Take(Action::CleanUp { logs: true })), "{effects:?}");
}

#[test]
fn a_failed_init_container_ends_the_pod_although_a_sidecar_has_ended_too() {
    let init = json!([{"name": "side", "restartPolicy": "Always"}, {"name": "i"}]);
    let mut world = World::new(pod(json!({"restartPolicy": "Never", "initContainers": init, "containers": [{"name": "a"}]})));
    assert_eq!(world.settle().last(), Some(&start("i", 0)));
    world.exit("i-0", 1);
    world.exit("side-0", 0);
    let plan = world.plan(1_000_000);
    assert!(plan.finished && plan.actions.is_empty(), "{plan:?}");
}

#[test]
fn a_pod_beyond_its_deadline_has_failed_when_it_has_ended() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    let mut late = pod(json!({"activeDeadlineSeconds": 10, "containers": [{"name": "a"}]}));
    late.status = Some(serde_json::from_value(json!({"phase": "Running", "startTime": "1970-01-01T00:00:01Z"})).expect("a status"));
    machine.spec(Arc::new(late));
    let mut told = Vec::new();
    for (second, state) in [(2, RunState::Running), (12, RunState::Running), (13, RunState::Running), (14, RunState::Exited)] {
        let seen = ContainerView { id: "a-0".into(), name: "a".into(), sandbox: "s".into(), state, exit_code: 143, ..ContainerView::default() };
        let sandboxes = vec![SandboxView { id: "s".into(), ready: true, ..SandboxView::default() }];
        machine.look_again();
        machine.advance(at(second));
        machine.observed(Some(Observed { sandboxes, containers: vec![seen] }), BTreeMap::new(), at(second));
        for effect in machine.advance(at(second)) {
            match effect {
                Effect::Take(Action::Prepare) => machine.done(&Action::Prepare, Ok(()), at(second)),
                Effect::Publish(status) => told.push((second, status.phase.unwrap_or_default(), status.reason)),
                _ => {}
            }
        }
    }
    let ends: Vec<_> = told.into_iter().filter(|(_, phase, _)| phase == "Failed").collect();
    assert_eq!(ends, [(14, "Failed".to_owned(), Some("DeadlineExceeded".to_owned()))]);
}

#[test]
fn sidecars_stop_within_what_is_left_of_the_grace() {
    let mut world = World::new(pod(json!({"initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]})));
    world.settle();
    world.exit("a-0", 137);
    world.stopping = Some(Stopping { grace: 30, remove: true });
    let graces = |world: &World, second| {
        let given = world.plan(second).actions.into_iter().filter_map(|action| match action {
            Action::StopContainer { grace, .. } => Some(grace),
            _ => None,
        });
        given.collect::<Vec<u64>>()
    };
    assert_eq!(graces(&world, 100), [30_u64], "nobody knows better");
    world.memory.stop_began = Some(at(100));
    assert_eq!((graces(&world, 112), graces(&world, 150)), (vec![18], vec![2]));
    world.memory.stopping.insert("side-0".into(), 18);
    assert!(graces(&world, 113).is_empty(), "it is told once");
    world.stopping = Some(Stopping { grace: 1, remove: true });
    assert_eq!(graces(&world, 113), [1_u64]);
}
