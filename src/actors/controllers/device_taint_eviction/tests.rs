use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{Device, ResourceClaim};
use serde_json::{Value, from_value, json};

use super::plan::departure;

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
    departure(&claim(tolerations), &|id| (id.to_string() == "d/p/g").then(|| device.clone()))
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
    assert_eq!(departure(&claim(json!([])), &|_| None), None);
}
