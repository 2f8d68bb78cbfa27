use serde_json::{Value, json};

use super::{super::is_finished, World, indexed, job, pairs};

fn policy(action: &str, more: Value) -> Value {
    let mut rule = json!({"action": action});
    for (key, value) in more.as_object().expect("an object") {
        rule[key] = value.clone();
    }
    json!({"podFailurePolicy": {"rules": [rule]}, "podReplacementPolicy": "Failed", "backoffLimit": 0})
}

#[test]
fn a_rule_can_fail_the_job_at_once() {
    let rule = policy("FailJob", json!({"onExitCodes": {"operator": "In", "values": [42]}}));
    let mut world = World::new(job(rule));
    world.settle();
    world.end("p1", "Failed", 42);
    world.settle();
    let message = "PodFailurePolicy: Container c for pod n/p1 failed with exit code 42 matching FailJob rule at index 0";
    assert_eq!(world.events, [message]);
    assert_eq!(world.conditions(), pairs([("FailureTarget", "PodFailurePolicy"), ("Failed", "PodFailurePolicy")]));
}

#[test]
fn a_rule_can_ignore_failures() {
    let condition = json!([{"type": "DisruptionTarget", "status": "True"}]);
    let mut world = World::new(job(policy("Ignore", json!({"onPodConditions": condition}))));
    world.settle();
    world.end("p1", "Failed", 137);
    world.pod("p1").status.as_mut().expect("a status").conditions = serde_json::from_value(condition).expect("conditions");
    world.pass(100);
    world.settle();
    assert_eq!((world.running(), world.counts()), (vec!["p2"], (1, 0, 0)));
}

#[test]
fn a_rule_can_fail_one_index() {
    let mut spec = policy("FailIndex", json!({"onExitCodes": {"operator": "NotIn", "values": [1]}}));
    (spec["backoffLimitPerIndex"], spec["backoffLimit"]) = (5.into(), i32::MAX.into());
    let mut world = World::new(indexed(2, spec));
    world.settle();
    let name = world.of_index(1);
    world.end(&name, "Failed", 42);
    world.settle();
    assert_eq!(world.job.status.as_ref().and_then(|status| status.failed_indexes.as_deref()), Some("1"));
    assert_eq!(world.running_indexes(), [0]);
}

#[test]
fn a_job_can_be_done_before_all_indexes_are() {
    let policy = json!({"successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]}});
    let mut world = World::new(indexed(4, policy));
    world.settle();
    let name = world.of_index(3);
    world.end(&name, "Succeeded", 0);
    world.settle();
    assert!(!is_finished(&world.job));
    let name = world.of_index(1);
    world.end(&name, "Succeeded", 0);
    world.settle();
    assert_eq!(world.conditions(), pairs([("SuccessCriteriaMet", "SuccessPolicy"), ("Complete", "SuccessPolicy")]));
    assert_eq!(world.counts(), (0, 2, 0), "pods taken away do not count as failed");
}
