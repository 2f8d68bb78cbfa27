//! Pods that fill the disk: a volume beyond its size, a layer beyond its limit, a log as fast as it can be written, and all of a node's
//! disk, with a store on it that others go on writing to.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cluster::{Cluster, apply, eventually, eventually_within},
    small_disk::SmallDisk,
    stage,
    witness::Witness,
};

/// How soon a pod that exceeds a limit has to go.
const SOON: Duration = Duration::from_secs(60);

fn pod(cluster: &Cluster, room: &str, name: &str) -> Value {
    serde_json::from_str(&cluster.kubectl(&format!("-n {room} get pod {name} -o json"))).expect("JSON")
}

/// Waits until a pod is evicted; gives its message.
fn evicted(cluster: &Cluster, room: &str, name: &str) -> String {
    eventually_within(SOON, &format!("{name} is evicted"), || pod(cluster, room, name)["status"]["reason"] == "Evicted");
    let status = pod(cluster, room, name)["status"].clone();
    assert_eq!(status["phase"], "Failed", "{status}");
    status["message"].as_str().expect("a message").to_owned()
}

/// Nothing of an evicted pod takes room any more, and an event tells of it.
fn leaves_nothing(cluster: &Cluster, room: &str, name: &str, message: &str) {
    let uid = pod(cluster, room, name)["metadata"]["uid"].as_str().expect("an id").to_owned();
    let kept = cluster.path("kubelet").join("pods").join(&uid);
    eventually("its volumes are gone", || !kept.exists());
    let logs = cluster.path("logs").join(format!("{room}_{name}_{uid}"));
    eventually("and its logs", || !logs.exists());
    eventually("and its containers", || !cluster.ctr("containers list").contains(&uid) && !cluster.ctr("snapshots list").contains(&uid));
    let events = || cluster.kubectl(&format!("-n {room} get events --field-selector involvedObject.name={name},reason=Evicted -o json"));
    let told = || {
        let events: Value = serde_json::from_str(&events()).expect("JSON");
        events["items"].as_array().is_some_and(|all| all.iter().any(|event| event["message"] == message && event["type"] == "Warning"))
    };
    eventually("an event tells of it", told);
}

fn has_condition(cluster: &Cluster, room: &str, name: &str, kind: &str) -> bool {
    let conditions = pod(cluster, room, name)["status"]["conditions"].clone();
    conditions.as_array().is_some_and(|all| all.iter().any(|condition| condition["type"] == kind && condition["status"] == "True"))
}

const VOLUME: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: hoarder, namespace: volume-size}
spec:
  terminationGracePeriodSeconds: 3600
  volumes: [{name: e, emptyDir: {sizeLimit: 4Mi}}, {name: free, emptyDir: {}}]
  containers:
  - name: c
    image: busybox:1.35
    volumeMounts: [{name: e, mountPath: /e}, {name: free, mountPath: /free}]
    command: [sh, -c, "trap '' TERM; dd if=/dev/zero of=/free/f bs=1M count=32; sleep 5; dd if=/dev/zero of=/e/f bs=1M count=16; while :; do sleep 1; done"]
"#;

#[test]
fn a_volume_beyond_its_size_ends_its_pod() {
    let stage = stage::shared();
    let room = stage.room("volume-size");
    let began = Instant::now();
    apply(&stage, VOLUME);
    let message = evicted(&stage, "volume-size", "hoarder");
    assert_eq!(message, "Usage of EmptyDir volume \"e\" exceeds the limit \"4Mi\". ");
    println!("evicted after {:?}", began.elapsed());
    assert!(!has_condition(&stage, "volume-size", "hoarder", "DisruptionTarget"), "it was its own fault");
    leaves_nothing(&stage, "volume-size", "hoarder", &message);
    // It stays to be seen, and goes when it is told to.
    stage.kubectl("-n volume-size delete pod hoarder --timeout=90s");
    drop(room);
}

