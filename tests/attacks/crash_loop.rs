//! A daemon that dies tells why, one that dies again and again is noticed, and a safe start lets people remove what kills it.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, apply, eventually, images, text},
    memory_group::MemoryGroup,
};

const DEADLY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: deadly}
spec:
  containers: [{name: c, image: 'busybox:1.35', command: [sleep, infinity]}]
";

/// A group that another server answers for.
const ELSEWHERE: &str = "
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.elsewhere.example.com}
spec:
  group: elsewhere.example.com
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 15
  insecureSkipTLSVerify: true
  service: {namespace: default, name: elsewhere}
";

/// `troupe status`, whether it is well or not.
fn status(cluster: &Cluster) -> String {
    let output = cluster.troupe_with_settings(&["status"]);
    text(&output.stdout) + &text(&output.stderr)
}

/// `troupe up --detach`: whether it succeeded, and all that it said.
fn up(cluster: &Cluster, flags: &[&str]) -> (bool, String) {
    let images = images();
    let output = cluster.troupe_with_settings(&[&["up", "--detach", "--image-dir", &images], flags].concat());
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn containers(cluster: &Cluster) -> BTreeSet<String> {
    cluster.ctr("tasks ls -q").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_daemon_that_dies_leaves_word_and_a_loop_is_noticed_and_can_be_ended() {
    let cluster = Cluster::place();
    cluster.start();
    apply(&cluster, DEADLY);
    cluster.kubectl("wait --for=condition=Ready pod/deadly --timeout=120s");
    // So that what runs now is all that is to run.
    cluster.kubectl("-n kube-system rollout status daemonset/troupe-dns --timeout=120s");
    let running = containers(&cluster);
    let deadly = cluster.kubectl("get pod deadly -o jsonpath={.status.containerStatuses[0].containerID}");
    let deadly = deadly.rsplit('/').next().expect("an id").to_owned();
    assert!(running.contains(&deadly), "{deadly} {running:?}");
    cluster.strike("-SEGV");
    let said = status(&cluster);
    assert!(said.contains("died: SIGSEGV, sent by process") && said.contains("does not run"), "{said}");
    let log = fs::read_to_string(cluster.path("data/troupe.log")).expect("a log");
    assert!(log.contains("SIGSEGV, sent by process"), "the log has it too");
    let (succeeded, said) = up(&cluster, &[]);
    assert!(succeeded, "{said}");
    cluster.strike("-ABRT");
    assert!(status(&cluster).contains("died: SIGABRT, sent by process"), "{}", status(&cluster));
    dies_seconds_after_it_was_ready(&cluster);
    assert_eq!(containers(&cluster), running, "no container is touched");
    safe_start(&cluster, &running);
    // Three crashes: the next start waits, says why, and is watched.
    let begun = Instant::now();
    let (succeeded, said) = up(&cluster, &[]);
    assert!(succeeded && said.contains("otherwise than in good order") && said.contains("troupe up --safe"), "{said}");
    println!("the start after three crashes took {:?}", begun.elapsed());
    eventually("what was removed is gone from the node too", || !containers(&cluster).contains(&deadly));
    eventually("the controllers work again", || cluster.kubectl("get replicasets -o name").contains("paused"));
    crate::cluster::run("kill", &["-TERM", &cluster.pid()]);
    eventually("it stops in good order", || status(&cluster).contains("stopped in good order"));
}

/// Killed while `up --detach` looks whether it settles: that fails, with the daemon's last words.
fn dies_seconds_after_it_was_ready(cluster: &Cluster) {
    let (progress, pid_file) = (cluster.path("run/progress"), cluster.path("run/troupe.pid"));
    let _ = fs::remove_file(&progress);
    let killer = thread::spawn(move || {
        eventually("the daemon says that it is ready", || fs::read_to_string(&progress).is_ok_and(|text| text.lines().any(|line| line == "ready")));
        thread::sleep(Duration::from_secs(1));
        let pid = fs::read_to_string(pid_file).expect("a pid file");
        crate::cluster::run("kill", &["-ABRT", pid.trim()]);
    });
    let (succeeded, said) = up(cluster, &[]);
    killer.join().expect("it was killed");
    assert!(!succeeded && said.contains("the daemon ended") && said.contains("died: SIGABRT"), "{said}");
    assert!(said.contains("ended 3 times") && said.contains("troupe up --safe"), "{said}");
    let said = status(cluster);
    assert!(said.contains("crash loop") && said.contains("3 of 3 starts"), "{said}");
}

/// The API server alone: nothing is controlled or started, what runs runs on, and objects can be removed.
fn safe_start(cluster: &Cluster, running: &BTreeSet<String>) {
    let place = ["--data-dir", "--run-dir"].map(|flag| flag.to_owned());
    let dirs = ["data", "run"].map(|name| cluster.path(name).to_string_lossy().into_owned());
    let output =
        cluster.inside(&crate::cluster::binary()).args(["up", "--safe", "--detach"]).args([&place[0], &dirs[0], &place[1], &dirs[1]]).output();
    let output = output.expect("troupe runs");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.contains("safe mode") && !said.contains("waiting"), "{said}");
    let said = status(cluster);
    assert!(said.contains("in safe mode") && said.contains("controllers, scheduler and node are paused"), "{said}");
    let actors = cluster.troupe_text(&["actors"]);
    assert!(actors.contains("up@it (safe mode)") && !actors.contains("controllers/deployment") && !actors.contains("kubelet"), "{actors}");
    cluster.kubectl("create deployment paused --image=busybox:1.35");
    cluster.kubectl("delete pod deadly --force --grace-period=0");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(cluster.kubectl("get replicasets -o name"), "", "no controller works");
    assert_eq!(containers(cluster), *running, "the containers run on");
    apply(cluster, ELSEWHERE);
    let asked = || text(&cluster.kubectl_output("get --raw /apis/elsewhere.example.com/v1").stderr);
    eventually("nobody is asked for what is elsewhere", || asked().contains("safe mode"));
    cluster.kubectl("delete apiservice v1.elsewhere.example.com");
    crate::cluster::run("kill", &["-TERM", &cluster.pid()]);
    eventually("the safe daemon stops", || !cluster.path("run/troupe.pid").exists());
}

#[test]
fn a_daemon_killed_for_memory_is_told_apart_from_one_that_somebody_killed() {
    let mut cluster = Cluster::place();
    let memory = MemoryGroup::with_limit(&format!("{}-small", cluster.namespace()), 400 << 20);
    cluster.hold_daemons_in(memory.processes());
    cluster.start();
    cluster.strike("-KILL");
    assert!(status(&cluster).contains("killed (SIGKILL) by nobody"), "{}", status(&cluster));
    cluster.start();
    // The kernel chooses the daemon when another process of its group takes all there is.
    let pid = cluster.pid();
    fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").expect("root may");
    let greedy = format!("echo $$ > {} && exec dd if=/dev/zero of=/dev/null bs=500M count=1", memory.processes().display());
    let _ = Command::new("sh").args(["-c", &greedy]).output().expect("sh runs");
    eventually("the daemon is gone", || !status(&cluster).contains("running (pid"));
    let said = status(&cluster);
    assert!(said.contains("killed by the kernel for memory"), "{said}");
    // The cluster ends before its group.
    drop(cluster);
    drop(memory);
}

#[test]
fn options_and_files_that_say_nothing_are_refused() {
    let cluster = Cluster::place();
    let file = cluster.path("config.yaml");
    let config = file.to_string_lossy().into_owned();
    let refused = |text_of_file: &str, flags: &[&str], words: &[&str]| {
        fs::write(&file, format!("apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\n{text_of_file}")).expect("writes");
        let (succeeded, said) = up(&cluster, &[&["--config", &config], flags].concat());
        assert!(!succeeded && words.iter().all(|word| said.contains(word)), "{text_of_file:?} {flags:?}: {said}");
    };
    refused("cgroupParrent: x\n", &[], &["cgroupParrent", "line 3"]);
    refused("componentPort: 10257\n", &[], &["--component-port would have no effect here"]);
    refused("auditLogMaxage: 3\n", &[], &["--audit-log-maxage has no effect"]);
    refused("", &["--node-heartbeat", "0"], &["--node-heartbeat cannot be 0"]);
    refused("", &["--service-cidr", "10.244.0.0/20"], &["overlap"]);
    let mut node = cluster.inside(&crate::cluster::binary());
    let output = node.env("TROUPE_LOG", "troupe=loud").arg("status").output().expect("troupe runs");
    assert!(!output.status.success() && text(&output.stderr).contains("TROUPE_LOG"), "{}", text(&output.stderr));
}
