use super::*;

fn rule(action: &str) -> serde_json::Value {
    json!([{"action": action, "exitCodes": {"operator": "In", "values": [42]}}])
}

/// A pod of which one container has all start anew when it ends with 42.
fn of_rules() -> Pod {
    pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}, {"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}, {"name": "source", "restartPolicy": "Never", "restartPolicyRules": rule("RestartAllContainers")}]}))
}

fn begun() -> World {
    let mut world = World::new(of_rules());
    world.settle();
    world.exit("i-0", 0);
    world.settle();
    world
}

fn killed(id: &str, name: &str) -> Action {
    Action::StopContainer { id: id.into(), name: name.into(), grace: 0, reason: StopReason::AllRestart, message: "killing".into() }
}

fn removed(id: &str) -> Action {
    Action::RemoveContainer { id: id.into(), keep_log: true }
}

#[test]
fn an_end_by_a_rule_has_all_containers_killed_removed_and_started_anew_in_order() {
    let mut world = begun();
    world.exit("source-0", 42);
    let end: Vec<_> = world.plan(1).actions;
    assert_eq!(end, [killed("a-0", "a"), killed("side-0", "side")]);
    end.iter().for_each(|action| world.apply(action));
    let others = world.plan(1).actions;
    assert_eq!(others, [removed("a-0"), removed("side-0"), removed("i-0")]);
    others.iter().for_each(|action| world.apply(action));
    world.memory.logged = ["i", "side", "a", "source"].map(|name| (name.to_owned(), 0)).into();
    assert_eq!(world.settle(), [removed("source-0"), start("i", 1)], "the source goes last");
    world.exit("i-1", 0);
    assert_eq!(world.settle(), [start("side", 1), start("a", 1), start("source", 1)]);
    assert_eq!(world.observed.sandboxes.len(), 1, "the sandbox stays");
}

#[test]
fn what_is_being_started_is_waited_for_before_the_reason_is_removed() {
    let mut world = begun();
    world.exit("source-0", 42);
    world.observed.containers.retain(|seen| seen.name == "source");
    world.memory.busy = true;
    assert_eq!(world.plan(1), Plan::default());
    world.memory.busy = false;
    assert_eq!(world.plan(1).actions, [removed("source-0")]);
}

#[test]
fn other_ends_and_pods_that_stop_restart_nothing() {
    let mut world = begun();
    world.exit("source-0", 41);
    assert_eq!(world.settle(), []);
    let mut world = begun();
    world.exit("source-0", 42);
    world.stopping = Some(Stopping { grace: 5, remove: false });
    assert!(world.settle().iter().all(|action| !matches!(action, Action::StartContainer { .. })));
}

#[test]
fn rules_hold_for_init_containers_too_and_the_first_that_is_met_decides() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 42]}},
        {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [7]}}]);
    let mut world = World::new(pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "before"}, {"name": "i", "restartPolicy": "Never", "restartPolicyRules": rules}], "containers": [{"name": "a"}]})));
    world.settle();
    world.exit("before-0", 0);
    world.settle();
    world.exit("i-0", 42);
    assert_eq!(world.settle(), [start("i", 1)]);
    world.exit("i-1", 7);
    assert!(world.plan(1).finished, "no rule and no policy has it come back");
    world.exit("i-1", 9);
    assert_eq!(world.plan(1).actions, [removed("i-0"), removed("before-0")], "what it was before goes, too, and then its newest end");
}

/// What the machine publishes once a container ends by a rule: phases, whether all restart and why, and of each container how often it was
/// started and how it ended last.
struct Told {
    phases: BTreeSet<String>,
    restarting: Vec<(String, bool)>,
    last: Vec<(String, i32, Option<i32>)>,
}

fn told(pod: &Pod, source: &str) -> Told {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    machine.spec(Arc::new(pod.clone()));
    let mut world = World::new(pod.clone());
    let mut told = Told { phases: BTreeSet::new(), restarting: Vec::new(), last: Vec::new() };
    for round in 0..90 {
        match round {
            12 => world.exit("i-0", 0),
            40 => world.exit(&format!("{source}-0"), 42),
            70 => world.exit("i-1", 0),
            _ => {}
        }
        if [12, 40, 70].contains(&round) {
            machine.look_again();
        }
        for effect in machine.advance(at(round)) {
            match effect {
                Effect::Observe => machine.observed(Some(world.observed.clone()), BTreeMap::new(), at(round)),
                Effect::Take(action) => {
                    world.apply(&action);
                    machine.done(&action, Ok(()), at(round));
                }
                Effect::Publish(status) if round >= 40 => {
                    told.phases.insert(status.phase.clone().unwrap_or_default());
                    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "AllContainersRestarting").expect("told");
                    told.restarting.push((condition.reason.clone().unwrap_or_default(), condition.status == "True"));
                    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
                    let counts = all.map(|status| {
                        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
                        (status.name.clone(), status.restart_count, last.map(|last| last.exit_code))
                    });
                    told.last = counts.collect();
                }
                _ => {}
            }
        }
    }
    told
}

#[test]
fn the_status_tells_of_it() {
    let ended = |name: &str, code: i32| (name.to_owned(), 1, Some(code));
    let beside = pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}, {"name": "side", "restartPolicy": "Always", "restartPolicyRules": rule("RestartAllContainers")}],
        "containers": [{"name": "a"}]}));
    let all = [
        (of_rules(), "source", vec![ended("i", 137), ended("side", 137), ended("a", 137), ended("source", 42)]),
        (beside, "side", vec![ended("i", 137), ended("side", 42), ended("a", 137)]),
    ];
    for (pod, source, last) in all {
        let told = told(&pod, source);
        assert_eq!(told.restarting.first(), Some(&("RestartAllContainersStarted".to_owned(), true)));
        assert_eq!(told.restarting.last(), Some(&(String::new(), false)));
        assert_eq!(told.last, last);
        assert!(!told.phases.contains("Failed") && !told.phases.contains("Succeeded"), "{:?}", told.phases);
    }
}
