use serde_json::{Value, json};

use super::{Pod, Summary, defaulting, ephemeral, label_keys, qos_class, resize, update};
use crate::{meta::Object, resources::Strategy};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("a JSON object")
}

fn pod(spec: Value) -> Object {
    let mut pod = object(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}));
    Pod.default_object(&mut pod);
    pod
}

fn one_container(extra: Value) -> Value {
    let mut container = json!({"name": "c", "image": "nginx"});
    for (field, value) in extra.as_object().into_iter().flatten() {
        container[field] = value.clone();
    }
    json!({"containers": [container]})
}

#[test]
fn a_minimal_pod_gets_every_default() {
    let want = json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
        },
    });
    assert_eq!(pod(one_container(json!({}))).into_value(), want);
}

#[test]
fn a_negative_grace_period_of_a_pod_is_a_second() {
    for (given, kept) in [(-1, 1), (0, 0), (7, 7)] {
        let mut spec = one_container(json!({}));
        spec["terminationGracePeriodSeconds"] = given.into();
        assert_eq!(pod(spec).int(&["spec", "terminationGracePeriodSeconds"]), Some(kept));
    }
}

#[test]
fn probes_volumes_and_limits_are_completed() {
    let mut spec = one_container(json!({
        "livenessProbe": {"httpGet": {"port": 80}},
        "resources": {"limits": {"cpu": "1"}},
        "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    }));
    spec["volumes"] = json!([
        {"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "hostPath": {"path": "/x"}},
        {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ]);
    spec["serviceAccountName"] = json!("robot");
    let pod = pod(spec);
    let container = &pod.list(&["spec", "containers"])[0];
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1})
    );
    assert_eq!(container["resources"], json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}));
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        pod.list(&["spec", "volumes"]),
        [
            json!({"name": "a", "emptyDir": {}}),
            json!({"name": "b", "secret": {"secretName": "s", "defaultMode": 420}}),
            json!({"name": "c", "hostPath": {"path": "/x", "type": ""}}),
            json!({"name": "d", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}),
        ]
    );
    assert_eq!(pod.str(&["spec", "serviceAccount"]), "robot");
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class = |resources: Value| qos_class(&pod(one_container(json!({"resources": resources}))));
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})), "Burstable");
    assert_eq!(class(json!({"requests": {"cpu": "0"}})), "BestEffort");
}

#[test]
fn a_gated_pod_starts_unscheduled() {
    let mut spec = one_container(json!({}));
    spec["schedulingGates"] = json!([{"name": "a.b/c"}]);
    let status = defaulting::initial_status(&pod(spec), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(status["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
}

#[test]
fn label_keys_complete_the_selectors_of_a_new_pod() {
    let keys = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["hash", "none"]});
    let mut apart = keys.clone();
    apart["mismatchLabelKeys"] = json!(["tenant"]);
    let without = json!({"topologyKey": "zone", "matchLabelKeys": ["hash"]});
    let mut spec = one_container(json!({}));
    spec["topologySpreadConstraints"] = json!([keys, without]);
    spec["affinity"] = json!({
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": keys}]},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
    });
    let mut pod = pod(spec);
    pod.set(&["metadata", "labels"], json!({"hash": "1", "tenant": "t"}));
    label_keys::merge(&mut pod);
    let same = json!({"key": "hash", "operator": "In", "values": ["1"]});
    let other = json!({"key": "tenant", "operator": "NotIn", "values": ["t"]});
    let spec = pod.get(&["spec"]).expect("a spec");
    let expressions = |term: &Value| term["labelSelector"]["matchExpressions"].clone();
    assert_eq!(expressions(&spec["topologySpreadConstraints"][0]), json!([same]));
    assert_eq!(spec["topologySpreadConstraints"][1], without);
    let preferred = &spec["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(expressions(&preferred["podAffinityTerm"]), json!([same]));
    assert_eq!(expressions(&spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]), json!([same, other]));
}

#[test]
fn deletion_waits_only_for_pods_that_run_somewhere() {
    let mut pod = pod(one_container(json!({})));
    assert_eq!(Pod.graceful_deletion(&pod, Some(10)), Some(0));
    pod.set(&["spec", "nodeName"], "n1");
    assert_eq!(Pod.graceful_deletion(&pod, None), Some(30));
    assert_eq!(Pod.graceful_deletion(&pod, Some(5)), Some(5));
    assert_eq!(Pod.graceful_deletion(&pod, Some(-1)), Some(1));
    pod.set(&["status", "phase"], "Succeeded");
    assert_eq!(Pod.graceful_deletion(&pod, None), Some(0));
}

#[test]
fn an_update_may_change_images_but_not_the_command() {
    let old = pod(one_container(json!({})));
    let image = pod(one_container(json!({"image": "nginx:2", "imagePullPolicy": "Always"})));
    assert!(update::validate(&image, &old).is_empty());
    let command = pod(one_container(json!({"command": ["sh"]})));
    let errors = update::validate(&command, &old);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    ));
    let mut two = command.clone();
    two.set(&["spec", "containers"], json!([]));
    assert!(
        update::validate(&two, &old)
            .iter()
            .any(|error| error.to_string() == "spec.containers: Forbidden: pod updates may not add or remove containers")
    );
}

