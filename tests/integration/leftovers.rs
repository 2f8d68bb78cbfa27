//! What is left behind: nothing of a deleted namespace, nothing of a cluster that was taken down.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    cluster::{Cluster, eventually, shared, text},
    sample,
};

/// Mount points that a part of their line names.
fn mounts(part: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/mounts").expect("the mount table");
    table.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

/// Addresses that host-local has given out.
fn leases(cluster: &Cluster) -> BTreeSet<String> {
    let dir = cluster.dir().join("data/cni/troupe");
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.parse::<std::net::Ipv4Addr>().is_ok()).collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The network namespaces of all sandboxes.
fn network_namespaces(cluster: &Cluster) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for id in cluster.ctr("containers ls -q").split_whitespace() {
        let info: serde_json::Value = serde_json::from_str(&cluster.ctr(&format!("containers info {id}"))).expect("JSON");
        let namespaces = info["Spec"]["linux"]["namespaces"].as_array().into_iter().flatten();
        found.extend(namespaces.filter_map(|namespace| namespace["path"].as_str()).filter(|path| path.contains("netns")).map(str::to_owned));
    }
    found
}

#[test]
fn a_deleted_namespace_leaves_nothing_behind() {
    nothing_of_a_deleted_namespace(&shared());
}

/// The check, on a cluster with any store.
pub fn nothing_of_a_deleted_namespace(cluster: &Cluster) {
    // What the cluster has for itself is there before, and stays.
    cluster.kubectl("-n kube-system rollout status daemonset/troupe-dns --timeout=120s");
    let (before, leased) = (words(&cluster.ctr("containers ls -q")), leases(cluster));
    let networks = network_namespaces(cluster);
    sample::deploy(cluster);
    let uids = words(&cluster.kubectl("-n sample get pods -o jsonpath={.items[*].metadata.uid}"));
    let ips = words(&cluster.kubectl("-n sample get pods -o jsonpath={.items[*].status.podIP}"));
    let service = cluster.kubectl("-n sample get service web -o jsonpath={.spec.clusterIP}");
    assert!(ips.is_subset(&leases(cluster)) && uids.iter().all(|uid| !mounts(uid).is_empty()), "the checks below see what they look for");
    let added: Vec<String> = network_namespaces(cluster).difference(&networks).cloned().collect();
    assert!(added.len() >= 4 && added.iter().all(|path| Path::new(path).exists()), "{added:?}");
    cluster.kubectl("delete namespace sample --timeout=120s");
    let left = cluster.kubectl("get pods,services,endpoints,endpointslices,configmaps,deployments,replicasets,serviceaccounts,events -A -o jsonpath={.items[?(@.metadata.namespace==\"sample\")].metadata.name}");
    assert_eq!(left, "");
    let (containers, addresses) = (words(&cluster.ctr("containers ls -q")), leases(cluster));
    assert!(containers.is_subset(&before), "containers: {containers:?}, before {before:?}");
    assert!(addresses.is_subset(&leased), "addresses: {addresses:?}, before {leased:?}");
    for uid in &uids {
        assert_eq!(mounts(uid), Vec::<String>::new());
        assert!(!cluster.dir().join("kubelet/pods").join(uid).exists());
        assert!(
            fs::read_dir(cluster.dir().join("logs"))
                .expect("the log folder")
                .flatten()
                .all(|entry| !entry.file_name().to_string_lossy().contains(uid))
        );
    }
    assert!(added.iter().all(|path| !Path::new(path).exists()), "network namespaces: {added:?}");
    eventually("no rule names the Service", || !rules(cluster).contains(&service));
}

fn rules(cluster: &Cluster) -> String {
    text(&cluster.inside("iptables-save").output().expect("iptables-save runs").stdout)
}

fn interfaces(cluster: &Cluster) -> BTreeSet<String> {
    let listed = text(&cluster.inside("ip").args(["-o", "link"]).output().expect("ip runs").stdout);
    listed.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
}

