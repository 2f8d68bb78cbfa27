//! `troupe trace`, `troupe actors` and `troupe why` on live clusters.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{Cluster, apply, eventually, shared, text};

fn trace(cluster: &Cluster, object: &str) -> Vec<Value> {
    serde_json::from_str(&cluster.troupe_text(&["trace", object, "-n", "insight", "--json"])).expect("JSON")
}

/// The same when all processes have answered.
fn whole_trace(cluster: &Cluster, object: &str) -> Vec<Value> {
    let command = ["trace", object, "-n", "insight", "--json"];
    let told = RefCell::new(Vec::new());
    eventually("all processes tell their steps", || {
        let output = cluster.troupe_with_settings(&command);
        told.replace(serde_json::from_slice(&output.stdout).unwrap_or_default());
        output.status.success() && !text(&output.stderr).contains("does not answer")
    });
    told.into_inner()
}

/// The position of the first step of `message` that matches `fits`.
fn position(steps: &[Value], message: &str, fits: impl Fn(&Value) -> bool) -> usize {
    let found = steps.iter().position(|step| step["message"] == message && fits(step));
    found.unwrap_or_else(|| panic!("no {message} as wanted in {steps:#?}"))
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper, namespace: insight}
spec:
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: sleep, image: "busybox:1.35", command: [sleep, "3600"], resources: {requests: {cpu: 10m}}}]
"#;

/// Makes the Deployment in a namespace of its own. Its account is there before: else pods are refused at first, and who tries again is led by
/// another cause.
fn deploy(cluster: &Cluster) {
    cluster.kubectl("create namespace insight");
    cluster.eventually_has("serviceaccount/default", "insight");
    apply(cluster, DEPLOYMENT);
    cluster.kubectl("-n insight rollout status deployment/sleeper --timeout=120s");
}

