//! Full disks under a live cluster: under its store, and under all that a node writes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, eventually, text},
    small_disk::SmallDisk,
};

/// Creates config maps all the time, and remembers which were acknowledged.
struct Writes {
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    writer: JoinHandle<Vec<String>>,
}

impl Writes {
    fn begin(cluster: &Cluster) -> Self {
        let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (create, end, count) = (cluster.caller(), over.clone(), acknowledged.clone());
        let writer = thread::spawn(move || {
            let names = (0..).map(|at| format!("w{at}")).take_while(|_| !end.load(Ordering::Relaxed));
            let taken = names.filter(|name| create(&format!("create configmap {name} --from-literal=a=b --request-timeout=10s")));
            let counted = taken.inspect(|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            counted.collect()
        });
        Writes { over, acknowledged, writer }
    }

    /// How many were acknowledged so far.
    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.writer.join().expect("no panic")
    }
}

/// What is said against writes; the store may become full between two of them.
fn refusal(cluster: &Cluster) -> Option<String> {
    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("refused-{}", TIMES.fetch_add(1, Ordering::Relaxed));
    let writes = [format!("create configmap {name} --from-literal=a=b"), format!("delete configmap {name}")];
    let refused = writes.iter().map(|write| cluster.kubectl_output(write)).find(|output| !output.status.success());
    refused.map(|output| text(&output.stderr))
}

fn sleeper(cluster: &Cluster, name: &str) {
    cluster.kubectl(&format!("run {name} --image=busybox:1.35 --restart=Never -- sleep 3600"));
}

fn condition(cluster: &Cluster, kind: &str) -> String {
    cluster.kubectl(&format!("get node it -o jsonpath={{.status.conditions[?(@.type==\"{kind}\")].status}}"))
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[test]
fn a_full_store_refuses_writes_and_does_all_else() {
    let cluster = Cluster::place();
    let disk = SmallDisk::at(cluster.path("data/store"), 256);
    fs::set_permissions(cluster.path("data"), fs::Permissions::from_mode(0o700)).expect("allowed");
    cluster.start();
    sleeper(&cluster, "steady");
    cluster.kubectl("wait --for=condition=Ready pod/steady --timeout=120s");
    let container = cluster.kubectl("get pod steady -o jsonpath={.status.containerStatuses[0].containerID}");
    let writes = Writes::begin(&cluster);
    eventually("some writes are acknowledged before", || writes.acknowledged() > 5);
    let pid = cluster.pid();
    disk.fill(0);
    eventually("writes are refused", || refusal(&cluster).is_some());
    let said = refusal(&cluster).expect("still full");
    assert!(said.contains("the store has no space left"), "{said}");
    // Reads and watches go on, for longer than leases last.
    let watched = cluster.kubectl_output("get configmaps --watch --request-timeout=8s");
    assert!(text(&watched.stdout).contains("kube-root-ca.crt"), "{}", text(&watched.stderr));
    let until = Instant::now() + Duration::from_secs(70);
    while Instant::now() < until {
        assert!(cluster.kubectl("get pods").contains("steady"), "reads go on");
        assert!(is_alive(&pid), "the daemon lives");
        thread::sleep(Duration::from_secs(5));
    }
    // A restart on the full disk changes nothing.
    cluster.strike("-9");
    cluster.start();
    assert!(refusal(&cluster).is_some_and(|said| said.contains("the store has no space left")));
    assert_eq!(cluster.kubectl("get pod steady -o jsonpath={.status.containerStatuses[0].containerID}"), container);
    let pid = cluster.pid();
    disk.make_room();
    eventually("writes are accepted again", || refusal(&cluster).is_none());
    let acknowledged = writes.end();
    let names = cluster.kubectl("get configmaps -o name");
    let lost: Vec<_> = acknowledged.iter().filter(|name| !names.lines().any(|line| line.strip_prefix("configmap/") == Some(name))).collect();
    assert!(acknowledged.len() > 2 && lost.is_empty(), "of {} acknowledged are lost: {lost:?}", acknowledged.len());
    eventually("controllers and kubelet work again", || condition(&cluster, "Ready") == "True");
    cluster.kubectl("create deployment later --image=busybox:1.35 -- sleep 3600");
    cluster.kubectl("rollout status deployment/later --timeout=180s");
    assert_eq!(cluster.kubectl("get pod steady -o jsonpath={.status.containerStatuses[0].containerID}"), container, "nobody was evicted");
    assert_eq!(cluster.pid(), pid, "the same daemon all the time");
}

const MOUNTED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: words, namespace: kube-system}
data: {word: first}
---
apiVersion: v1
kind: Pod
metadata: {name: mounted, namespace: kube-system}
spec:
  terminationGracePeriodSeconds: 0
  # Others would be evicted, and so would pods of other namespaces.
  priorityClassName: system-node-critical
  containers:
  - name: c
    image: busybox:1.35
    command: [sleep, "3600"]
    volumeMounts: [{name: words, mountPath: /words}]
  volumes: [{name: words, configMap: {name: words}}]
