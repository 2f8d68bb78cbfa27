use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::Pod,
    resource::{
        v1::{Device, DeviceTaint, DeviceToleration, ResourceClaim, ResourceSlice},
        v1beta2::DeviceTaintRule,
    },
};
use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    let claims = json!([
        {"name": "own", "resourceClaimName": "shared"},
        {"name": "made", "resourceClaimTemplateName": "t"},
        {"name": "odd"},
    ]);
    let spec = json!({"containers": [], "resourceClaims": claims});
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec, "status": status})).expect("a pod")
}

#[test]
fn a_pod_names_its_claims_or_they_are_made_for_it() {
    let waiting = pod(json!({}));
    let names = |pod: &Pod| {
        claims_of(pod).iter().map(|claim| claim_name(pod, claim).map(|name| name.map(|(name, own)| (name.to_owned(), own)))).collect::<Vec<_>>()
    };
    let odd = Err(NameError::Unsupported("n/p".into(), "odd".into()));
    assert_eq!(names(&waiting), [Ok(Some(("shared".into(), false))), Err(NameError::NotCreated("n/p".into())), odd.clone()]);
    let made = pod(json!({"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made-x"}]}));
    assert_eq!(names(&made)[1], Ok(Some(("p-made-x".into(), true))));
    let none = pod(json!({"resourceClaimStatuses": [{"name": "made"}]}));
    assert_eq!(names(&none)[1], Ok(None));
    assert_eq!(NameError::NotCreated("n/p".into()).to_string(), "pod \"n/p\": ResourceClaim not created yet");
}

#[test]
fn a_claim_that_was_made_is_for_its_pod_only() {
    let owner = |uid: &str| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
    let claim = |uid: &str| -> ResourceClaim {
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "ownerReferences": owner(uid)}, "spec": {}})).expect("a claim")
    };
    assert_eq!(is_for_pod(&pod(json!({})), &claim("u")), Ok(()));
    let other = Err("ResourceClaim n/c was not created for Pod n/p (Pod is not owner)".to_owned());
    assert_eq!(is_for_pod(&pod(json!({})), &claim("v")), other);
}

#[test]
fn tolerations_cover_taints_by_key_value_and_effect() {
    let taint: DeviceTaint = serde_json::from_value(json!({"key": "broken", "value": "yes", "effect": "NoSchedule"})).expect("a taint");
    let covers = |toleration: Value| tolerates(&serde_json::from_value::<DeviceToleration>(toleration).expect("a toleration"), &taint);
    assert!(covers(json!({"operator": "Exists"})));
    assert!(covers(json!({"key": "broken", "operator": "Equal", "value": "yes"})));
    assert!(covers(json!({"key": "broken", "value": "yes", "effect": "NoSchedule"})));
    assert!(!covers(json!({"key": "broken", "value": "no"})));
    assert!(!covers(json!({"key": "broken", "operator": "Exists", "effect": "NoExecute"})));
    assert!(!covers(json!({"key": "other", "operator": "Exists"})));
    assert!(is_harmful(&taint) && !is_harmful(&DeviceTaint { effect: "None".into(), ..taint.clone() }));
}

fn rule(selector: Value, effect: &str) -> Arc<DeviceTaintRule> {
    let spec = json!({"deviceSelector": selector, "taint": {"key": "k", "effect": effect}});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).expect("a rule"))
}

#[test]
fn rules_taint_the_devices_that_they_select() {
    let means = |selector: Value| taints_device(&rule(selector, "None"), "d", "p", "g");
    assert!(means(json!({})) && means(json!({"driver": "d"})) && means(json!({"pool": "p", "device": "g"})));
    assert!(!means(json!({"driver": "e"})) && !means(json!({"pool": "q"})) && !means(json!({"driver": "d", "device": "h"})));
    assert!(!means(Value::Null), "without a selector it means none");
}

#[test]
fn devices_have_the_taints_of_rules_beside_their_own() {
    let devices = json!([{"name": "g", "taints": [{"key": "own", "effect": "NoSchedule"}]}, {"name": "h"}]);
    let spec = json!({"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": devices});
    let slice: Arc<ResourceSlice> = Arc::new(serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).expect("a slice"));
    let elsewhere: Rules = [("a".into(), rule(json!({"pool": "q"}), "NoExecute"))].into();
    assert!(Arc::ptr_eq(&slice, &tainted(&slice, &elsewhere)), "nothing is copied");
    let rules: Rules = [("a".into(), rule(json!({"device": "g"}), "NoExecute")), ("b".into(), rule(json!({}), "NoSchedule"))].into();
    let effects = |device: &Device| device.taints.iter().flatten().map(|taint| taint.effect.clone()).collect::<Vec<_>>();
    let found: Vec<Vec<String>> = tainted(&slice, &rules).spec.devices.iter().flatten().map(effects).collect();
    assert_eq!(found, [vec!["NoSchedule", "NoExecute", "NoSchedule"], vec!["NoSchedule"]]);
}
