//! Containers that are added to a running pod.

use super::*;

fn visited(spec: serde_json::Value, visitors: &[&str]) -> Pod {
    let mut spec = spec;
    spec["ephemeralContainers"] = visitors.iter().map(|name| json!({"name": name})).collect();
    pod(spec)
}

#[test]
fn an_ephemeral_container_is_started_once_beside_the_others() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let mut world = World::new(pod(spec.clone()));
    world.settle();
    world.pod = visited(spec.clone(), &["debug"]);
    assert_eq!(world.settle(), [start("debug", 0)], "it may look while the others have not begun");
    world.exit("i-0", 0);
    assert_eq!(world.settle(), [start("a", 0)]);
    world.exit("debug-0", 1);
    assert_eq!(world.settle(), [], "it is never restarted");
    world.pod = visited(spec, &["debug", "again"]);
    assert_eq!(world.settle(), [start("again", 0)]);
}

#[test]
fn one_that_ran_before_the_runtime_forgot_it_is_not_started_again() {
    let mut world = World::new(visited(json!({"containers": [{"name": "a"}]}), &["debug"]));
    world.memory.logged.insert("debug".into(), 0);
    assert_eq!(world.settle(), [Action::Prepare, Action::CreateSandbox { attempt: 0 }, start("a", 0)]);
}

#[test]
fn one_whose_image_is_missing_keeps_no_other_container() {
    let mut world = World::new(visited(json!({"containers": [{"name": "a"}]}), &["debug"]));
    let failure = Failure { reason: "ErrImagePull".into(), message: "no".into(), since: at(999_999), retry_at: at(2_000_000), count: 1 };
    world.memory.failures.insert("debug".into(), failure);
    assert_eq!(world.settle(), [Action::Prepare, Action::CreateSandbox { attempt: 0 }, start("a", 0)]);
    assert_eq!(world.plan(1_000_000).waiting["debug"].reason, "ErrImagePull");
}

#[test]
fn a_pod_whose_own_containers_have_ended_is_over_whoever_visits_it() {
    let mut world = World::new(visited(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}), &["debug"]));
    world.settle();
    world.exit("a-0", 0);
    assert!(world.plan(1_000_000).finished);
    world.stopping = Some(Stopping { grace: 3, remove: true });
    world.settle();
    assert!(world.observed.is_empty() && world.plan(1_000_000).gone);
}
