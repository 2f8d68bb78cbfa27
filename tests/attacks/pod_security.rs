//! Pods that would own their node, in namespaces whose labels forbid it; and kinds that are stored and guard nothing.

use std::fs;

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reply},
    cluster::{eventually, text},
    stage::{self, Room, Stage},
};

/// A pod that restricted allows, with what `patch` changes. It is never scheduled.
fn pod(patch: &Value) -> Value {
    let container = json!({
        "name": "c", "image": "busybox",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "attacker"},
        "spec": {
            "nodeSelector": {"nowhere": "true"},
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    });
    merge(&mut pod["spec"], patch);
    pod
}

/// Merges maps, and lists item by item.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(patch)) if !target.is_empty() => {
            for (target, patch) in target.iter_mut().zip(patch) {
                merge(target, patch);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

/// Of the first container.
fn context(patch: Value) -> Value {
    json!({"containers": [{"securityContext": patch}]})
}

/// What makes a pod dangerous, the strictest level that still allows it, and what a refusal says.
fn baseline_attacks() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"hostNetwork": true}), "host namespaces (hostNetwork=true)"),
        (json!({"hostPID": true, "hostIPC": true}), "host namespaces (hostPID=true, hostIPC=true)"),
        (context(json!({"privileged": true, "allowPrivilegeEscalation": true})), "privileged (container \"c\" must not set"),
        (context(json!({"capabilities": {"add": ["SYS_ADMIN", "NET_RAW"]}})), "must not include \"NET_RAW\", \"SYS_ADMIN\" in"),
        (json!({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}), "hostPath"),
        (json!({"containers": [{"ports": [{"containerPort": 80, "hostPort": 8080}]}]}), "hostPort (container \"c\" uses hostPort 8080)"),
        (
            json!({"containers": [{"livenessProbe": {"httpGet": {"host": "169.254.169.254", "port": 80}}}]}),
            "probe or lifecycle host \"169.254.169.254\"",
        ),
        (context(json!({"appArmorProfile": {"type": "Unconfined"}})), "forbidden AppArmor profile"),
        (json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}), "seLinuxOptions (pod set forbidden"),
        (json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}), "seccompProfile (pod must not set"),
        (json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}), "forbidden sysctls (kernel.msgmax)"),
        (
            json!({"initContainers": [{"name": "first", "image": "busybox", "securityContext": {"privileged": true}}]}),
            "privileged (container \"first\" must not set",
        ),
    ]
}

/// What baseline allows and restricted does not.
fn restricted_attacks() -> Vec<(Value, &'static str)> {
    vec![
        (context(json!({"allowPrivilegeEscalation": null})), "allowPrivilegeEscalation != false (container \"c\" must set"),
        (context(json!({"capabilities": {"drop": ["NET_RAW"]}})), "unrestricted capabilities (container \"c\" must set"),
        (context(json!({"capabilities": {"add": ["CHOWN"]}})), "must not include \"CHOWN\" in"),
        (json!({"securityContext": {"runAsNonRoot": null}}), "runAsNonRoot != true (pod or container \"c\" must set"),
        (context(json!({"runAsUser": 0, "runAsNonRoot": false})), "runAsUser=0 (container \"c\" must not set runAsUser=0)"),
        (json!({"securityContext": {"seccompProfile": null}}), "seccompProfile (pod or container \"c\" must set"),
        (json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}), "restricted volume types (volume \"v\" uses"),
    ]
}

fn labelled<'a>(stage: &'a Stage, name: &str, labels: &[&str]) -> Room<'a> {
    let room = stage.room(name);
    let labels: Vec<_> = labels.iter().map(|label| format!("pod-security.kubernetes.io/{label}")).collect();
    stage.kubectl(&format!("label namespace {name} {}", labels.join(" ")));
    room
}

/// Whether the server would take the pod.
fn try_pod(admin: &Caller, room: &Room<'_>, pod: &Value) -> Reply {
    admin.json("POST", &format!("/api/v1/namespaces/{}/pods?dryRun=All", room.name), pod)
}

fn is_refused(reply: &Reply, policy: &str, why: &str) {
    let begin = format!("pods \"attacker\" is forbidden: violates PodSecurity \"{policy}\": ");
    let message = reply.message();
    assert!(reply.status == 403 && message.starts_with(&begin) && message.contains(why), "{policy} must refuse {why}: {reply:?}");
}

