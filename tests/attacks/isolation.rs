//! Pods that ask for isolation: they get it, or they do not run and say why.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    cluster::{apply, eventually_within},
    stage::{self, Room, Stage},
};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "docker.io/library/busybox:1.35";

/// A pod with one container that would say who it is and stay.
fn pod(name: &str, namespace: &str, spec: &Value, container: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let mut main = json!({"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]});
    main.as_object_mut().expect("a map").extend(container.as_object().expect("a map").clone());
    pod["spec"]["containers"] = json!([main]);
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    pod
}

fn field(room: &Room<'_>, stage: &Stage, pod: &str, path: &str) -> String {
    let output = stage.kubectl_output(&format!("-n {} get pod {pod} -o jsonpath={{{path}}}", room.name));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a field of a pod contains a text; says what became of the pod where it does not.
fn until(room: &Room<'_>, stage: &Stage, pod: &str, path: &str, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !field(room, stage, pod, path).contains(text) {
        assert!(Instant::now() < deadline, "{pod}: {path} does not contain {text:?}: {}", field(room, stage, pod, ".status"));
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for an event about a pod that says this.
fn until_told(room: &Room<'_>, stage: &Stage, pod: &str, reason: &str, text: &str) {
    let words = format!("-n {} get events --field-selector=involvedObject.name={pod},reason={reason} -o jsonpath={{.items[*].message}}", room.name);
    eventually_within(PATIENCE, &format!("{pod}: {reason}: {text}"), || String::from_utf8_lossy(&stage.kubectl_output(&words).stdout).contains(text));
}

/// Waits until a pod was refused for this reason.
fn until_refused(room: &Room<'_>, stage: &Stage, pod: &str, reason: &str, message: &str) {
    until(room, stage, pod, ".status.phase", "Failed");
    assert_eq!(field(room, stage, pod, ".status.reason"), reason);
    assert_eq!(field(room, stage, pod, ".status.message"), format!("Pod was rejected: {message}"));
    assert!(!has_sandbox(stage, pod), "nothing of {pod} is made");
}

/// Whether the runtime has containers of a pod, its sandbox included.
fn has_sandbox(stage: &Stage, pod: &str) -> bool {
    !stage.ctr(&format!("containers list -q labels.\"io.kubernetes.pod.name\"=={pod}")).trim().is_empty()
}

#[test]
fn an_image_of_roots_is_not_started_where_root_is_forbidden() {
    let stage = stage::shared();
    let room = stage.room("nonroot");
    let forbidden = json!({"runAsNonRoot": true});
    apply(&stage, &pod("main", &room.name, &json!({"securityContext": forbidden}), &json!({})).to_string());
    let init = json!([{"name": "i", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["true"], "securityContext": forbidden}]);
    apply(&stage, &pod("init", &room.name, &json!({"initContainers": init}), &json!({})).to_string());
    let mut sidecar = init.clone();
    sidecar[0]["restartPolicy"] = "Always".into();
    apply(&stage, &pod("sidecar", &room.name, &json!({"initContainers": sidecar}), &json!({})).to_string());
    let own = json!({"runAsNonRoot": true, "runAsUser": 0});
    apply(&stage, &pod("asked", &room.name, &json!({}), &json!({"securityContext": own})).to_string());
    let root = "container has runAsNonRoot and image will run as root";
    for (pod, list, why) in [
        ("main", "containerStatuses", root),
        ("init", "initContainerStatuses", root),
        ("sidecar", "initContainerStatuses", root),
        ("asked", "containerStatuses", "container's runAsUser breaks non-root policy"),
    ] {
        until(&room, &stage, pod, &format!(".status.{list}[0].state.waiting.message"), why);
        assert_eq!(field(&room, &stage, pod, &format!(".status.{list}[0].state.waiting.reason")), "CreateContainerConfigError");
        until_told(&room, &stage, pod, "Failed", why);
    }
}

#[test]
fn a_user_that_is_not_root_runs_where_root_is_forbidden() {
    let stage = stage::shared();
    let room = stage.room("nobody");
    let spec = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 1234}});
    apply(&stage, &pod("fine", &room.name, &spec, &json!({})).to_string());
    until(&room, &stage, "fine", ".status.phase", "Running");
    assert_eq!(stage.kubectl(&format!("-n {} exec fine -- id -u", room.name)).trim(), "1234");
}

#[test]
fn sysctls_that_are_not_safe_are_refused_with_the_reason() {
    let stage = stage::shared();
    let room = stage.room("refused");
    let sysctls = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    apply(&stage, &pod("messages", &room.name, &sysctls("kernel.msgmax"), &json!({})).to_string());
    apply(&stage, &pod("forward", &room.name, &sysctls("net.ipv4.ip_forward"), &json!({})).to_string());
    until_refused(&room, &stage, "messages", "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    until_refused(&room, &stage, "forward", "SysctlForbidden", "forbidden sysctl: \"net.ipv4.ip_forward\" not allowlisted");
}

#[test]
fn strict_groups_are_refused_where_the_runtime_cannot_give_them() {
    let stage = stage::shared();
    let room = stage.room("groups");
    let strict = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}});
    apply(&stage, &pod("strict", &room.name, &strict, &json!({})).to_string());
    let why = "SupplementalGroupsPolicy=Strict is not supported in this node";
    until_refused(&room, &stage, "strict", "SupplementalGroupsPolicyNotSupported", why);
}