"#;

#[test]
fn a_node_on_a_full_disk_says_so_and_recovers() {
    let cluster = Cluster::place();
    // The store has a disk of its own; all else lies on the small one: volumes, logs, the daemon's log, containerd's files.
    let _store = SmallDisk::at(cluster.path("data/store"), 256);
    let disk = SmallDisk::at(cluster.path("kubelet"), 96);
    let logs = SmallDisk::at(cluster.path("logs"), 32);
    cluster.start_with(&["--eviction-hard", "nodefs.available<10%", "--eviction-pressure-transition-period", "5"]);
    crate::cluster::apply(&cluster, MOUNTED);
    cluster.kubectl("-n kube-system wait --for=condition=Ready pod/mounted --timeout=120s");
    assert_eq!(condition(&cluster, "DiskPressure"), "False");
    let pid = cluster.pid();
    disk.fill(0);
    logs.fill(0);
    eventually("the node tells of it", || condition(&cluster, "DiskPressure") == "True");
    let taints = || cluster.kubectl("get node it -o jsonpath={.spec.taints[*].key}");
    eventually("and is tainted", || taints().contains("node.kubernetes.io/disk-pressure"));
    sleeper(&cluster, "waiting");
    // A volume that cannot be written any more, and a pod that is sent here all the same.
    cluster.kubectl_words(&["-n", "kube-system", "patch", "configmap", "words", "--type=merge", "-p", r#"{"data":{"word":"second"}}"#]);
    let forced = MOUNTED.replace("name: mounted", "name: forced").replace("spec:\n", "spec:\n  nodeName: it\n");
    crate::cluster::apply(&cluster, &forced.replace("word: first", "word: second"));
    let events = || cluster.kubectl("-n kube-system get events --field-selector involvedObject.name=forced -o jsonpath={.items[*].message}");
    eventually("it is told what stops the pod", || events().contains("No space left on device"));
    assert_eq!(cluster.kubectl("get pod waiting -o jsonpath={.spec.nodeName}"), "", "nobody is sent there");
    assert_eq!(cluster.kubectl("-n kube-system exec mounted -- cat /words/word"), "first", "the old content stays whole");
    assert_eq!(condition(&cluster, "Ready"), "True");
    assert!(is_alive(&pid), "the daemon lives");
    disk.make_room();
    logs.make_room();
    eventually("the pressure goes", || condition(&cluster, "DiskPressure") == "False");
    eventually("and the taint", || !taints().contains("disk-pressure"));
    cluster.kubectl("wait --for=condition=Ready pod/waiting --timeout=120s");
    cluster.kubectl("-n kube-system wait --for=condition=Ready pod/forced pod/mounted --timeout=120s");
    eventually("the volume is brought up to date", || cluster.kubectl("-n kube-system exec mounted -- cat /words/word") == "second");
    assert_eq!(cluster.pid(), pid, "the same daemon all the time");
    let panics = cluster.actors().iter().map(|actor| actor["restarts"].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!(panics, 0, "no actor failed");
}
