//! Everything that pods and services leave on a machine, as sets that can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use crate::cluster::{Cluster, text};

/// What is there, by kind of thing.
pub type Footprint = BTreeMap<&'static str, BTreeSet<String>>;

/// Takes the footprint of a cluster's machine.
pub fn take(cluster: &Cluster) -> Footprint {
    let dir = cluster.dir().to_string_lossy().into_owned();
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    Footprint::from([
        ("containers", words(ctr(cluster, "containers ls -q"))),
        ("tasks", lines(ctr(cluster, "tasks ls -q"))),
        ("snapshots", ctr(cluster, "snapshots ls").lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()),
        ("addresses", names(&cluster.path("data/cni/troupe")).into_iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()),
        ("network namespaces", names(&cluster.path("run/containerd/io.containerd.grpc.v1.cri/netns"))),
        ("results of network plugins", results(&dir)),
        ("interfaces", interfaces(cluster)),
        ("listeners", listeners(cluster)),
        ("rules", rules(cluster)),
        ("mounts", mounts(&dir)),
        ("cgroups", cgroups(cluster)),
        ("shims", shims(&dir)),
        ("pod directories", names(&cluster.path("kubelet/pods"))),
        ("log directories", names(&cluster.path("logs"))),
        ("sandbox directories", names(&cluster.path("run/containerd/io.containerd.grpc.v1.cri/sandboxes"))),
        ("bundles", names(&cluster.path("run/containerd/io.containerd.runtime.v2.task/k8s.io"))),
    ])
}

/// How one footprint differs from another, in words; empty when it does not.
pub fn difference(before: &Footprint, after: &Footprint) -> String {
    let mut said = String::new();
    for (kind, things) in after {
        for thing in things.difference(&before[kind]) {
            said += &format!("{kind}: {thing} is left over\n");
        }
        for thing in before[kind].difference(things) {
            said += &format!("{kind}: {thing} is missing\n");
        }
    }
    said
}

fn ctr(cluster: &Cluster, words: &str) -> String {
    let socket = cluster.path("run/containerd/containerd.sock");
    let output = Command::new("ctr").arg("--address").arg(socket).args(["-n", "k8s.io"]).args(words.split_whitespace()).output();
    text(&output.expect("ctr runs").stdout)
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The plugins' results that the runtime remembers: those that name a namespace of this cluster.
fn results(dir: &str) -> BTreeSet<String> {
    let all = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
    let ours = all.filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(dir)));
    ours.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn inside(cluster: &Cluster, program: &str, words: &[&str]) -> String {
    text(&cluster.inside(program).args(words).output().expect("the program runs").stdout)
}

fn interfaces(cluster: &Cluster) -> BTreeSet<String> {
    let listed = inside(cluster, "ip", &["-o", "link"]);
    listed.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
}

/// Addresses that somebody listens on. High ports of the loopback are the streaming servers of the runtime.
fn listeners(cluster: &Cluster) -> BTreeSet<String> {
    let listed = inside(cluster, "ss", &["-Htln"]);
    let addresses = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
    addresses.filter(|address| !address.starts_with("127.0.0.1:") || address.ends_with(":2379")).map(str::to_owned).collect()
}

/// The packet filter's rules and chains, without counters.
fn rules(cluster: &Cluster) -> BTreeSet<String> {
    let listed = inside(cluster, "iptables-save", &[]);
    let kept = listed.lines().filter(|line| line.starts_with(':') || line.starts_with('-'));
    kept.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect()
}

fn mounts(dir: &str) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(dir)).map(str::to_owned).collect()
}

fn cgroups(cluster: &Cluster) -> BTreeSet<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).expect("cgroups").flatten().map(|entry| entry.path()).filter(|path| !path.is_symlink());
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        below(&hierarchy.join(cluster.namespace()), &mut found);
    }
    found
}

fn below(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        found.insert(entry.path().to_string_lossy().into_owned());
        below(&entry.path(), found);
    }
}

/// The sandboxes that have a shim.
fn shims(dir: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        if words[0].contains("containerd-shim") && line.contains(dir) {
            let id = words.iter().position(|word| *word == "-id").and_then(|at| words.get(at + 1)).unwrap_or(&"");
            found.insert(format!("{} of {id}", process.file_name().to_string_lossy()));
        }
    }
    found
}
