//! What the daemons and the cluster's own pods are allowed, and who may read the files they make.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{
    cluster::{Cluster, apply, eventually_within},
    stage::{self, Stage},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A field of every thread of a process, as `/proc/PID/task/*/status` says it.
fn of_threads(pid: &str, field: &str) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let value = |text: String| text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()));
    statuses.filter_map(value).collect()
}

fn only(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.to_owned()])
}

/// Bits of capabilities by number: modules, raw I/O, reboot, time, audit, MAC, BPF.
const NOT_A_NODES: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 25 | 1 << 30 | 1 << 32 | 1 << 33 | 1 << 39;

#[test]
fn a_control_plane_has_no_capability_at_all() {
    let cluster = Cluster::place();
    let daemon = cluster.daemon("control-plane", &[]);
    eventually_within(PATIENCE, "the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let pid = daemon.0.id().to_string();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of_threads(&pid, set), only("0000000000000000"), "{set}");
    }
    assert_eq!(of_threads(&pid, "NoNewPrivs"), only("1"));
    assert!(of_threads(&pid, "Name").len() > 1, "it is the daemon that was looked at");
    assert_eq!(open_to_others(cluster.dir(), &[]), Vec::<PathBuf>::new());
}

#[test]
fn a_node_gives_up_what_it_does_not_use() {
    let stage = stage::shared();
    for set in ["CapPrm", "CapEff"] {
        for held in of_threads(&stage.pid(), set) {
            let held = u64::from_str_radix(&held, 16).expect("a hexadecimal number");
            assert_eq!(held & NOT_A_NODES, 0, "{set}: {held:x}");
        }
    }
}

/// The process of a running container, by its id as a pod's status has it.
fn process_of(stage: &Stage, id: &str) -> String {
    let id = id.trim().trim_start_matches("containerd://");
    let tasks = stage.ctr("tasks list");
    tasks.lines().find_map(|line| line.strip_prefix(id)?.split_whitespace().next()).expect("its task runs").to_owned()
}

#[test]
fn dns_pods_are_nobody_and_still_answer() {
    let stage = stage::shared();
    stage.kubectl("-n kube-system rollout status daemonset/troupe-dns --timeout=120s");
    let id = stage.kubectl("-n kube-system get pods -l k8s-app=kube-dns -o jsonpath={.items[0].status.containerStatuses[0].containerID}");
    let pid = process_of(&stage, &id);
    for set in ["Uid", "Gid"] {
        assert_eq!(of_threads(&pid, set), only("65532\t65532\t65532\t65532"), "{set}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of_threads(&pid, set), only("0000000000000000"), "{set}");
    }
    assert_eq!((of_threads(&pid, "NoNewPrivs"), of_threads(&pid, "Seccomp")), (only("1"), only("2")));
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("the process lives");
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).expect("a root");
    assert!(root.split(' ').nth(3).is_some_and(|options| options.split(',').any(|option| option == "ro")), "{root}");
    let room = stage.room("names");
    let run = format!(
        "-n {} run asker --image=docker.io/library/busybox:1.35 --image-pull-policy=IfNotPresent --restart=Never -- \
         nslookup kubernetes.default.svc.cluster.local",
        room.name
    );
    stage.kubectl(&run);
    // Not attached to: what a container says before that is only in its log.
    let phase = || stage.kubectl(&format!("-n {} get pod asker -o jsonpath={{.status.phase}}", room.name));
    eventually_within(PATIENCE, "the question is answered", || ["Succeeded", "Failed"].contains(&phase().trim()));
    let answer = stage.kubectl(&format!("-n {} logs asker", room.name));
    assert!(answer.contains("10.96.0.1"), "{answer}");
}

