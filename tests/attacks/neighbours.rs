//! Two clusters on one machine, with directories, cgroups and interfaces whose names begin alike: whatever is done to the one,
//! the other lives on untouched.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use crate::cluster::{Cluster, binary, eventually, images, text};

/// A cluster with settings of its own; taken down when dropped.
struct Neighbour {
    /// The folder that both clusters' directories lie in.
    home: PathBuf,
    name: &'static str,
    cgroup: String,
    place: Cluster,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let output = self.troupe(&["down", "--purge"], &self.place_flags());
        if !output.status.success() {
            eprintln!("troupe down of {} failed: {}", self.name, text(&output.stderr));
        }
    }
}

const WRITER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: 'busybox:1.35'
    command: [sh, -c, 'echo kept > /v/file; exec sleep 3600']
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {}}]
";

/// Everything of a cluster that somebody else could break.
#[derive(Debug, PartialEq, Eq)]
struct Living {
    daemon: String,
    containerd: String,
    containers: String,
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    chains: BTreeSet<String>,
    content: String,
}

impl Neighbour {
    fn new(home: &Path, name: &'static str, cgroup: String) -> Self {
        Neighbour { home: home.to_owned(), name, cgroup, place: Cluster::place() }
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.home.join(self.name).join(kind)
    }

    fn flag(&self, flag: &str, kind: &str) -> [String; 2] {
        [flag.to_owned(), self.path(kind).to_string_lossy().into_owned()]
    }

    /// Just enough to find it.
    fn place_flags(&self) -> Vec<String> {
        [self.flag("--data-dir", "data"), self.flag("--run-dir", "run")].concat()
    }

    fn flags(&self) -> Vec<String> {
        let given = |flag: &str, value: &str| [flag.to_owned(), value.to_owned()];
        let all = [
            self.flag("--data-dir", "data"),
            self.flag("--run-dir", "run"),
            self.flag("--kubeconfig", "admin.kubeconfig"),
            self.flag("--kubelet-dir", "kubelet"),
            self.flag("--pod-logs-dir", "logs"),
            self.flag("--cni-conf-dir", "cni"),
            self.flag("--manifests-dir", "manifests"),
            given("--image-dir", &images()),
            given("--node-ip", crate::cluster::NODE_IP),
            given("--node-name", "it"),
            given("--bridge", "it0"),
            given("--cgroup-parent", &self.cgroup),
            given("--eviction-hard", "none"),
        ];
        all.concat()
    }

    /// The flags with some of them replaced.
    fn flags_but(&self, changes: &[(&str, &Path)]) -> Vec<String> {
        let mut flags = self.flags();
        for (flag, value) in changes {
            let at = flags.iter().position(|given| given == flag).expect("a flag that is given");
            flags[at + 1] = value.to_string_lossy().into_owned();
        }
        flags
    }

    fn troupe(&self, command: &[&str], flags: &[String]) -> Output {
        self.place.inside(&binary()).args(command).args(flags).output().expect("troupe runs")
    }