const LAYER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: writer, namespace: layer}
spec:
  terminationGracePeriodSeconds: 3600
  containers:
  - name: c
    image: busybox:1.35
    resources: {limits: {ephemeral-storage: 4Mi}}
    command: [sh, -c, "dd if=/dev/zero of=/f bs=1M count=16; sleep 1000"]
  - name: d
    image: busybox:1.35
    resources: {limits: {ephemeral-storage: 1Gi}}
    command: [sleep, "1000"]
---
apiVersion: v1
kind: Pod
metadata: {name: unlinker, namespace: layer}
spec:
  containers:
  - name: c
    image: busybox:1.35
    resources: {limits: {ephemeral-storage: 4Mi}}
    command: [sh, -c, "exec 3>/f; rm /f; dd if=/dev/zero bs=1M count=16 >&3; sleep 1000"]
---
apiVersion: v1
kind: Pod
metadata: {name: renamer, namespace: layer}
spec:
  containers:
  - name: c
    image: busybox:1.35
    resources: {limits: {ephemeral-storage: 4Mi}}
    command: [sh, -c, "dd if=/dev/zero of=/etc/hostname bs=1M count=8; dd if=/dev/zero of=/etc/resolv.conf bs=1M count=8; sleep 1000"]
"#;

#[test]
fn a_layer_beyond_its_limit_ends_its_pod_also_when_it_has_no_name() {
    let stage = stage::shared();
    let room = stage.room("layer");
    apply(&stage, LAYER);
    let message = evicted(&stage, "layer", "writer");
    assert_eq!(message, "Container c exceeded its local ephemeral storage limit \"4Mi\". ");
    let together = "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ";
    let unnamed = evicted(&stage, "layer", "unlinker");
    assert_eq!(unnamed, together);
    assert_eq!(evicted(&stage, "layer", "renamer"), together, "what the runtime keeps for it counts, too");
    leaves_nothing(&stage, "layer", "writer", &message);
    leaves_nothing(&stage, "layer", "unlinker", &unnamed);
    drop(room);
}

/// What a directory takes, in bytes.
fn size(directory: &Path) -> u64 {
    let output = Command::new("du").arg("-sk").arg(directory).output().expect("du runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

const SHOUTER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shouter, namespace: shouting}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "busybox:1.35", command: [sh, -c, "yes | head -c 4000000000; sleep 1000"]}
"#;

#[test]
fn a_log_written_as_fast_as_can_be_takes_a_bounded_part_of_the_disk() {
    let stage = stage::shared();
    let room = stage.room("shouting");
    let logs = stage.path("logs");
    let (most, toll) = stage.attack(|| {
        apply(&stage, SHOUTER);
        let until = Instant::now() + Duration::from_secs(30);
        let mut most = 0;
        while Instant::now() < until {
            most = most.max(size(&logs));
            std::thread::sleep(Duration::from_millis(50));
        }
        most
    });
    let status = pod(&stage, "shouting", "shouter")["status"].clone();
    println!("{} MiB at most; {toll:?}; {} {}", most >> 20, status["phase"], status["message"]);
    assert!(most > 10 << 20, "it wrote: {most}");
    assert!(most < 500 << 20, "{} MiB", most >> 20);
    drop(room);
}

/// A cluster whose files, the store among them, lie on a small disk.
struct Cramped {
    cluster: Cluster,
    // It goes after the cluster.
    disk: SmallDisk,
}

impl Cramped {
    fn up(mib: u64) -> Self {
        let cluster = Cluster::place();
        let disk = SmallDisk::at(cluster.dir().to_owned(), mib);
        let cramped = Cramped { cluster, disk };
        cramped.cluster.start_with(&["--eviction-pressure-transition-period", "5"]);
        cramped
    }
}

/// A pod in the default namespace with an emptyDir at /e.
fn in_default(name: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 3600
  volumes: [{{name: e, emptyDir: {{}}}}]
  containers:
  - {{name: c, image: "busybox:1.35", volumeMounts: [{{name: e, mountPath: /e}}], command: [sh, -c, {script:?}]}}
"#
    )
}