/// Processes that were started with a path below the cluster's folder, or live in its network namespace.
fn processes(cluster: &Cluster) -> Vec<String> {
    let dir = cluster.dir().to_string_lossy().into_owned();
    let own = |name: &str| {
        let line = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(&dir)).then(|| format!("{name}: {line}"))
    };
    let all = fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let own_pid = std::process::id().to_string();
    let mut found: Vec<String> = all.filter(|name| name.parse::<u32>().is_ok() && *name != own_pid).filter_map(|name| own(&name)).collect();
    let inside = std::process::Command::new("ip").args(["netns", "pids", cluster.namespace()]).output().expect("ip runs");
    found.extend(text(&inside.stdout).split_whitespace().map(|pid| format!("{pid} in the namespace")));
    found
}

/// Cgroups of the cluster's pods.
fn cgroups(cluster: &Cluster) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).expect("cgroups").flatten().map(|entry| entry.path()).chain([root.to_owned()]);
    hierarchies.map(|dir| dir.join(cluster.namespace())).filter(|dir| dir.exists()).map(|dir| dir.display().to_string()).collect()
}

fn assert_down(cluster: &Cluster, networks: &BTreeSet<String>, clean: &BTreeSet<String>) {
    assert_eq!(processes(cluster), Vec::<String>::new());
    assert_eq!(mounts(&cluster.dir().to_string_lossy()), Vec::<String>::new());
    assert_eq!(interfaces(cluster), *clean);
    let rules = rules(cluster);
    assert!(rules.lines().all(|line| ["KUBE-", "TROUPE-", "CNI-"].iter().all(|chain| !line.contains(chain))), "{rules}");
    assert!(networks.iter().all(|path| !Path::new(path).exists()), "{networks:?}");
    assert!(leases(cluster).is_empty());
    assert_eq!(cgroups(cluster), Vec::<String>::new());
}

#[test]
fn down_leaves_no_trace_and_up_brings_everything_back_until_purge() {
    let cluster = Cluster::place();
    let clean = interfaces(&cluster);
    // A firewall that lets nothing through must not stand in the way of pods.
    let dropped = cluster.inside("iptables").args(["-P", "FORWARD", "DROP"]).status().expect("iptables runs");
    assert!(dropped.success());
    cluster.start();
    cluster.kubectl("-n kube-system rollout status daemonset/troupe-dns --timeout=120s");
    sample::deploy(&cluster);
    let objects = || cluster.kubectl("-n sample get deployments,replicasets,services,configmaps,pods -o name");
    let (before, networks) = (objects(), network_namespaces(&cluster));
    assert!(networks.len() >= 5 && !processes(&cluster).is_empty() && !cgroups(&cluster).is_empty(), "the checks below see what they look for");
    let said = || cluster.kubectl("-n sample logs caller --tail=1");
    eventually("the caller says something", || !said().is_empty());
    cluster.troupe_text(&["down"]);
    assert_down(&cluster, &networks, &clean);
    assert!(cluster.dir().join("data").exists());
    cluster.start();
    assert_eq!(objects(), before);
    cluster.kubectl("-n sample rollout status deployment/web --timeout=180s");
    cluster.kubectl("-n sample wait --for=condition=Ready pod/caller --timeout=120s");
    eventually("the log of the caller before down", || {
        let previous = cluster.kubectl_output("-n sample logs caller --previous --tail=1");
        previous.status.success() && !previous.stdout.is_empty()
    });
    let networks = network_namespaces(&cluster);
    cluster.troupe_text(&["down", "--purge"]);
    assert_down(&cluster, &networks, &clean);
    for gone in ["data", "run", "kubelet", "logs", "admin.kubeconfig"] {
        assert!(!cluster.dir().join(gone).exists(), "{gone} is left");
    }
    // Nothing to do is no failure.
    cluster.troupe_text(&["down", "--purge"]);
}
