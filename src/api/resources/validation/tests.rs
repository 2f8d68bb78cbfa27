use serde_json::json;

use super::{finalizer_names, metadata, metadata_update};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

/// An object from its tree.
pub fn object(value: serde_json::Value) -> Object {
    Object::from_value(value).expect("a JSON object")
}

/// Errors as clients read them.
pub fn texts(errors: impl AsRef<[FieldError]>) -> Vec<String> {
    errors.as_ref().iter().map(ToString::to_string).collect()
}

#[test]
fn a_bad_name_is_rejected_with_the_rule_it_breaks() {
    let bad = object(json!({"metadata": {"name": "Web_1", "namespace": "default"}}));
    let errors = texts(metadata(&bad, true, names::subdomain));
    assert_eq!(
        errors,
        [
            "metadata.name: Invalid value: \"Web_1\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
}

#[test]
fn names_and_namespaces_are_required_where_the_kind_has_them() {
    let nameless = object(json!({"metadata": {}}));
    assert_eq!(
        texts(metadata(&nameless, true, names::subdomain)),
        ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"]
    );
    let misplaced = object(json!({"metadata": {"name": "n", "namespace": "x"}}));
    assert_eq!(texts(metadata(&misplaced, false, names::subdomain)), ["metadata.namespace: Forbidden: not allowed on this type"]);
}

#[test]
fn a_generate_name_may_end_in_a_dash() {
    let generated = object(json!({"metadata": {"name": "web-x1", "generateName": "web-", "namespace": "d"}}));
    assert!(metadata(&generated, true, names::label).is_empty());
}

#[test]
fn labels_and_annotations_need_qualified_keys() {
    let bad = object(json!({"metadata": {"name": "n", "namespace": "d", "labels": {"a/b/c": "x y"}, "annotations": {"/x": "1"}}}));
    let errors = texts(metadata(&bad, true, names::subdomain));
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].contains("a valid label key must consist of"), "{}", errors[0]);
    assert!(errors[1].contains("metadata.labels: Invalid value: \"x y\": a valid label must be an empty string"), "{}", errors[1]);
    assert!(errors[2].contains("metadata.annotations: Invalid value: \"/x\": prefix part must be non-empty"), "{}", errors[2]);
}

#[test]
fn two_controllers_are_one_too_many() {
    let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true});
    let owned = object(json!({"metadata": {"name": "n", "namespace": "d", "ownerReferences": [owner("a"), owner("b")]}}));
    let errors = texts(metadata(&owned, true, names::subdomain));
    assert!(errors[0].ends_with("Found \"true\" in references for ReplicaSet/a and ReplicaSet/b"), "{errors:?}");
}