#[test]
fn a_pod_that_fills_the_nodes_disk_goes_and_the_store_takes_writes_all_the_while() {
    let cramped = Cramped::up(3072);
    let cluster = &cramped.cluster;
    apply(cluster, &in_default("steady", "dd if=/dev/zero of=/e/f bs=1M count=8; sleep 10000"));
    cluster.kubectl("wait --for=condition=Ready pod/steady --timeout=120s");
    let fillers = [
        ("named", "sleep 3; trap '' TERM; dd if=/dev/zero of=/e/f bs=1M; while :; do sleep 1; done"),
        ("unnamed", "sleep 3; exec 3>/e/f; rm /e/f; dd if=/dev/zero bs=1M >&3; while :; do sleep 1; done"),
    ];
    for (name, script) in fillers {
        let witness = Witness::of(cluster);
        apply(cluster, &in_default(name, script));
        let began = Instant::now();
        let mut least = u64::MAX;
        while pod(cluster, "default", name)["status"]["reason"] != "Evicted" {
            assert!(began.elapsed() < Duration::from_secs(120), "{name} fills the disk: {} MiB are free", cramped.disk.free() >> 20);
            least = least.min(cramped.disk.free());
        }
        let message = evicted(cluster, "default", name);
        assert!(message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: "), "{message}");
        assert!(has_condition(cluster, "default", name, "DisruptionTarget"), "it had to go for others' sake");
        leaves_nothing(cluster, "default", name, &message);
        // Of its writes none was refused: the witness says so.
        println!("{name}: {message}; {} MiB were free at least; the witness waited {:?}", least >> 20, witness.p99());
        eventually("the room is there again", || cramped.disk.free() > 2 << 30);
        // Files without a name are looked for where processes hold them, which may be too late to spare another pod; upstream
        // does not know of them at all.
        if name == "named" {
            assert_eq!(pod(cluster, "default", "steady")["status"]["phase"], "Running", "only who filled the disk goes");
        }
        // The node tells of pressure only when it reports its status next, which may be after that is over.
        std::thread::sleep(Duration::from_secs(7));
        let pressure = || cluster.kubectl("get node it -o jsonpath={.status.conditions[?(@.type==\"DiskPressure\")].status}");
        eventually("the node has no pressure any more", || pressure() == "False");
        eventually("nor a taint", || !cluster.kubectl("get node it -o jsonpath={.spec.taints[*].key}").contains("disk-pressure"));
    }
}

#[test]
fn under_pressure_none_but_the_systems_pods_begin() {
    let cramped = Cramped::up(1024);
    let cluster = &cramped.cluster;
    // Somebody else fills it, of whom no pod can be made to go.
    cramped.disk.fill(120 << 20);
    let pressure = || cluster.kubectl("get node it -o jsonpath={.status.conditions[?(@.type==\"DiskPressure\")].status}");
    eventually("the node tells of it", || pressure() == "True");
    let forced = in_default("forced", "sleep 1000").replace("spec:\n", "spec:\n  nodeName: it\n");
    apply(cluster, &forced);
    assert_eq!(evicted(cluster, "default", "forced"), "Pod was rejected: The node had condition: [DiskPressure]. ");
    let important = |namespace: &str, name: &str| {
        let named = forced.replace("name: forced", &format!("name: {name}, namespace: {namespace}"));
        named.replace("spec:\n", "spec:\n  priorityClassName: system-node-critical\n")
    };
    apply(cluster, &important("default", "presumptuous"));
    assert_eq!(evicted(cluster, "default", "presumptuous"), "Pod was rejected: The node had condition: [DiskPressure]. ");
    apply(cluster, &important("kube-system", "needed"));
    cluster.kubectl("-n kube-system wait --for=condition=Ready pod/needed --timeout=120s");
    cramped.disk.make_room();
    eventually("the pressure goes", || pressure() == "False");
    assert_eq!(pod(cluster, "kube-system", "needed")["status"]["phase"], "Running");
}
