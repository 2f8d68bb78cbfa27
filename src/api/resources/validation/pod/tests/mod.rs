//! What is wrong with a pod, and what it is told: a row each.

mod containers;
mod security;
mod volumes;

use serde_json::{Value, json};

use crate::{
    meta::Object,
    resources::{Strategy, kinds::Pod},
};

/// A defaulted pod with each value at its JSON pointer; missing parts are made, `-` appends.
fn pod(changes: &[(&str, Value)]) -> Object {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "annotations": {}},
        "spec": {
            "serviceAccountName": "default",
            "containers": [{"name": "c", "image": "a"}], "initContainers": [{"name": "i", "image": "a"}], "volumes": [{"name": "v", "emptyDir": {}}],
        },
    });
    for (pointer, value) in changes {
        set(&mut pod, pointer, value.clone());
    }
    let mut pod = Object::from_value(pod).expect("an object");
    Pod.default_object(&mut pod);
    pod
}

fn set(root: &mut Value, pointer: &str, value: Value) {
    let mut place = root;
    for step in pointer.trim_start_matches('/').split('/') {
        let step = step.replace("~1", "/");
        place = match place {
            Value::Array(list) => {
                let index: usize = step.parse().expect("an index");
                while list.len() <= index {
                    list.push(json!({}));
                }
                &mut list[index]
            }
            place => &mut place[step],
        };
    }
    *place = value;
}

fn errors(changes: &[(&str, Value)]) -> Vec<String> {
    Pod.validate_create(&pod(changes)).iter().map(ToString::to_string).collect()
}

/// Each row: where, what, and all that is said about it, without `spec.`.
fn check(rows: &[(&str, Value, &[&str])]) {
    for (pointer, value, want) in rows {
        let got: Vec<String> =
            errors(&[(pointer, value.clone())]).iter().map(|error| error.strip_prefix("spec.").unwrap_or(error).to_owned()).collect();
        assert_eq!(got, *want, "{pointer} = {value}");
    }
}

#[test]
fn a_plain_pod_is_right() {
    assert_eq!(errors(&[]), Vec::<String>::new());
}

#[test]
fn times_have_bounds() {
    check(&[
        ("/spec/terminationGracePeriodSeconds", json!(i32::MAX), &[]),
        ("/spec/terminationGracePeriodSeconds", json!(-5), &[]),
        (
            "/spec/terminationGracePeriodSeconds",
            json!(1_i64 << 62),
            &["terminationGracePeriodSeconds: Invalid value: 4611686018427387904: must be less than or equal to 2147483647"],
        ),
        ("/spec/activeDeadlineSeconds", json!(0), &["activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"]),
        (
            "/spec/containers/0/livenessProbe",
            json!({"tcpSocket": {"port": 1}, "periodSeconds": -1, "terminationGracePeriodSeconds": 1_i64 << 62}),
            &[
                "containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                "containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 4611686018427387904: must be less than or equal to 2147483647",
            ],
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"sleep": {"seconds": 1_i64 << 62}}}),
            &[
                "containers[0].lifecycle.preStop.sleep: Invalid value: 4611686018427387904: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
    ]);
}

#[test]
fn where_a_pod_may_go_is_said_in_known_words() {
    let spread = |more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
        constraint.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        constraint
    };
    check(&[
        (
            "/spec/tolerations",
            json!([{"operator": "Sometimes", "key": "k"}]),
            &["tolerations[0].operator: Unsupported value: \"Sometimes\": supported values: \"Equal\", \"Exists\""],
        ),
        ("/spec/tolerations", json!([{"key": "k", "operator": "Lt", "value": "-5"}]), &[]),
        (
            "/spec/tolerations",
            json!([{"key": "k", "operator": "Gt", "value": "05"}]),
            &["tolerations[0].value: Invalid value: \"05\": must be a valid decimal integer in canonical form"],
        ),
        (
            "/spec/tolerations",
            json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 1}]),
            &["tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set"],
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([spread(json!({"minDomains": 0, "nodeTaintsPolicy": "Maybe"})), spread(json!({"matchLabelKeys": ["a"]}))]),
            &[
                "topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, ScheduleAnyway}\"",
                "topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero",
                "topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                "topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: \"Maybe\": supported values: \"Honor\", \"Ignore\"",
                "topologySpreadConstraints[1].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        ),
        (
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.uid", "operator": "Gt", "values": ["1"]}]}, {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]},
            ]}}}),
            &[
                "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].operator: Invalid value: \"Gt\": not a valid selector operator",
                "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"metadata.uid\": not a valid field selector key",
                &format!(
                    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[1].matchExpressions[0].values[0]: Invalid value: \"b c\": {}",
                    super::names::label_value("b c")[0]
                ),
            ],
        ),
        (
            "/spec/affinity",
            json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "k", "namespaces": ["A"]}}]}}),
            &[
                "affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
                &format!(
                    "affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.namespace: Invalid value: \"A\": {}",
                    super::names::label("A", false)[0]
                ),
            ],
        ),
        ("/spec/schedulingGates", json!([{"name": "a"}, {"name": "a"}]), &["schedulingGates[1]: Duplicate value: \"a\""]),
        (
            "/spec/preemptionPolicy",
            json!("Maybe"),
            &["preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\""],
        ),
        ("/spec/schedulingGroup", json!({"podGroupName": "a.b"}), &[]),
        ("/spec/schedulingGroup", json!({}), &["schedulingGroup.podGroupName: Invalid value: null: must specify one of: `podGroupName`"]),
        (
            "/spec/hostnameOverride",
            json!("Not_A_Name"),
            &[&format!("hostnameOverride: Invalid value: \"Not_A_Name\": {}", super::names::subdomain("Not_A_Name", false)[0])],
        ),
    ]);
}

#[test]
fn what_is_stored_wrong_may_stay_but_not_get_worse() {
    let resources = crate::resources::Registry::new(crate::resources::builtin());
    let pods = resources.by_resource("", "pods").expect("is served");
    let old =
        pod(&[("/spec/containers/0/ports", json!([{"containerPort": 80, "hostIP": "x -j ACCEPT"}])), ("/metadata/finalizers", json!(["a.b/c"]))]);
    let mut freed = old.clone();
    freed.remove(&["metadata", "finalizers"]);
    assert_eq!(pods.validate_update(&pods.storage, &freed, &old, ""), []);
    let mut worse = old.clone();
    worse.set(
        &["spec", "containers"],
        json!([{"name": "c", "image": " a", "ports": [{"containerPort": 80, "hostIP": "x -j ACCEPT", "protocol": "TCP"}],
        "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}]),
    );
    let errors: Vec<String> = pods.validate_update(&pods.storage, &worse, &old, "").iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["spec.containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace"]);
}