#[test]
fn tolerations_are_only_added() {
    let mut old = pod(one_container(json!({})));
    old.set(&["spec", "tolerations"], json!([{"key": "a", "operator": "Exists"}]));
    let mut new = old.clone();
    new.set(
        &["spec", "tolerations"],
        json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5, "effect": ""}, {"key": "b", "operator": "Exists"}]),
    );
    let added = json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]);
    let mut grown = old.clone();
    grown.set(&["spec", "tolerations"], added);
    assert!(update::validate(&grown, &old).is_empty());
    new.set(&["spec", "tolerations"], json!([]));
    assert_eq!(update::validate(&new, &old)[0].field, "spec.tolerations");
}

#[test]
fn mounts_name_volumes_of_the_pod() {
    let pod = pod(one_container(json!({"volumeMounts": [{"name": "gone", "mountPath": "/x"}]})));
    let errors: Vec<String> = Pod.validate_create(&pod).iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["spec.containers[0].volumeMounts[0].name: Not found: \"gone\""]);
}

#[test]
fn requests_above_limits_are_refused() {
    let pod = pod(one_container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})));
    let errors: Vec<String> = Pod.validate_create(&pod).iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"]);
}

fn summary(status: Value, extra: Value) -> (String, String) {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}, "status": status});
    for (field, value) in extra.as_object().into_iter().flatten() {
        pod[field] = value.clone();
    }
    let summary = Summary::of(&pod);
    (format!("{}/{}", summary.ready, summary.total), summary.reason)
}

#[test]
fn the_status_column_tells_the_most_telling_reason() {
    let running = json!({"name": "a", "ready": true, "state": {"running": {}}, "restartCount": 0});
    let waiting = |reason: &str| json!({"name": "b", "state": {"waiting": {"reason": reason}}, "restartCount": 2});
    let ended = |code: i64, reason: &str| json!({"name": "b", "state": {"terminated": {"exitCode": code, "reason": reason}}, "restartCount": 0});
    let init_done = json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}}]);
    let deleted = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let cases = [
        (json!({"phase": "Pending"}), json!({}), ("0/2", "Pending")),
        (json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}), json!({}), ("0/2", "Init:0/1")),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            json!({}),
            ("0/2", "Init:CrashLoopBackOff"),
        ),
        (
            json!({"phase": "Running", "initContainerStatuses": init_done, "containerStatuses": [running, waiting("CrashLoopBackOff")]}),
            json!({}),
            ("1/2", "CrashLoopBackOff"),
        ),
        (json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed"), ended(0, "Completed")]}), json!({}), ("0/2", "Completed")),
        (json!({"phase": "Failed", "containerStatuses": [ended(0, "Completed"), ended(2, "")]}), json!({}), ("0/2", "ExitCode:2")),
        (json!({"phase": "Failed", "reason": "Evicted"}), json!({}), ("0/2", "Evicted")),
        (json!({"phase": "Running", "containerStatuses": [running]}), deleted, ("1/2", "Terminating")),
    ];
    for (status, extra, (ready, reason)) in cases {
        assert_eq!(summary(status.clone(), extra), (ready.to_owned(), reason.to_owned()), "{status}");
    }
}

#[test]
fn a_resize_touches_resources_only() {
    let old = pod(one_container(json!({})));
    let mut new = pod(one_container(json!({"image": "other", "resources": {"requests": {"cpu": "1"}}})));
    resize::keep_all_but_resources(&mut new, &old);
    let container = &new.list(&["spec", "containers"])[0];
    assert_eq!((container["image"].clone(), container["resources"].clone()), (json!("nginx"), json!({"requests": {"cpu": "1"}})));
}

#[test]
fn ephemeral_containers_come_through_their_subresource_only() {
    let old = pod(one_container(json!({})));
    let mut new = pod(one_container(json!({"image": "other"})));
    new.set(&["spec", "ephemeralContainers"], json!([{"name": "debug", "image": "busybox"}]));
    assert!(Pod.validate_create(&new).iter().any(|error| error.to_string() == "spec.ephemeralContainers: Forbidden: cannot be set on create"));
    ephemeral::keep_all_but_ephemeral_containers(&mut new, &old);
    assert_eq!(new.list(&["spec", "containers"])[0]["image"], "nginx");
    assert_eq!(new.list(&["spec", "ephemeralContainers"]).len(), 1);
    let errors = ephemeral::validate_ephemeral_containers(&old, &new);
    assert!(errors.iter().any(|error| error.to_string().contains("existing ephemeral containers \"debug\" may not be removed")));
}