#[test]
fn no_level_lets_through_what_it_forbids() {
    let stage = stage::shared();
    let admin = Caller::administrator(&stage);
    let baseline = labelled(&stage, "psa-baseline", &["enforce=baseline"]);
    let restricted = labelled(&stage, "psa-restricted", &["enforce=restricted", "enforce-version=v1.36"]);
    let free = labelled(&stage, "psa-free", &["enforce=privileged", "warn=baseline"]);
    assert_eq!(try_pod(&admin, &restricted, &pod(&json!({}))).status, 201);
    for (patch, why) in baseline_attacks() {
        let attacker = pod(&patch);
        is_refused(&try_pod(&admin, &baseline, &attacker), "baseline:latest", why);
        let refusal = try_pod(&admin, &restricted, &attacker);
        is_refused(&refusal, "restricted:v1.36", "");
        let allowed = try_pod(&admin, &free, &attacker);
        assert_eq!(allowed.status, 201, "{allowed:?}");
        let told = allowed.warnings().join("\n");
        assert!(told.contains("would violate PodSecurity \\\"baseline:latest\\\": "), "{why}: {told}");
    }
    for (patch, why) in restricted_attacks() {
        let attacker = pod(&patch);
        assert_eq!(try_pod(&admin, &baseline, &attacker).status, 201, "{why}");
        is_refused(&try_pod(&admin, &restricted, &attacker), "restricted:v1.36", why);
    }
}

#[test]
fn older_versions_ask_for_what_they_asked_for() {
    let stage = stage::shared();
    let admin = Caller::administrator(&stage);
    let probes = labelled(&stage, "psa-v133", &["enforce=baseline", "enforce-version=v1.33"]);
    let probe = pod(&json!({"containers": [{"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}]}));
    assert_eq!(try_pod(&admin, &probes, &probe).status, 201);
    let future = labelled(&stage, "psa-future", &["enforce=baseline", "enforce-version=v1.99"]);
    is_refused(&try_pod(&admin, &future, &probe), "baseline:v1.99", "probe or lifecycle host");
    let old = labelled(&stage, "psa-v17", &["enforce=restricted", "enforce-version=v1.7"]);
    assert_eq!(try_pod(&admin, &old, &pod(&context(json!({"allowPrivilegeEscalation": null, "runAsUser": 0})))).status, 201);
    is_refused(&try_pod(&admin, &old, &pod(&json!({"securityContext": {"runAsNonRoot": null}}))), "restricted:v1.7", "runAsNonRoot != true");
}

#[test]
fn labels_that_nobody_understands_are_refused_and_never_open_a_namespace() {
    let stage = stage::shared();
    let room = stage.room("psa-typo");
    let output = stage.kubectl_output("label namespace psa-typo pod-security.kubernetes.io/enforce=restrict");
    let error = text(&output.stderr);
    let want = "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"restrict\": must be one of privileged, baseline, restricted";
    assert!(!output.status.success() && error.contains(want), "{error}");
    let output =
        stage.kubectl_output("label namespace psa-typo pod-security.kubernetes.io/enforce=baseline pod-security.kubernetes.io/enforce-version=1.30");
    assert!(text(&output.stderr).contains("must be \"latest\" or \"v1.x\""), "{}", text(&output.stderr));
    drop(room);
}

#[test]
fn a_privileged_pod_comes_by_no_other_way() {
    let stage = stage::shared();
    let admin = Caller::administrator(&stage);
    let room = labelled(&stage, "psa-ways", &["enforce=baseline"]);
    let path = "/api/v1/namespaces/psa-ways/pods";
    let made = admin.json("POST", path, &pod(&json!({})));
    assert_eq!(made.status, 201, "{made:?}");
    // As kubectl debug does it.
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debugger", "image": "busybox", "securityContext": {"privileged": true}}]}});
    let patched =
        admin.send("PATCH", &format!("{path}/attacker/ephemeralcontainers"), "application/strategic-merge-patch+json", debugger.to_string());
    is_refused(&patched, "baseline:latest", "privileged (container \"debugger\" must not set");
    // Through a controller: the template is taken with a warning, its pods are refused.
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod(&json!({"hostPID": true}))["spec"]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "attackers"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = admin.json("POST", "/apis/apps/v1/namespaces/psa-ways/deployments", &deployment);
    assert_eq!(made.status, 201, "{made:?}");
    let told = made.warnings().join("\n");
    assert!(told.contains("would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostPID=true)"), "{told}");
    eventually("the controller is refused", || {
        let events = stage.kubectl("get events -n psa-ways --field-selector reason=FailedCreate -o jsonpath={.items[*].message}");
        events.contains("is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)")
    });
    assert_eq!(stage.kubectl("get pods -n psa-ways -l a=b -o name"), "");
    drop(room);
}

#[test]
fn a_namespace_that_becomes_strict_names_the_pods_in_it() {
    let stage = stage::shared();
    let admin = Caller::administrator(&stage);
    let room = stage.room("psa-late");
    let made = admin.json("POST", "/api/v1/namespaces/psa-late/pods", &pod(&json!({"hostIPC": true})));
    assert_eq!(made.status, 201, "{made:?}");
    let output = stage.kubectl_output("label namespace psa-late pod-security.kubernetes.io/enforce=baseline");
    let told = text(&output.stderr);
    assert!(told.contains("existing pods in namespace \"psa-late\" violate the new PodSecurity enforce level \"baseline:latest\""), "{told}");
    assert!(told.contains("attacker: host namespaces"), "{told}");
    drop(room);
}

#[test]
fn nobody_is_warned_that_nothing_comes_of_what_works() {
    let stage = stage::shared();
    let admin = Caller::administrator(&stage);
    let room = stage.room("psa-unguarded");
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"}, "spec": {"podSelector": {}}});
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let admission = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "psa-deny"},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}});
    let warnings = |path: &str, object: &Value| {
        let made = admin.json("POST", &format!("{path}?dryRun=All"), object);
        assert_eq!(made.status, 201, "{made:?}");
        made.warnings().join("\n")
    };
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "psa.example.com"}, "spec": {}});
    assert_eq!(warnings("/apis/resource.k8s.io/v1/deviceclasses", &class), "");
    let driver = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "psa.example.com"}, "spec": {}});
    assert_eq!(warnings("/apis/storage.k8s.io/v1/csidrivers", &driver), "");
    assert_eq!(warnings("/apis/networking.k8s.io/v1/namespaces/psa-unguarded/networkpolicies", &policy), "");
    assert_eq!(warnings("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", &admission), "");
    drop(room);
}

