//! What may become of a pod: updates of its spec, its status and its resources.

use serde_json::{Value, json};

use super::Pod;
use crate::{meta::Object, resources::Strategy};

fn pod(changes: &[(&[&str], Value)]) -> Object {
    let spec = json!({"containers": [{"name": "c", "image": "a"}], "serviceAccountName": "default"});
    let mut pod = Object::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).expect("an object");
    Pod.default_object(&mut pod);
    for (path, value) in changes {
        pod.set(path, value.clone());
    }
    pod
}

fn errors(new: &Object, old: &Object, subresource: &str) -> Vec<String> {
    Pod.validate_update(new, old, subresource).iter().map(ToString::to_string).collect()
}

#[test]
fn a_status_says_what_makes_sense() {
    let old = pod(&[(&["spec", "nodeName"], json!("n1"))]);
    let with = |field: &str, value: Value| {
        let mut new = old.clone();
        new.set(&["status", field], value);
        errors(&new, &old, "status")
    };
    let ok = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
    assert_eq!(with("podIPs", ok), Vec::<String>::new());
    for (field, value, want) in [
        ("podIPs", json!([{"ip": "x"}]), "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        (
            "podIPs",
            json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
            "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
        ),
        ("hostIPs", json!([{"ip": "10.0.0.1"}]), "status.hostIPs[0].ip: Invalid value: \"10.0.0.1\": must be equal to `hostIP`"),
        ("observedGeneration", json!(-1), "status.observedGeneration: Invalid value: -1: must be a non-negative integer"),
        ("qosClass", json!("Guaranteed"), "status.qosClass: Invalid value: \"Guaranteed\": field is immutable"),
        ("nominatedNodeName", json!("n2"), "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node"),
        (
            "resourceClaimStatuses",
            json!([{"name": "x"}]),
            "status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`",
        ),
        (
            "containerStatuses",
            json!([{"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}}]),
            "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            "ephemeralContainerStatuses",
            json!([{"name": "e", "allocatedResourcesStatus": [{"name": "x"}]}]),
            "status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in container status",
        ),
    ] {
        assert_eq!(with(field, value), [want]);
    }
}

#[test]
fn a_container_that_ended_for_good_stays_ended() {
    let statuses = |state: Value| json!([{"name": "c", "state": state}]);
    let ended = |code: i64| statuses(json!({"terminated": {"exitCode": code}}));
    let again = statuses(json!({"running": {}}));
    let judge = |policy: &str, code: i64, rules: Value| {
        let mut old = pod(&[(&["spec", "restartPolicy"], json!(policy)), (&["status", "containerStatuses"], ended(code))]);
        let mut container = old.list(&["spec", "containers"])[0].clone();
        container["restartPolicyRules"] = rules;
        old.set(&["spec", "containers"], json!([container]));
        let mut new = old.clone();
        new.set(&["status", "containerStatuses"], again.clone());
        errors(&new, &old, "status")
    };
    let rule = |action: &str| json!([{"action": action, "exitCodes": {"operator": "In", "values": [7]}}]);
    let refused = ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"];
    assert_eq!(judge("Never", 0, json!(null)), refused);
    assert_eq!(judge("OnFailure", 0, json!(null)), refused);
    assert_eq!(judge("Never", 8, rule("Restart")), refused);
    for (policy, code, rules) in
        [("Always", 0, json!(null)), ("OnFailure", 1, json!(null)), ("Never", 7, rule("Restart")), ("Never", 8, rule("RestartAllContainers"))]
    {
        assert_eq!(judge(policy, code, rules), Vec::<String>::new(), "{policy} {code}");
    }
}

#[test]
fn annotations_that_shaped_a_pod_are_settled() {
    let old = pod(&[(&["metadata", "annotations"], json!({"kubernetes.io/config.mirror": "a"})), (&["spec", "nodeName"], json!("n1"))]);
    let mut new = old.clone();
    new.set(&["metadata", "annotations"], json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}));
    let want = [
        "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation",
        "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden: may not add AppArmor annotations",
    ];
    for subresource in ["", "status"] {
        assert_eq!(errors(&new, &old, subresource), want);
    }
}

#[test]
fn where_a_gated_pod_may_go_only_narrows() {
    let terms = |expressions: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}});
    let (one, other) = (json!({"key": "a", "operator": "Exists"}), json!({"key": "b", "operator": "Exists"}));
    let old = pod(&[(&["spec", "schedulingGates"], json!([{"name": "g"}])), (&["spec", "affinity"], terms(json!([one])))]);
    let with = |affinity: Value| {
        let mut new = old.clone();
        new.set(&["spec", "affinity"], affinity);
        errors(&new, &old, "")
    };
    assert_eq!(with(terms(json!([one, other]))), Vec::<String>::new());
    let refused = with(terms(json!([other])));
    assert!(refused.len() == 1 && refused[0].ends_with("only additions are allowed (no mutations or deletions)"), "{refused:?}");
    let mut more = old.clone();
    more.set(&["spec", "schedulingGates"], json!([{"name": "g"}, {"name": "h"}]));
    assert_eq!(errors(&more, &old, ""), ["spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"]);
    let mut first = pod(&[(&["spec", "schedulingGates"], json!([{"name": "g"}]))]);
    let bare = first.clone();
    first.set(&["spec", "affinity"], terms(json!([one])));
    assert_eq!(errors(&first, &bare, ""), Vec::<String>::new());
}

#[test]
fn a_resize_changes_only_what_can_be_resized() {
    let container = |resources: Value| {
        let mut container = pod(&[]).list(&["spec", "containers"])[0].clone();
        container["resources"] = resources;
        json!([container])
    };
    let of = |resources: Value| pod(&[(&["spec", "containers"], container(resources)), (&["status", "qosClass"], json!("Burstable"))]);
    let old = of(json!({"requests": {"cpu": "1", "memory": "1Gi"}}));
    assert_eq!(errors(&of(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), &old, "resize"), Vec::<String>::new());
    assert_eq!(
        errors(&of(json!({"requests": {"cpu": "1"}})), &old, "resize"),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        errors(&of(json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1"}})), &old, "resize"),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    let full = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(
        errors(&of(json!({"requests": full, "limits": full})), &old, "resize"),
        ["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"]
    );
    let mut running = old.clone();
    running.set(&["status", "containerStatuses"], json!([{"name": "c", "state": {"running": {}}}]));
    assert_eq!(errors(&running.clone(), &running, "resize"), ["spec: Forbidden: Pod running on node without support for resize"]);
    let mut two = old.clone();
    two.set(&["spec", "initContainers"], json!([{"name": "i", "image": "a", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]));
    assert_eq!(errors(&two, &old, "resize"), ["spec.initContainers: Forbidden: initContainers may not be added or removed on resize"]);
}