#[test]
fn a_safe_sysctl_is_set() {
    let stage = stage::shared();
    let room = stage.room("safe");
    let spec = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "20000 20010"}]}});
    apply(&stage, &pod("tuned", &room.name, &spec, &json!({})).to_string());
    until(&room, &stage, "tuned", ".status.phase", "Running");
    let range = stage.kubectl(&format!("-n {} exec tuned -- cat /proc/sys/net/ipv4/ip_local_port_range", room.name));
    assert_eq!(range.split_whitespace().collect::<Vec<_>>(), ["20000", "20010"]);
}

#[test]
fn an_apparmor_profile_that_nobody_enforces_is_refused() {
    let stage = stage::shared();
    let room = stage.room("apparmor");
    let own = json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "none-of-that-name"}}});
    apply(&stage, &pod("tight", &room.name, &json!({}), &own).to_string());
    if Path::new("/sys/kernel/security/apparmor").exists() {
        until(&room, &stage, "tight", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerError");
    } else {
        until_refused(&room, &stage, "tight", "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host");
    }
}

#[test]
fn users_of_its_own_are_no_users_of_the_hosts() {
    let stage = stage::shared();
    let room = stage.room("users");
    apply(&stage, &pod("apart", &room.name, &json!({"hostUsers": false}), &json!({})).to_string());
    let why = "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces";
    until_told(&room, &stage, "apart", "FailedCreatePodSandBox", why);
    assert!(!has_sandbox(&stage, "apart"));
}

#[test]
fn a_runtime_class_that_the_runtime_does_not_have_runs_nothing() {
    let stage = stage::shared();
    let room = stage.room("classes");
    apply(&stage, &json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"}, "handler": "vm"}).to_string());
    apply(&stage, &pod("boxed", &room.name, &json!({"runtimeClassName": "vm"}), &json!({})).to_string());
    until_told(&room, &stage, "boxed", "FailedCreatePodSandBox", "no runtime for \"vm\" is configured");
    assert!(!has_sandbox(&stage, "boxed"));
    stage.kubectl("delete runtimeclass vm");
}

#[test]
fn a_mount_is_read_only_all_the_way_down_or_the_container_waits() {
    let stage = stage::shared();
    let room = stage.room("readonly");
    let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Enabled"}]});
    apply(&stage, &pod("deep", &room.name, &json!({"volumes": [{"name": "v", "emptyDir": {}}]}), &mounts).to_string());
    let why = "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime";
    until(&room, &stage, "deep", ".status.containerStatuses[0].state.waiting.message", why);
}

#[test]
fn a_manifest_cannot_unmask_proc_or_spell_root_otherwise() {
    let stage = stage::shared();
    let folder = stage.path("manifests");
    let manifest = |name: &str, own: Value| {
        let pod = pod(name, "default", &json!({}), &json!({"securityContext": own}));
        fs::write(folder.join(format!("{name}.yaml")), pod.to_string()).expect("the folder of manifests is there");
    };
    manifest("unmasked", json!({"procMount": "Unmasked"}));
    manifest("spelled", json!({"runAsNonRoot": true, "runAsUser": 1_i64 << 32}));
    // Manifests are judged by the rules of the API: such a pod does not come to be.
    for (name, field) in [("unmasked", "procMount"), ("spelled", "runAsUser")] {
        let refused = format!("spec.containers[0].securityContext.{field}: Invalid value");
        let told = || fs::read_to_string(stage.path("data/troupe.log")).is_ok_and(|log| log.contains(&refused));
        eventually_within(PATIENCE, &format!("{name} is refused"), told);
        assert!(!has_sandbox(&stage, &format!("{name}-it")), "nothing of {name} is made");
    }
    for name in ["unmasked", "spelled"] {
        fs::remove_file(folder.join(format!("{name}.yaml"))).expect("was just written");
    }
}

#[test]
fn proc_cannot_be_unmasked_through_the_api() {
    let stage = stage::shared();
    let room = stage.room("proc");
    let pod = pod("bare", &room.name, &json!({}), &json!({"securityContext": {"procMount": "Unmasked"}}));
    let path = format!("/api/v1/namespaces/{}/pods", room.name);
    let reply = crate::caller::Caller::administrator(&stage).json("POST", &path, &pod);
    if reply.status == 201 {
        until(&room, &stage, "bare", ".status.phase", "Failed");
    } else {
        assert_eq!(reply.status, 422, "{reply:?}");
    }
    assert!(!has_sandbox(&stage, "bare"));
}

#[test]
fn a_pods_own_limit_binds_all_its_containers_together() {
    let stage = stage::shared();
    let room = stage.room("limits");
    apply(&stage, &pod("small", &room.name, &json!({"resources": {"limits": {"memory": "32Mi"}}}), &json!({})).to_string());
    until(&room, &stage, "small", ".status.phase", "Running");
    let uid = field(&room, &stage, "small", ".metadata.uid");
    let group = format!("{}/kubepods/burstable/pod{uid}", stage.namespace());
    let files = [format!("/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes"), format!("/sys/fs/cgroup/{group}/memory.max")];
    let limits: Vec<_> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    assert_eq!(limits.iter().map(|text| text.trim()).collect::<Vec<_>>(), [(32 << 20).to_string()]);
    let files = [format!("/sys/fs/cgroup/pids/{group}/pids.max"), format!("/sys/fs/cgroup/{group}/pids.max")];
    let limits: Vec<_> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    assert_eq!(limits.iter().map(|text| text.trim()).collect::<Vec<_>>(), ["4096"]);
}