#[test]
fn defaults_exemptions_and_the_audit_log_are_as_configured() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let configuration = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n    \
        apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    \
        defaults: {enforce: baseline, audit: restricted}\n    exemptions: {namespaces: [kube-system, psa-exempt]}\n";
    fs::write(path("admission.yaml"), configuration).expect("writes");
    let audit =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  resources: [{group: '', resources: [pods]}]\n- level: None\n";
    fs::write(path("audit.yaml"), audit).expect("writes");
    let flags =
        ["--admission-control-config-file", &path("admission.yaml"), "--audit-policy-file", &path("audit.yaml"), "--audit-log-path", &path("log")];
    let stage = Stage::up_with(&flags);
    let admin = Caller::administrator(&stage);
    let (plain, exempt) = (stage.room("psa-plain"), stage.room("psa-exempt"));
    let attacker = pod(&json!({"hostNetwork": true}));
    is_refused(&try_pod(&admin, &plain, &attacker), "baseline:latest", "host namespaces (hostNetwork=true)");
    assert_eq!(try_pod(&admin, &exempt, &attacker).status, 201);
    let event = |namespace: &str, key: &str| {
        let log = fs::read_to_string(path("log")).unwrap_or_default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = events.filter(|event| event["verb"] == "create" && event["objectRef"]["namespace"] == namespace);
        found.filter_map(|event| Some(event["annotations"][format!("pod-security.kubernetes.io/{key}")].as_str()?.to_owned())).next_back()
    };
    eventually("the exemption is logged", || event("psa-exempt", "exempt").as_deref() == Some("namespace"));
    assert_eq!(event("psa-plain", "enforce-policy").as_deref(), Some("baseline:latest"));
    let violations = event("psa-plain", "audit-violations").unwrap_or_default();
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\": host namespaces"), "{violations}");
    let counted = admin.get("/metrics").body;
    assert!(counted.contains("pod_security_evaluations_total{decision=\"deny\",policy_level=\"baseline\""), "no evaluation is counted");
}
