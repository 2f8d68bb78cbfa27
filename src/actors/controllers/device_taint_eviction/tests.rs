use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::resource::{
    v1::{Device, ResourceClaim},
    v1beta2::DeviceTaintRule,
};
use serde_json::{Value, from_value, json};

use super::{
    condition::{Counts, condition, rest},
    plan::{Departure, RuleRef, departure},
};

fn claim(tolerations: Value) -> Vec<Arc<ResourceClaim>> {
    let result = json!({"request": "r", "driver": "d", "pool": "p", "device": "g", "tolerations": tolerations});
    let claim = json!({"metadata": {"name": "c"}, "spec": {}, "status": {"allocation": {"devices": {"results": [result]}}}});
    vec![Arc::new(from_value(claim).expect("a claim"))]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn leaves(tolerations: Value, taints: Value) -> Option<Timestamp> {
    let device: Device = from_value(json!({"name": "g", "taints": taints})).expect("a device");
    departure(&claim(tolerations), &|id| (id.to_string() == "d/p/g").then(|| device.clone()), &[]).map(|departure| departure.due)
}

fn taint(key: &str, second: i64, effect: &str) -> Value {
    json!({"key": key, "effect": effect, "timeAdded": at(second).to_string()})
}

#[test]
fn pods_leave_devices_whose_taints_they_do_not_tolerate() {
    assert_eq!(leaves(json!([]), json!([])), None);
    assert_eq!(leaves(json!([]), json!([taint("a", 100, "NoSchedule")])), None, "that concerns new pods only");
    assert_eq!(leaves(json!([]), json!([taint("a", 100, "NoExecute"), taint("b", 50, "NoExecute")])), Some(at(50)));
    let forever = json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]);
    assert_eq!(leaves(forever.clone(), json!([taint("a", 100, "NoExecute")])), None);
    assert_eq!(leaves(forever, json!([taint("a", 100, "NoExecute"), taint("b", 300, "NoExecute")])), Some(at(300)));
    let while_ = |seconds: i64| json!({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    assert_eq!(leaves(json!([while_(30), while_(60)]), json!([taint("a", 100, "NoExecute")])), Some(at(130)), "the shortest counts");
    assert_eq!(leaves(json!([while_(-5)]), json!([taint("a", 100, "NoExecute")])), Some(at(100)));
    let other_effect = json!([{"operator": "Exists", "effect": "NoSchedule"}]);
    assert_eq!(leaves(other_effect, json!([taint("a", 100, "NoExecute")])), Some(at(100)));
}

#[test]
fn a_device_that_is_not_published_any_more_drives_nobody_away() {
    assert_eq!(departure(&claim(json!([])), &|_| None, &[]), None);
}

/// A rule that taints all devices of the pool, since second 100, as somebody wrote it for the second time.
fn rule(name: &str, effect: &str) -> DeviceTaintRule {
    let spec = json!({"deviceSelector": {"pool": "p"}, "taint": taint(name, 100, effect)});
    from_value(json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 2}, "spec": spec})).expect("a rule")
}

#[test]
fn pods_leave_devices_that_rules_taint_also_where_nobody_publishes_them() {
    let rules: Vec<Arc<DeviceTaintRule>> =
        [("a", "NoExecute"), ("b", "NoSchedule"), ("c", "NoExecute")].map(|(name, effect)| Arc::new(rule(name, effect))).into();
    let refs = |names: &[&str]| names.iter().map(|name| RuleRef { name: (*name).to_owned(), uid: format!("uid-{name}") }).collect::<BTreeSet<_>>();
    let leaves = |tolerations: Value| departure(&claim(tolerations), &|_| None, &rules);
    assert_eq!(leaves(json!([])), Some(Departure { due: at(100), rules: refs(&["a", "c"]) }));
    let forever = json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]);
    assert_eq!(leaves(forever), Some(Departure { due: at(100), rules: refs(&["c"]) }));
    let while_ = json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]);
    assert_eq!(leaves(while_), Some(Departure { due: at(130), rules: refs(&["a", "c"]) }));
    assert_eq!(leaves(json!([{"operator": "Exists", "effect": "NoExecute"}])), None);
}

fn said(rule: &DeviceTaintRule, counts: Counts) -> (String, String, String) {
    let condition = condition(rule, &counts, at(500)).expect("something new");
    assert_eq!((condition.type_.as_str(), condition.observed_generation, condition.last_transition_time.0), ("EvictionInProgress", Some(2), at(500)));
    (condition.status, condition.reason, condition.message)
}

fn words(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

#[test]
fn a_rule_tells_what_comes_of_it() {
    let none = Counts::default();
    let evicting = rule("a", "NoExecute");
    assert_eq!(said(&evicting, none), words("False", "NotStarted", ""));
    let one = Counts { pods: 1, namespaces: 1, ..none };
    assert_eq!(said(&evicting, one), words("True", "PodsPendingEviction", "1 pod needs to be evicted in 1 namespace."));
    let some = Counts { pods: 3, namespaces: 2, evicted: 1, ..none };
    let message = "3 pods need to be evicted in 2 different namespaces. 1 pod evicted since starting the controller.";
    assert_eq!(said(&evicting, some), words("True", "PodsPendingEviction", message));
    let done = Counts { evicted: 4, ..none };
    assert_eq!(said(&evicting, done), words("False", "Completed", "4 pods evicted since starting the controller."));
    assert_eq!(said(&rule("a", "NoSchedule"), one), words("False", "OtherEffect", "Eviction only happens for the NoExecute effect."));
    let message = "2 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace if the effect was NoExecute. \
        This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.";
    assert_eq!(said(&rule("a", "None"), Counts { published: 2, allocated: 1, ..one }), words("False", "NoEffect", message));
}

#[test]
fn what_is_said_already_is_not_said_again_and_counts_change_every_ten_seconds() {
    let mut told = rule("a", "NoExecute");
    assert_eq!(rest(&told, at(500)), None);
    let counts = Counts { pods: 1, namespaces: 1, ..Counts::default() };
    let known = condition(&told, &counts, at(500)).expect("something new");
    told.status.get_or_insert_default().conditions = Some(vec![known]);
    assert_eq!(condition(&told, &counts, at(600)), None);
    assert!(condition(&told, &Counts::default(), at(600)).is_some());
    assert_eq!((rest(&told, at(504)), rest(&told, at(510))), (Some(Duration::from_secs(6)), None));
    told.metadata.generation = Some(3);
    assert_eq!(rest(&told, at(504)), None, "the rule says something else");
    assert!(condition(&told, &counts, at(504)).is_some());
}