#[test]
fn what_is_being_deleted_gets_no_new_finalizers_and_keeps_its_uid() {
    let old = object(json!({"metadata": {"name": "n", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c"]}}));
    let new = object(json!({"metadata": {"name": "n", "uid": "2", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c", "x.y/z"]}}));
    assert_eq!(
        texts(metadata_update(&new, &old)),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.y/z\"}",
            "metadata.uid: Invalid value: \"2\": field is immutable"
        ]
    );
}

#[test]
fn finalizers_are_known_or_have_a_domain_and_those_that_are_stored_stay() {
    let with = |finalizers: serde_json::Value| object(json!({"metadata": {"name": "n", "namespace": "d", "finalizers": finalizers}}));
    let wanted = "metadata.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified";
    let bad = with(json!(["orphan", "mine"]));
    assert_eq!(texts(finalizer_names(&bad, None)), [wanted]);
    assert_eq!(texts(finalizer_names(&bad, Some(&with(json!([]))))), [wanted]);
    assert!(finalizer_names(&bad, Some(&bad)).is_empty());
    assert!(finalizer_names(&with(json!(["a.b/c", "foregroundDeletion"])), None).is_empty());
    assert!(metadata(&bad, true, names::subdomain).is_empty(), "kinds may take any");
}

#[test]
fn name_rules_differ_in_dots_digits_and_slashes() {
    assert_eq!(names::label("a.b", false), ["must not contain dots"]);
    assert!(names::dns_1035_label("1a", false)[0].starts_with("a DNS-1035 label"));
    assert!(names::label("1a", false).is_empty());
    assert_eq!(names::path_segment("a/b", false), ["may not contain '/'"]);
    assert!(names::path_segment("system:node", false).is_empty());
    assert!(names::config_key("..data")[0].starts_with("must not start with"));
    assert!(names::qualified("example.com/name").is_empty());
}

fn job(more: serde_json::Value) -> Object {
    let labels = json!({
        "controller-uid": "u", "job-name": "j", "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j",
    });
    let container = json!({
        "name": "c", "image": "a", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/t", "terminationMessagePolicy": "File",
    });
    let pod = json!({
        "restartPolicy": "Never", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 30, "schedulerName": "s", "containers": [container],
    });
    let mut spec = json!({
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}, "completionMode": "NonIndexed", "parallelism": 1,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    object(json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec}))
}

fn indexed(completions: i64, more: serde_json::Value) -> Object {
    let mut job = job(more);
    job.set(&["spec", "completionMode"], "Indexed");
    job.set(&["spec", "completions"], completions);
    job
}

#[test]
fn rules_about_failed_pods_are_checked() {
    assert_eq!(texts(super::job::job(&job(json!({})))), Vec::<String>::new());
    let rule = json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3, 0, 3], "containerName": "x"}, "onPodConditions": []});
    let policy = json!({"podFailurePolicy": {"rules": [rule, {"action": "Fail"}]}, "podReplacementPolicy": "TerminatingOrFailed"});
    assert_eq!(
        texts(super::job::job(&job(policy))),
        [
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
            "spec.podFailurePolicy.rules[1].action: Unsupported value: \"Fail\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
            "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
        ]
    );
}

#[test]
fn rules_about_success_are_checked() {
    let policy = json!({"successPolicy": {"rules": [{"succeededIndexes": "0-2,1"}, {"succeededIndexes": "0,2", "succeededCount": 3}, {}]}});
    assert_eq!(
        texts(super::job::job(&indexed(3, policy.clone()))),
        [
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-2,1\": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1",
            "spec.successPolicy.rules[1].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
            "spec.successPolicy.rules[2]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ]
    );
    let errors = texts(super::job::job(&job(policy)));
    assert!(errors[0].starts_with("spec.successPolicy: Invalid value: ") && errors[0].ends_with("requires indexed completion mode"), "{errors:?}");
}

#[test]
fn an_indexed_job_changes_its_completions_only_with_its_parallelism() {
    let old = indexed(3, json!({"parallelism": 3}));
    assert!(super::job::job_update(&indexed(5, json!({"parallelism": 5})), &old).is_empty());
    let errors = texts(super::job::job_update(&indexed(5, json!({"parallelism": 3})), &old));
    assert_eq!(errors, ["spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism"]);
    let errors = texts(super::job::job_update(&job(json!({"completions": 5})), &job(json!({"completions": 3}))));
    assert_eq!(errors, ["spec.completions: Invalid value: 5: field is immutable"]);
}

#[test]
fn what_a_suspended_job_runs_may_still_be_moved_and_resized() {
    let mut old = job(json!({"suspend": true}));
    old.set(&["status"], json!({"startTime": "2030-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]}));
    let mut new = old.clone();
    new.set(&["spec", "template", "spec", "nodeSelector"], json!({"disk": "ssd"}));
    let mut container = new.list(&["spec", "template", "spec", "containers"])[0].clone();
    container["resources"] = json!({"requests": {"cpu": "2"}});
    new.set(&["spec", "template", "spec", "containers"], json!([container]));
    assert_eq!(texts(super::job::job_update(&new, &old)), Vec::<String>::new());
    let named = |new: &Object, old: &Object| super::job::job_update(new, old).into_iter().map(|error| error.field).collect::<Vec<_>>();
    let mut renamed = new.clone();
    renamed.set(&["spec", "template", "spec", "hostname"], "h");
    assert_eq!(named(&renamed, &old), ["spec.template.spec"]);
    old.set(&["spec", "suspend"], false);
    assert_eq!(named(&new, &old), ["spec.template"]);
}

#[test]
fn a_jobs_status_ends_only_one_way_and_only_once() {
    let with = |status: serde_json::Value| {
        let mut job = job(json!({}));
        job.set(&["status"], status);
        job
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let running = with(json!({"active": 1, "ready": 1, "startTime": "2030-01-01T00:00:00Z"}));
    let complete = with(json!({
        "startTime": "2030-01-01T00:00:00Z", "completionTime": "2030-01-01T00:00:05Z", "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    }));
    let check = |new: &Object, old: &Object| texts(super::job_status::job_status(new, old));
    assert_eq!(check(&complete, &running), Vec::<String>::new());
    assert_eq!(
        check(&running, &complete),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        ]
    );
    let hasty = with(json!({"active": 1, "startTime": "2030-01-01T00:00:00Z", "conditions": [condition("Failed")]}));
    assert_eq!(
        check(&hasty, &running),
        [
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ]
    );
}

#[test]
fn a_cron_jobs_schedule_and_zone_are_checked() {
    let cron = |schedule: &str, zone: serde_json::Value| {
        let job = job(json!({"selector": null}));
        let template = json!({"spec": job.get(&["spec"])});
        let spec = json!({"schedule": schedule, "timeZone": zone, "concurrencyPolicy": "Allow", "jobTemplate": template});
        texts(super::cron_job::cron_job(&object(json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec}))))
    };
    assert_eq!(cron("*/5 * * * 1-5", json!("Europe/Berlin")), Vec::<String>::new());
    assert_eq!(cron("error", json!(null)), ["spec.schedule: Invalid value: \"error\": expected exactly 5 fields, found 1: [error]"]);
    assert_eq!(
        cron("TZ=UTC 0 * * * *", json!(null)),
        ["spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"]
    );
    assert_eq!(cron("@daily", json!("Nowhere/Land")), ["spec.timeZone: Invalid value: \"Nowhere/Land\": unknown time zone Nowhere/Land"]);
    assert_eq!(cron("@daily", json!("europe/berlin")), ["spec.timeZone: Invalid value: \"europe/berlin\": unknown time zone europe/berlin"]);
    assert_eq!(cron("@daily", json!("../etc")), ["spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"]);
}

#[test]
fn a_stateful_sets_strategy_and_ordinals_are_checked() {
    let pod = job(json!({})).get(&["spec", "template"]).cloned().expect("a template");
    let mut spec = json!({
        "selector": {"matchLabels": {"job-name": "j"}}, "template": pod, "podManagementPolicy": "OrderedReady", "ordinals": {"start": -1},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 0}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Keep"},
    });
    spec["template"]["spec"]["restartPolicy"] = "Always".into();
    let set = object(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec}));
    assert_eq!(
        texts(super::stateful_set::stateful_set(&set)),
        [
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Retain\", \"Delete\"",
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
}
