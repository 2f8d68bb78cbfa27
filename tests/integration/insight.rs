//! `troupe trace` and `troupe why` on a live cluster.

use serde_json::Value;

use crate::cluster::{Cluster, apply, eventually, shared};

fn trace(cluster: &Cluster, object: &str) -> Vec<Value> {
    serde_json::from_str(&cluster.troupe_text(&["trace", object, "-n", "insight", "--json"])).expect("JSON")
}

/// The position of the first step of `message` that matches `fits`.
fn position(steps: &[Value], message: &str, fits: impl Fn(&Value) -> bool) -> usize {
    let found = steps.iter().position(|step| step["message"] == message && fits(step));
    found.unwrap_or_else(|| panic!("no {message} as wanted in {steps:#?}"))
}

const DEPLOYMENT: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: insight}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper, namespace: insight}
spec:
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: sleep, image: "busybox:1.35", command: [sleep, "3600"]}]
"#;

#[test]
fn a_trace_leads_from_the_write_of_a_deployment_to_the_started_container() {
    let cluster = shared();
    apply(&cluster, DEPLOYMENT);
    cluster.kubectl("-n insight rollout status deployment/sleeper --timeout=60s");
    let pod = cluster.kubectl("-n insight get pods -o jsonpath={.items[0].metadata.name}");
    let wrote = |step: &Value, what: &str| step["produced"].as_str().is_some_and(|produced| produced.starts_with(what));
    for object in ["deployment/sleeper".to_owned(), format!("pod/{pod}")] {
        let steps = trace(&cluster, &object);
        let order = [
            position(&steps, "Commit", |step| wrote(step, "deployments.apps insight/sleeper@")),
            position(&steps, "Commit", |step| wrote(step, "replicasets.apps insight/sleeper-")),
            position(&steps, "Commit", |step| wrote(step, &format!("pods insight/{pod}@"))),
            position(&steps, "Schedule", |_| true),
            position(&steps, "RunPodSandbox", |step| step["handledUs"].as_u64() > Some(1000)),
            position(&steps, "CreateContainer", |_| true),
            position(&steps, "StartContainer", |step| step["handledUs"].as_u64() > Some(1000)),
            position(&steps, "Commit", |step| {
                wrote(step, &format!("pods insight/{pod}@"))
                    && step["atUs"].as_u64() > steps.iter().find(|s| s["message"] == "StartContainer").and_then(|s| s["atUs"].as_u64())
            }),
        ];
        assert!(order.is_sorted(), "{object}: {order:?} in {steps:#?}");
        assert!(steps.iter().all(|step| step["trace"] == steps[0]["trace"]), "one write, one trace");
    }
    let text = cluster.troupe_text(&["trace", &format!("pod/{pod}"), "-n", "insight"]);
    assert!(text.lines().any(|line| line.contains("StartContainer") && line.contains(" ms ")), "{text}");
    cluster.kubectl("delete namespace insight --timeout=60s");
}

const TROUBLES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: troubles}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy, namespace: troubles}
spec:
  containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"], resources: {requests: {cpu: "1000"}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: nowhere, namespace: troubles}
spec:
  containers: [{name: c, image: "127.0.0.1:1/nothing:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: crash, namespace: troubles}
spec:
  containers: [{name: c, image: "busybox:1.35", command: [sh, -c, "echo no such file; exit 42"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: unready, namespace: troubles}
spec:
  terminationGracePeriodSeconds: 15
  containers: [{name: c, image: "busybox:1.35", command: [sh, -c, "trap '' TERM; while true; do sleep 1; done"], readinessProbe: {exec: {command: [cat, /nothing]}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: initial, namespace: troubles}
spec:
  initContainers: [{name: setup, image: "busybox:1.35", command: [sh, -c, "echo cannot set up; exit 7"]}]
  containers: [{name: c, image: "busybox:1.35"}]
---
apiVersion: v1
kind: Pod
metadata: {name: missing, namespace: troubles}
spec:
  containers: [{name: c, image: "busybox:1.35", volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, configMap: {name: absent}}]
---
apiVersion: v1
kind: Pod
metadata: {name: held, namespace: troubles, finalizers: [example.com/hold]}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"]}]
"#;

#[test]
fn why_tells_what_is_wrong_with_pods() {
    let cluster = shared();
    apply(&cluster, TROUBLES);
    let says = |pod: &str, wanted: &[&str]| {
        let why = || cluster.troupe_text(&["why", &format!("pod/{pod}"), "-n", "troubles"]);
        eventually(&format!("why pod/{pod} says {wanted:?}"), || {
            let text = why();
            wanted.iter().all(|piece| text.contains(piece))
        });
    };
    says("greedy", &["not on a node yet", "Insufficient cpu", "node it: has only"]);
    says("nowhere", &["image 127.0.0.1:1/nothing:1 cannot be had"]);
    says("crash", &["exit code 42", "log: no such file", "restarts"]);
    says("unready", &["readiness probe (command cat /nothing)", "failed"]);
    says("initial", &["init container setup crashes: exit code 7", "log: cannot set up"]);
    says("missing", &["FailedMount", "absent", "not found"]);
    cluster.kubectl("-n troubles wait --for=condition=Ready pod/held --timeout=60s");
    cluster.kubectl("-n troubles delete pod held unready --wait=false");
    says("held", &["Terminating", "finalizers hold it: example.com/hold"]);
    says("unready", &["still running: c (killed in", "the kubelet waits for: container c to stop"]);
    let report: Value = serde_json::from_str(&cluster.troupe_text(&["why", "pod/crash", "-n", "troubles", "--json"])).expect("JSON");
    assert_eq!(report["object"], "pod troubles/crash");
    assert!(report["reasons"][0]["what"].is_string());
    cluster.kubectl_words(&["-n", "troubles", "patch", "pod", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    cluster.kubectl("delete namespace troubles --timeout=120s");
}
