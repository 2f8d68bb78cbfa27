//! Containers with postStart hooks.

use k8s_openapi::api::core::v1::PodStatus;

use super::*;

#[test]
fn a_container_is_neither_started_nor_ready_nor_probed_until_its_post_start_hook_is_done() {
    let mut machine = PodMachine::new(PodIdentity::default(), Vec::new(), "fake", BTreeMap::new());
    let hook = json!({"postStart": {"exec": {"command": ["sleep", "9"]}}});
    let spec = json!({"initContainers": [{"name": "side", "restartPolicy": "Always", "lifecycle": hook}],
        "containers": [{"name": "a", "lifecycle": hook, "readinessProbe": {"exec": {"command": ["true"]}}}, {"name": "b"}]});
    let mut world = World::new(pod(spec));
    machine.spec(Arc::new(world.pod.clone()));
    let mut now = 0;
    let mut look = |machine: &mut PodMachine, world: &World, status: &mut Option<Box<PodStatus>>| {
        now += 1;
        machine.look_again();
        let mut effects = machine.advance(at(now));
        machine.observed(Some(world.observed.clone()), BTreeMap::new(), at(now));
        effects.extend(machine.advance(at(now)));
        for effect in &effects {
            if let Effect::Publish(newest) = effect {
                *status = Some(newest.clone());
            }
        }
        effects
    };
    let mut status = None;
    let taken = |effects: &[Effect]| effects.iter().find_map(|effect| if let Effect::Take(action) = effect { Some(action.clone()) } else { None });
    let probed = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Probe(_)));
    for wanted in [Action::Prepare, Action::CreateSandbox { attempt: 0 }, start("side", 0), start("a", 0), start("b", 0)] {
        assert_eq!(taken(&look(&mut machine, &world, &mut status)).as_ref(), Some(&wanted));
        world.apply(&wanted);
        // The runtime tells that it runs, and the step is not over.
        for _ in 0..20 {
            let effects = look(&mut machine, &world, &mut status);
            assert!(taken(&effects).is_none(), "the next one waits for {wanted:?}: {effects:?}");
            assert!(!probed(&effects) || wanted == start("b", 0), "while {wanted:?}: {effects:?}");
            if let Action::StartContainer { name, .. } = &wanted {
                let status = status.as_ref().expect("a status");
                let mut all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
                let own = all.find(|own| own.name == *name).expect("its status");
                assert!(own.state.as_ref().is_some_and(|state| state.running.is_some()), "{own:?}");
                let hooked = name != "b";
                assert_eq!((own.started, own.ready), (Some(!hooked), !hooked), "{name}");
            }
        }
        machine.done(&wanted, Ok(()), at(100));
    }
    look(&mut machine, &world, &mut status);
    let status = status.expect("a status");
    let own = status.container_statuses.as_ref().expect("statuses").iter().find(|own| own.name == "a").expect("its status");
    assert_eq!((own.started, own.ready), (Some(true), false), "its readiness probe has not answered");
}