    fn succeeds(&self, command: &[&str], flags: &[String]) -> String {
        let output = self.troupe(command, flags);
        assert!(output.status.success(), "{} {command:?}:\n{}\n{}", self.name, text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn fails(&self, command: &[&str], flags: &[String]) -> String {
        let output = self.troupe(command, flags);
        assert!(!output.status.success(), "{} {command:?} must fail:\n{}", self.name, text(&output.stdout));
        text(&output.stderr)
    }

    fn up(&self) {
        self.succeeds(&["up", "--detach"], &self.flags());
    }

    fn kubectl(&self, words: &str) -> String {
        let mut command = self.place.inside("kubectl");
        command.env("KUBECONFIG", self.path("admin.kubeconfig")).env("HOME", self.path("home")).args(words.split_whitespace());
        let output = command.output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {words}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn run_writer(&self) {
        let manifest = self.home.join(format!("{}-writer.yaml", self.name));
        fs::write(&manifest, WRITER).expect("writes");
        self.kubectl(&format!("apply -f {}", manifest.display()));
        self.kubectl("wait --for=condition=Ready pod/writer --timeout=180s");
        self.kubectl("-n kube-system rollout status daemonset/troupe-dns --timeout=180s");
    }

    fn pid_in(&self, file: &str) -> String {
        fs::read_to_string(self.path("run").join(file)).expect("a pid file").trim().to_owned()
    }

    /// Processes in the cgroups of its pods.
    fn processes(&self) -> BTreeSet<String> {
        processes_below(&hierarchy().join(&self.cgroup))
    }

    fn living(&self) -> Living {
        let saved = text(&self.place.inside("iptables-save").output().expect("iptables-save runs").stdout);
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mount table");
        let own = format!("{}/", self.home.join(self.name).display());
        Living {
            daemon: self.pid_in("troupe.pid"),
            containerd: self.pid_in("containerd/containerd.pid"),
            containers: self.kubectl("get pods -A -o jsonpath={.items[*].status.containerStatuses[*].containerID}"),
            processes: self.processes(),
            mounts: mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect(),
            chains: saved.lines().filter(|line| line.starts_with(":KUBE-") || line.starts_with(":TROUPE-")).map(without_counters).collect(),
            content: self.kubectl("exec writer -- cat /v/file"),
        }
    }

    /// What is left of it anywhere.
    fn remains(&self) -> Vec<String> {
        let mut left: Vec<String> = ["data", "run", "kubelet", "logs", "admin.kubeconfig", "node.kubeconfig"]
            .into_iter()
            .filter(|kind| self.path(kind).exists())
            .map(str::to_owned)
            .collect();
        let own = format!("{}/", self.home.join(self.name).display());
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mount table");
        left.extend(mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")));
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path());
        let hierarchies = hierarchies.chain([hierarchy()]);
        left.extend(hierarchies.map(|dir| dir.join(&self.cgroup)).filter(|group| group.exists()).map(|group| format!("{}", group.display())));
        let saved = text(&self.place.inside("iptables-save").output().expect("iptables-save runs").stdout);
        left.extend(saved.lines().filter(|line| line.contains("KUBE-") || line.contains("TROUPE-")).map(|line| format!("rule {line}")));
        left.extend(command_lines().filter(|(_, line)| line.contains(&own)).map(|(pid, line)| format!("process {pid} {line}")));
        left
    }
}

/// A hierarchy of cgroups, of either version.
fn hierarchy() -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("memory").is_dir() { root.join("memory") } else { root.to_owned() }
}

/// Chains carry counters in brackets behind their policy.
fn without_counters(line: &str) -> String {
    line.split(" [").next().unwrap_or(line).to_owned()
}

fn processes_below(group: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![group.to_owned()];
    while let Some(group) = next.pop() {
        let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(inside.split_whitespace().map(str::to_owned));
        next.extend(fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found
}

/// Pids with their command lines, other than this process's.
fn command_lines() -> impl Iterator<Item = (String, String)> {
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(move |pid| *pid != own && pid.bytes().all(|byte| byte.is_ascii_digit()));
    pids.map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (pid, String::from_utf8_lossy(&line).replace('\0', " "))
    })
}

fn kill(signal: &str, pid: &str) {
    crate::cluster::run("kill", &[signal, pid]);
}

#[test]
fn two_clusters_on_one_machine_never_touch_each_other() {
    let home = tempfile::Builder::new().prefix("troupe-neighbours").tempdir().expect("a directory");
    let stem = format!("nb{}t2", std::process::id());
    let first = Neighbour::new(home.path(), "a", stem.clone());
    let second = Neighbour::new(home.path(), "ab", format!("{stem}pods"));
    first.up();
    first.run_writer();
    // Rules for the pods that have just become ready come a moment later.
    eventually("it has come to rest", || {
        let before = first.living();
        std::thread::sleep(std::time::Duration::from_secs(2));
        first.living() == before
    });
    let before = first.living();
    assert!(before.content.trim() == "kept" && before.processes.len() >= 2 && before.mounts.len() >= 2 && before.chains.len() > 5, "{before:?}");
    collisions_are_refused(&first, &second);
    second.up();
    second.run_writer();
    assert!(second.processes().len() >= 2, "pods live where --cgroup-parent says");
    assert_eq!(first.living(), before, "after the other's start");
    kill("-9", &second.pid_in("troupe.pid"));
    let pid_file = second.path("run/troupe.pid");
    eventually("its daemon is gone", || fs::File::open(&pid_file).map_or(true, |file| file.try_lock_shared().is_ok()));
    second.up();
    assert_eq!(first.living(), before, "after the other's restart");
    contradictions_are_refused(&second);
    goes_on_past_what_resists(&second);
    assert_eq!(first.living(), before, "after the other's purge");
    dies_with_daemons_dead_and_half_a_record(&first);
    let nothing = first.succeeds(&["down", "--purge"], &first.place_flags());
    assert!(nothing.contains("no cluster here"), "{nothing}");
}

/// Each names what collides, with whom, and the option that changes it.
fn collisions_are_refused(first: &Neighbour, second: &Neighbour) {
    let refused = |changes: &[(&str, &Path)], words: &[&str]| {
        let said = second.fails(&["up", "--detach"], &second.flags_but(changes));
        let them = format!("the cluster in {}", first.path("data").display());
        assert!(said.contains(&them) && words.iter().all(|word| said.contains(word)), "{changes:?}: {said}");
    };
    refused(&[("--kubelet-dir", &first.path("kubelet"))], &["is the directory", "--kubelet-dir"]);
    refused(&[("--data-dir", &first.path("kubelet/below"))], &["lies in, or around", "--data-dir"]);
    refused(&[("--cgroup-parent", Path::new(&first.cgroup))], &["is the cgroup", "--cgroup-parent"]);
    refused(&[("--cgroup-parent", &Path::new(&first.cgroup).join("kubepods"))], &["lies in, or around, the cgroup", "--cgroup-parent"]);
    refused(&[("--kubeconfig", &first.path("other.kubeconfig"))], &["node.kubeconfig is a kubeconfig", "--kubeconfig"]);
    refused(&[("--cni-conf-dir", &first.path("cni"))], &["has the pod network", "--cni-conf-dir"]);
    let mut command = first.place.inside(&binary());
    let ports = ["--api-port", "7443", "--kubelet-port", "11250"].map(str::to_owned);
    let output =
        command.args(["up", "--detach"]).args(second.flags_but(&[("--bridge", Path::new("ab0"))])).args(ports).output().expect("troupe runs");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("packet filter chains") && said.contains("network namespace of its own"), "{said}");
    assert!(!second.path("data").exists(), "who is refused makes nothing");
}

/// Flags that say something else than the record, or nothing at all to a daemon, are errors that name them.
fn contradictions_are_refused(cluster: &Neighbour) {
    let with = |flag: &str, value: &str| [cluster.place_flags(), vec![flag.to_owned(), value.to_owned()]].concat();
    for command in ["status", "down", "actors"] {
        let said = cluster.fails(&[command], &with("--bridge", "other0"));
        assert!(said.contains("--bridge is \"other0\"") && said.contains("\"it0\"") && said.contains("instance.json"), "{command}: {said}");
    }
    cluster.succeeds(&["status"], &with("--bridge", "it0"));
    cluster.succeeds(&["status"], &cluster.place_flags());
    let said = cluster.fails(&["node"], &with("--api-port", "7000"));
    assert!(said.contains("--api-port would have no effect here"), "{said}");
    let said = cluster.fails(&["control-plane"], &with("--cgroup-parent", "x"));
    assert!(said.contains("--cgroup-parent would have no effect here"), "{said}");
}

/// With nothing but its directories named, all of it goes that can; the rest is told, and goes the next time.
fn goes_on_past_what_resists(cluster: &Neighbour) {
    let group = hierarchy().join(&cluster.cgroup);
    let mut squatter = std::process::Command::new("sleep").arg("600").spawn().expect("sleep runs");
    fs::write(group.join("cgroup.procs"), squatter.id().to_string()).expect("moves into the cgroup");
    let said = cluster.fails(&["down", "--purge"], &cluster.place_flags());
    assert!(said.contains(&cluster.cgroup) && said.contains("run troupe down again"), "{said}");
    assert!(!cluster.path("kubelet").exists() && !cluster.path("data/store").exists(), "it goes on past a failure");
    assert!(cluster.path("data/instance.json").exists(), "the record stays for the next time");
    squatter.kill().expect("ends");
    squatter.wait().expect("ends");
    cluster.succeeds(&["down", "--purge"], &cluster.flag("--data-dir", "data"));
    assert_eq!(cluster.remains(), Vec::<String>::new());
}

/// Daemon and containerd are dead, the record in the data directory is half there, and only the run directory is named.
fn dies_with_daemons_dead_and_half_a_record(cluster: &Neighbour) {
    for file in ["troupe.pid", "containerd/containerd.pid"] {
        kill("-9", &cluster.pid_in(file));
    }
    let record = cluster.path("data/instance.json");
    let whole = fs::read(&record).expect("a record");
    fs::write(&record, &whole[..whole.len() / 2]).expect("writes");
    cluster.succeeds(&["down", "--purge"], &cluster.flag("--run-dir", "run"));
    eventually("nothing is left", || cluster.remains().is_empty());
}