#[test]
fn a_trace_leads_from_the_write_of_a_deployment_to_the_started_container() {
    let cluster = shared();
    deploy(&cluster);
    let pod = cluster.kubectl("-n insight get pods -o jsonpath={.items[0].metadata.name}");
    let wrote = |step: &Value, what: &str| step["produced"].as_str().is_some_and(|produced| produced.starts_with(what));
    for object in ["deployment/sleeper".to_owned(), format!("pod/{pod}")] {
        let steps = trace(&cluster, &object);
        let order = [
            position(&steps, "create", |step| step["from"] == "kubernetes-admin" && step["to"] == "apiserver"),
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
    cluster.kubectl("delete namespace insight --timeout=120s");
}

#[test]
fn a_trace_goes_through_all_daemons_of_a_cluster() {
    let cluster = Cluster::place();
    let _apiserver = cluster.daemon("control-plane", &["--components=apiserver"]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    eventually("the components have kubeconfigs", || cluster.path("node.kubeconfig").exists());
    let keys = format!("--certificates-dir={}", cluster.path("data/pki").display());
    let _controllers = cluster.daemon_beside("-c", "control-plane", "controller-manager.kubeconfig", &["--components=controllers", &keys]);
    let _scheduler = cluster.daemon_beside("-s", "control-plane", "scheduler.kubeconfig", &["--components=scheduler"]);
    let node = cluster.daemon("node", &[]);
    eventually("the node is Ready", || text(&cluster.kubectl_output("get nodes").stdout).contains(" Ready "));
    deploy(&cluster);
    let pod = cluster.kubectl("-n insight get pods -o jsonpath={.items[0].metadata.name}");
    for object in ["deployment/sleeper".to_owned(), format!("pod/{pod}")] {
        let steps = whole_trace(&cluster, &object);
        let at = |process: &str, message: &str| position(&steps, message, |step| step["process"] == process);
        let order = [
            at("apiserver@it", "create"),
            at("apiserver@it", "Commit"),
            at("controllers@it", "Reconcile"),
            at("scheduler@it", "Schedule"),
            at("node@it", "RunPodSandbox"),
            at("node@it", "StartContainer"),
        ];
        assert!(order.is_sorted(), "{object}: {order:?} in {steps:#?}");
        assert!(steps.iter().all(|step| step["trace"] == steps[0]["trace"]), "one write, one trace: {steps:#?}");
        let bound = position(&steps, "Commit", |step| step["from"] == "scheduler");
        assert!(order[3] < bound && bound < order[4], "{object}: the binding comes between decision and sandbox in {steps:#?}");
    }
    let told = cluster.troupe_text(&["trace", &format!("pod/{pod}"), "-n", "insight"]);
    assert!(told.lines().any(|line| line.contains("node@it") && line.contains("StartContainer")), "{told}");
    all_processes_are_asked(&cluster);
    secrets_get_their_tokens(&cluster);
    drop(node);
    eventually("a node that does not answer is named", || {
        let output = cluster.troupe_command(&["trace", "deployment/sleeper", "-n", "insight"]).output().expect("troupe runs");
        output.status.success() && text(&output.stderr).contains("node@it does not answer")
    });
}

/// Controllers without an API server sign them with the key beside the certificates.
fn secrets_get_their_tokens(cluster: &Cluster) {
    apply(
        cluster,
        r#"
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: insight, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
"#,
    );
    eventually("the secret has its token", || !cluster.kubectl("-n insight get secret token -o jsonpath={.data.token}").is_empty());
}

/// `troupe actors` shows and reaches all of them, and each tells its metrics.
fn all_processes_are_asked(cluster: &Cluster) {
    let lives = |path: &str, process: &str| cluster.actors().iter().any(|actor| actor["path"] == path && actor["process"] == process);
    for (path, process) in
        [("apiserver/pods", "apiserver@it"), ("controllers/deployment", "controllers@it"), ("scheduler", "scheduler@it"), ("kubelet/node", "node@it")]
    {
        // Who does not answer in time is left out.
        eventually(&format!("{path} of {process} is shown"), || lives(path, process));
    }
    // Also those beside the API server know what their watches were told, and that they are not behind.
    let is_fresh = |actor: &Value| actor["status"]["newest"].as_u64() > Some(0) && actor["status"]["lagSeconds"].as_f64() < Some(1.0);
    for (path, process) in [("caches/Deployment", "controllers@it"), ("caches/Pod", "scheduler@it"), ("caches/Pod-of-node", "node@it")] {
        let knows = || cluster.actors().iter().any(|actor| actor["path"] == path && actor["process"] == process && is_fresh(actor));
        eventually(&format!("{path} of {process} knows how far it is behind"), knows);
    }
    eventually("all four processes are shown, and how far a cache is behind", || {
        let tree = cluster.troupe_text(&["actors"]);
        let is_told = tree.lines().any(|line| line.contains(" Pod-of-node ") && line.ends_with("s behind"));
        is_told && tree.lines().filter(|line| line.contains("@it (pid ")).count() == 4
    });
    let kubeconfig = cluster.kubeconfig().to_string_lossy().into_owned();
    let kill = || {
        let mut troupe = cluster.inside(&crate::cluster::binary());
        troupe.args(["actors", "kill", "scheduler", "--panic", "--kubeconfig", &kubeconfig]).output().expect("troupe runs")
    };
    // A process that does not answer in time is not asked to kill anybody.
    eventually("the scheduler panics", || text(&kill().stdout).contains("scheduler of scheduler@it panics now"));
    eventually("it was restarted", || cluster.actors().iter().any(|actor| actor["path"] == "scheduler" && actor["restarts"] == 1));
    let pki = |name: &str| cluster.path(&format!("data/pki/{name}")).to_string_lossy().into_owned();
    let get = |url: &str| {
        let output = cluster.inside("curl").args(["-sk", "--cert", &pki("admin.crt"), "--key", &pki("admin.key"), url]).output().expect("curl runs");
        text(&output.stdout)
    };
    assert!(get("https://127.0.0.1:10257/metrics").contains("troupe_cache_lag_seconds{cache=\"caches/Deployment\"} "));
    assert!(get("https://127.0.0.1:10257/metrics").contains("leader_election_master_status{name=\"kube-controller-manager\"} 1"));
    assert!(get("https://127.0.0.1:10259/metrics").contains("scheduler_schedule_attempts_total{result=\"scheduled\""));
    let asks = "kube_pod_resource_request{namespace=\"insight\",pod=\"sleeper-";
    eventually("the scheduler tells what pods ask for", || get("https://127.0.0.1:10259/metrics/resources").contains(asks));
    assert!(cluster.kubectl("get --raw /metrics/resources").contains(asks));
    assert!(get("https://127.0.0.1:10257/metrics/resources").contains("404"));
    assert!(get("https://127.0.0.1:10257/statusz").contains("kube-controller-manager statusz\n"));
    let flags = get("https://127.0.0.1:10259/flagz");
    assert!(flags.contains("kube-scheduler flagz\n") && flags.contains("scheduler-config") && !flags.contains("api-port"), "{flags}");
    let flags = cluster.kubectl("get --raw /flagz");
    assert!(flags.contains("apiserver flagz\n") && flags.contains("6443") && flags.contains("components"), "{flags}");
    assert!(!flags.contains("scheduler-config") && !flags.contains("terminated-pod-gc-threshold"), "a front door tells its own flags: {flags}");
    cluster.kubectl("get --raw /statusz");
    assert!(cluster.kubectl("get --raw /metrics").contains("resource=\"statusz\""));
    let status = get("https://127.0.0.1:10250/statusz");
    assert!(status.contains("kubelet statusz\n") && status.contains("/configz /flagz /healthz /metrics"), "{status}");
    assert!(get("http://127.0.0.1:10249/flagz").contains("kube-proxy flagz\n"));
    let anonymous = cluster.inside("curl").args(["-sk", "https://127.0.0.1:10257/metrics"]).output().expect("curl runs");
    assert!(text(&anonymous.stdout).contains("Unauthorized"));
    assert_eq!(text(&cluster.inside("curl").args(["-sk", "https://127.0.0.1:10259/healthz"]).output().expect("curl runs").stdout), "ok");
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
  terminationGracePeriodSeconds: 30
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

/// Waits until `troupe why` says all of `wanted` of an object; fails with what it said last.
fn explains(cluster: &Cluster, object: &str, wanted: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let told = cluster.troupe_text(&["why", object, "-n", "troubles"]);
        if wanted.iter().all(|piece| told.contains(piece)) {
            return;
        }
        assert!(Instant::now() < deadline, "not within 120 s: why {object} says {wanted:?}; it says:\n{told}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `troupe why` finds nothing wrong with the node exactly if the API tells of no fault. The machine may be busy or full, and other tests were here before.
fn the_node_is_told_as_it_is(cluster: &Cluster) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (told, troubles) = (cluster.troupe_text(&["why", "node/it"]), troubles_of_the_node(cluster));
        let well = told.lines().next().is_some_and(|state| state.ends_with(": nothing is wrong"));
        let named = troubles.first().is_none_or(|trouble| told.contains(trouble));
        if told.starts_with("node it: Ready") && well == troubles.is_empty() && named {
            return;
        }
        assert!(Instant::now() < deadline, "not within 120 s: why node/it tells of {troubles:?} and nothing else; it says:\n{told}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Conditions of the node that are as they should not be, who has set it aside, and reasons of warnings that came within ten minutes.
fn troubles_of_the_node(cluster: &Cluster) -> Vec<String> {
    let list = |words: &str, items: &str| -> Vec<Value> {
        let answer: Value = serde_json::from_str(&cluster.kubectl(words)).expect("JSON");
        answer.pointer(items).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut troubles = Vec::new();
    for condition in list("get node it -o json", "/status/conditions") {
        let good = if condition["type"] == "Ready" { "True" } else { "False" };
        if condition["status"] != good {
            troubles.extend(condition["type"].as_str().map(str::to_owned));
        }
    }
    let aside = |actor: &&Value| actor["status"]["kind"] == "Node" && actor["status"]["quarantined"]["it"].is_string();
    troubles.extend(cluster.actors().iter().filter(aside).filter_map(|actor| actor["path"].as_str().map(str::to_owned)));
    for event in list("-n default get events --field-selector=involvedObject.kind=Node,involvedObject.name=it -o json", "/items") {
        let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
        let last = times.into_iter().find_map(|time| time.as_str()?.parse::<Timestamp>().ok());
        let is_fresh = last.is_none_or(|last| Timestamp::now().duration_since(last).as_secs() <= 600);
        if event["type"] == "Warning" && is_fresh {
            troubles.extend(event["reason"].as_str().map(str::to_owned));
        }
    }
    troubles
}

fn pods_that_a_policy_refuses_lead_to_it(cluster: &Cluster) {
    apply(cluster, POLICY);
    eventually("the policy counts", || {
        let refused = cluster.kubectl_output("-n troubles run unwanted --image=busybox:1.35 --labels=app=unwanted --dry-run=server");
        !refused.status.success() && text(&refused.stderr).contains("nobody wants it")
    });
    apply(cluster, UNWANTED);
    let policy = "kubectl get validatingadmissionpolicy troubles.example.com -o yaml";
    let binding = "kubectl get validatingadmissionpolicybinding everywhere.example.com -o yaml";
    explains(cluster, "deployment/unwanted", &["its pods are refused", "nobody wants it", policy, binding]);
    cluster.kubectl("delete validatingadmissionpolicybinding everywhere.example.com");
    cluster.kubectl("delete validatingadmissionpolicy troubles.example.com");
}

#[test]
fn why_tells_what_is_wrong_with_pods() {
    let cluster = shared();
    apply(&cluster, TROUBLES);
    let explains = |object: &str, wanted: &[&str]| explains(&cluster, object, wanted);
    let says = |pod: &str, wanted: &[&str]| explains(&format!("pod/{pod}"), wanted);
    says("greedy", &["not on a node yet", "Insufficient cpu", "node it: has only"]);
    says("nowhere", &["image 127.0.0.1:1/nothing:1 cannot be had"]);
    says("crash", &["exit code 42", "log: no such file", "restarts"]);
    says("unready", &["readiness probe (command cat /nothing)", "failed"]);
    says("initial", &["init container setup crashes: exit code 7", "log: cannot set up"]);
    says("missing", &["FailedMount", "absent", "not found"]);
    cluster.kubectl("-n troubles wait --for=condition=Ready pod/held --timeout=120s");
    cluster.kubectl("-n troubles delete pod held unready --wait=false");
    // As long as its grace lasts.
    says("unready", &["still running: c (killed in", "the kubelet waits for: container c to stop"]);
    says("held", &["Terminating", "finalizers hold it: example.com/hold"]);
    apply(&cluster, MORE_TROUBLES);
    explains("pvc/data", &["not bound", "its storage class fast does not exist"]);
    explains("service/misspelt", &["0 of 0 endpoints ready", "no pod has the labels app=wep", "pod labelled has app=web"]);
    explains("service/unready", &["0 of 1 endpoints ready", "1 of its 1 pods are not Ready: unlucky"]);
    explains("deployment/refused", &["0 of 1 replicas up to date", "its pods are refused", "nobody"]);
    explains("statefulset/alone", &["0 of 1 replicas ready", "pod troubles/alone-0", "not on a node yet", "it would fit on node it if"]);
    the_node_is_told_as_it_is(&cluster);
    says("lonely", &["didn't match pod affinity rules (InterPodAffinity)", "a pod that its podAffinity asks for runs near there"]);
    says("claiming", &["not on a node yet", "its resource claim gpu does not exist"]);
    says("far", &["didn't match PersistentVolume's node affinity (VolumeBinding)", "its claims' volumes can be reached from there"]);
    says("again", &["Running and Ready (1 restarts so far)", "container c runs again after it ended", "exit code 3 (Error)"]);
    pods_that_a_policy_refuses_lead_to_it(&cluster);
    let report: Value = serde_json::from_str(&cluster.troupe_text(&["why", "pod/crash", "-n", "troubles", "--json"])).expect("JSON");
    assert_eq!(report["object"], "pod troubles/crash");
    assert!(report["reasons"][0]["what"].is_string());
    cluster.kubectl_words(&["-n", "troubles", "patch", "pod", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    cluster.kubectl_words(&[
        "-n",
        "troubles",
        "patch",
        "configmap",
        "kept",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/keep"]}}"#,
    ]);
    cluster.kubectl("delete namespace troubles --wait=false");
    explains("namespace/troubles", &["Terminating", "configmaps are left", "kept, held by finalizers: example.com/keep"]);
    cluster.kubectl_words(&["-n", "troubles", "patch", "configmap", "kept", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    cluster.kubectl("wait --for=delete namespace/troubles --timeout=180s");
    cluster.kubectl("delete pv troubles-far --timeout=60s");
}

/// It minds pods of this test alone.
const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: troubles.example.com}
spec:
  matchConstraints:
    objectSelector: {matchLabels: {app: unwanted}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations: [{expression: "false", message: nobody wants it}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: everywhere.example.com}
spec: {policyName: troubles.example.com, validationActions: [Deny]}
"#;

const UNWANTED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: unwanted, namespace: troubles}
spec:
  selector: {matchLabels: {app: unwanted}}
  template:
    metadata: {labels: {app: unwanted}}
    spec:
      containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"]}]
"#;

const MORE_TROUBLES: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: troubles}
spec: {storageClassName: fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: labelled, namespace: troubles, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: unlucky, namespace: troubles, labels: {app: unlucky}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"], readinessProbe: {exec: {command: [cat, /nothing]}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: lonely, namespace: troubles}
spec:
  containers: [{name: c, image: "busybox:1.35"}]
  affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: absent}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: claiming, namespace: troubles}
spec:
  containers: [{name: c, image: "busybox:1.35"}]
  resourceClaims: [{name: gpu, resourceClaimName: gpu}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: troubles-far}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  claimRef: {namespace: troubles, name: far}
  local: {path: /nowhere}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [elsewhere]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: far, namespace: troubles}
spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: troubles}
spec:
  containers: [{name: c, image: "busybox:1.35", volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: far}}]
---
apiVersion: v1
kind: Pod
metadata: {name: again, namespace: troubles}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.35", command: [sh, -c, "test -e /v/x || { touch /v/x; exit 3; }; exec sleep 3600"], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: misspelt, namespace: troubles}
spec: {selector: {app: wep}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: unready, namespace: troubles}
spec: {selector: {app: unlucky}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, namespace: troubles}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: alone, namespace: troubles}
spec:
  selector: {matchLabels: {app: alone}}
  template:
    metadata: {labels: {app: alone}}
    spec:
      nodeSelector: {disk: ssd}
      containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: refused, namespace: troubles}
spec:
  selector: {matchLabels: {app: refused}}
  template:
    metadata: {labels: {app: refused}}
    spec:
      serviceAccountName: nobody
      containers: [{name: c, image: "busybox:1.35", command: [sleep, "3600"]}]
"#;