#[test]
fn every_container_is_killed_for_memory_before_the_daemons() {
    let stage = stage::shared();
    let room = stage.room("guaranteed");
    let resources = json!({"limits": {"cpu": "50m", "memory": "32Mi"}});
    let container = json!({"name": "c", "image": "docker.io/library/busybox:1.35", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000"], "resources": resources});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "safe", "namespace": room.name}, "spec": {"containers": [container]}});
    apply(&stage, &pod.to_string());
    stage.kubectl(&format!("-n {} wait --for=condition=Ready pod/safe --timeout=120s", room.name));
    let id = stage.kubectl(&format!("-n {} get pod safe -o jsonpath={{.status.containerStatuses[0].containerID}}", room.name));
    let pid = &process_of(&stage, &id);
    let score = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("the process lives");
        text.trim().parse::<i64>().expect("a number")
    };
    let containerd = fs::read_to_string(stage.path("run/containerd/containerd.pid")).expect("a pid file");
    for daemon in [stage.pid().as_str(), containerd.trim()] {
        assert!(score(pid) > score(daemon), "{} of a guaranteed pod, {} of a daemon", score(pid), score(daemon));
    }
}

#[test]
fn what_the_daemons_write_is_roots_alone() {
    let stage = stage::shared();
    // Pods read what is made for them, and containerd and its plugins keep their things as they do everywhere.
    let theirs = ["kubelet/pods", "logs", "data/containerd", "run/containerd", "data/cni"];
    // Containers with users of their own get through the run directory to their roots, and see nothing of it.
    assert_eq!(mode(&stage.path("run")), 0o711);
    let open = open_to_others(stage.dir(), &theirs);
    assert_eq!(open.into_iter().filter(|path| *path != stage.path("run")).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    assert_eq!(mode(&stage.path("logs")) & 0o007, 0, "nobody else comes as far as the logs");
}

#[test]
fn what_is_made_for_pods_is_theirs_to_use() {
    let stage = stage::shared();
    let room = stage.room("theirs");
    let host = stage.path("theirs/deep");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": room.name}, "data": {"key": "value"}});
    apply(&stage, &map.to_string());
    let script = "set -e; cat /m/a/b/key /etc/hosts /etc/resolv.conf; ls /h; touch /e/x /s/x; echo done > /dev/termination-log";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": room.name}, "spec": {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 1234, "runAsGroup": 1234},
        "volumes": [
            {"name": "m", "configMap": {"name": "m", "items": [{"key": "key", "path": "a/b/key"}]}},
            {"name": "e", "emptyDir": {}},
            {"name": "h", "hostPath": {"path": host, "type": "DirectoryOrCreate"}}],
        "containers": [{
            "name": "c", "image": "docker.io/library/busybox:1.35", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
            "volumeMounts": [
                {"name": "m", "mountPath": "/m"}, {"name": "e", "mountPath": "/e"}, {"name": "e", "mountPath": "/s", "subPath": "s/t"},
                {"name": "h", "mountPath": "/h"}]}]}});
    apply(&stage, &pod.to_string());
    let ended = || stage.kubectl(&format!("-n {} get pod user -o jsonpath={{.status.phase}}", room.name));
    eventually_within(PATIENCE, "the pod ends", || ["Succeeded", "Failed"].contains(&ended().as_str()));
    assert_eq!(ended(), "Succeeded", "{}", stage.kubectl(&format!("-n {} logs user", room.name)));
    // The test's own, so that no other finds it open.
    fs::remove_dir_all(stage.path("theirs")).expect("was made");
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().map_or(0, |metadata| metadata.permissions().mode() & 0o7777)
}

/// Files, sockets and folders below a folder that others than their owner may use, but certificates, what the test makes and what lies
/// below `theirs`.
fn open_to_others(root: &Path, theirs: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            let (path, kind) = (entry.path(), metadata.file_type());
            let ours = theirs.iter().all(|theirs| path != root.join(theirs));
            let public = kind.is_symlink() || path.extension().is_some_and(|extension| extension == "crt");
            // Logs of daemons that it starts, and what its kubectl remembers.
            let by_name = path.extension().is_some_and(|extension| extension == "log") || path.ends_with(".kube");
            let made_by_the_test = by_name && path.parent() == Some(root);
            if !ours || public || made_by_the_test {
                continue;
            }
            if mode(&path) & 0o077 != 0 || metadata.uid() != 0 {
                found.push(path.clone());
            }
            if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn containerd_may_open_what_it_needs_and_its_log_and_ours_stay_small() {
    let stage = stage::shared();
    let pid = fs::read_to_string(stage.path("run/containerd/containerd.pid")).expect("a pid file");
    let limits = fs::read_to_string(format!("/proc/{}/limits", pid.trim())).expect("containerd lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is told");
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "as many as it may have");
    // Whatever fills them, they give way, and both processes write on.
    for name in ["data/troupe.log", "data/containerd/containerd.log"] {
        let log = stage.path(name);
        let filled = fs::OpenOptions::new().append(true).open(&log).and_then(|file| file.set_len(20 << 20));
        filled.expect("it is there");
        eventually_within(PATIENCE, "the log gives way", || fs::metadata(&log).is_ok_and(|log| log.len() < 10 << 20));
        assert_eq!(fs::metadata(stage.path(&format!("{name}.1"))).expect("it is kept").len() >> 20, 20);
    }
    // A pod that is rejected is told of.
    let room = stage.room("rejected");
    let security = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    let containers = json!([{"name": "c", "image": "docker.io/library/busybox:1.35", "command": ["true"]}]);
    let spec = json!({"securityContext": security, "containers": containers});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "refused", "namespace": room.name}, "spec": spec});
    apply(&stage, &pod.to_string());
    let told = || fs::read_to_string(stage.path("data/troupe.log")).is_ok_and(|log| log.contains("pod rejected"));
    eventually_within(PATIENCE, "the daemon writes on", told);
}
