//! What a pod without any rights of its own does with files: trees that nobody can walk, links that change while they are followed,
//! pipes where a file is read. And what somebody takes away from a running pod.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::fcntl::{RenameFlags, renameat2};

use crate::{
    cluster::{apply, eventually, eventually_within, text},
    stage::{self, Stage},
};

/// An ordinary user without capabilities.
const NOBODY: &str = "{runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";

/// A pod whose only container runs a script as nobody, with an emptyDir at /e.
fn pod(room: &str, name: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {room}}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  volumes: [{{name: e, emptyDir: {{}}}}]
  containers:
  - {{name: c, image: "busybox:1.35", securityContext: {NOBODY}, volumeMounts: [{{name: e, mountPath: /e}}], command: [sh, -c, {script:?}]}}
"#
    )
}

/// The kubelet's directory of a pod.
fn directory(stage: &Stage, room: &str, name: &str) -> PathBuf {
    let uid = stage.kubectl(&format!("-n {room} get pod {name} -o jsonpath={{.metadata.uid}}"));
    stage.path("kubelet").join("pods").join(uid)
}

fn log(stage: &Stage, room: &str, pod: &str) -> String {
    text(&stage.kubectl_output(&format!("-n {room} logs {pod} --all-containers")).stdout)
}

/// 20,800 directories each in the one before, and 900 with long names. The tree grows from its lowest end, so that no path is long.
const NEST: &str = "nest() { c=$1; for i in 1 2 3 4 5 6; do [ ${#c} -lt 1500 ] && c=$c/$c; done; mkdir t; \
    i=0; while [ $i -lt $2 ]; do mkdir -p n/$c; mv t n/$c/$1; mv n t; i=$((i+1)); done; mv t $1; }; \
    cd /e; nest d 320; nest $(printf 'l%.0s' $(seq 250)) 100; ";

#[test]
fn a_pod_with_directories_nested_deeper_than_any_stack_is_deleted() {
    let stage = stage::shared();
    let room = stage.room("nested");
    apply(&stage, &pod("nested", "nester", &format!("{NEST} echo nested; sleep 1000")));
    eventually_within(Duration::from_secs(180), "the tree stands", || log(&stage, "nested", "nester").contains("nested"));
    let directory = directory(&stage, "nested", "nester");
    assert!(directory.join("volumes/kubernetes.io~empty-dir/e").join("d/".repeat(1000)).is_dir());
    let (_, toll) = stage.attack(|| {
        stage.kubectl("-n nested delete pod nester --timeout=180s");
        eventually_within(Duration::from_secs(120), "nothing of the pod is left", || !directory.exists());
    });
    println!("{toll:?}");
    drop(room);
}

#[test]
fn a_removal_that_is_killed_in_its_midst_goes_on_after_the_restart() {
    let stage = Stage::up();
    let room = stage.room("wide");
    let wide = "for d in 1 2 3 4 5 6; do mkdir /e/$d; cd /e/$d; seq 50000 | xargs touch; done; echo filled; sleep 1000";
    apply(&stage, &pod("wide", "filler", &format!("{NEST} {wide}")));
    eventually_within(Duration::from_secs(180), "the tree stands", || log(&stage, "wide", "filler").contains("filled"));
    let directory = directory(&stage, "wide", "filler");
    let volume = directory.join("volumes/kubernetes.io~empty-dir/e");
    let whole = names(&volume);
    stage.kubectl("-n wide delete pod filler --wait=false");
    while names(&volume) == whole {
        std::thread::sleep(Duration::from_millis(1));
    }
    stage.strike("-9");
    assert!(directory.exists(), "it was killed in the midst");
    stage.start();
    eventually_within(Duration::from_secs(120), "nothing of the pod is left", || !directory.exists());
    eventually("the pod is gone", || !stage.kubectl_output("-n wide get pod filler").status.success());
    drop(room);
}

/// What a directory lists; nothing when it is gone.
fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// Prepares a link in a volume, whose way is long, to a directory that another link can take the place of; and waits for the race.
const PREPARE: &str = "cd /e; deep=$(printf 'd/%.0s' $(seq 1000)); mkdir -p $deep/good; touch $deep/good/mine; ln -s /etc $deep/bad; \
    ln -s ${deep}good x; touch ready; while [ ! -e go ]; do usleep 10000; done";

/// A pod whose containers all mount `x`, and say what they find there.
fn racers(room: &str, pod: &str, containers: usize) -> String {
    let look = "if [ -e /m/mine ]; then echo inside; elif [ -e /m/passwd ]; then echo OUTSIDE; fi; exit 1";
    let racers: String = (0..containers)
        .map(|number| {
            format!(
                "  - {{name: r{number}, image: \"busybox:1.35\", volumeMounts: [{{name: e, mountPath: /m, subPath: x}}], command: [sh, -c, {look:?}]}}\n"
            )
        })
        .collect();
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: {room}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: e, emptyDir: {{medium: Memory}}}}]
  initContainers:
  - {{name: i, image: "busybox:1.35", securityContext: {NOBODY}, volumeMounts: [{{name: e, mountPath: /e}}], command: [sh, -c, {PREPARE:?}]}}
  containers:
{racers}"#
    )
}

/// Exchanges the directory and the link to the host's /etc as fast as a program of a container's own could, until dropped.
struct Exchange {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    fn in_volume(volume: &Path) -> Self {
        let deep = volume.join("d/".repeat(1000));
        let place = File::open(&deep).expect("it was prepared");
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                renameat2(&place, "good", &place, "bad", RenameFlags::RENAME_EXCHANGE).expect("both are there");
            }
        });
        fs::write(volume.join("go"), "").expect("the volume is there");
        Exchange { over, thread: Some(thread) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it met is told by the test.
            let _ = thread.join();
        }
    }
}

/// How often each container that started so far found itself inside.
fn seen_inside(stage: &Stage, pod: &str) -> usize {
    let log = log(stage, "subpath", pod);
    assert!(!log.contains("OUTSIDE"), "a container has the host's /etc:\n{log}");
    log.matches("inside").count()
}

#[test]
fn a_subpath_that_is_exchanged_while_it_is_mounted_never_leads_to_the_host() {
    let stage = stage::shared();
    let room = stage.room("subpath");
    // One after the other: the exchange needs a processor of its own.
    for pod in ["one", "two", "three", "four"] {
        apply(&stage, &racers("subpath", pod, 8));
        let directory = directory(&stage, "subpath", pod);
        let volume = directory.join("volumes/kubernetes.io~empty-dir/e");
        eventually("the link is prepared", || volume.join("ready").exists());
        let exchange = Exchange::in_volume(&volume);
        eventually_within(Duration::from_secs(120), "the race was run often", || seen_inside(&stage, pod) >= 4);
        drop(exchange);
        let mounted = fs::read_to_string("/proc/self/mountinfo").expect("reads");
        let below = directory.join("volume-subpaths");
        let points: Vec<&str> = mounted.lines().filter(|line| line.contains(below.to_str().expect("text"))).collect();
        assert!(!points.is_empty(), "parts of volumes are bound below the pod's directory");
        assert!(points.iter().all(|line| line.split(' ').nth(3).is_some_and(|root| root.ends_with("/good") || root.ends_with("/bad"))), "{points:?}");
        stage.kubectl(&format!("-n subpath delete pod {pod} --timeout=120s"));
        eventually(&format!("{} is gone", directory.display()), || !directory.exists());
        let mounted = fs::read_to_string("/proc/self/mountinfo").expect("reads");
        assert!(!mounted.contains(directory.to_str().expect("text")), "something is mounted below {}", directory.display());
    }
    drop(room);
}

/// A container whose last words are a pipe that nobody writes into, and one with words in a file.
const PIPE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: mute, namespace: words}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  volumes: [{name: e, emptyDir: {}}]
  initContainers:
  - {name: i, image: "busybox:1.35", securityContext: {runAsUser: 1000}, volumeMounts: [{name: e, mountPath: /e}], command: [mkfifo, /e/pipe]}
  containers:
  - name: c
    image: busybox:1.35
    terminationMessagePath: /words
    volumeMounts: [{name: e, mountPath: /words, subPath: pipe}]
    command: [sh, -c, "exit 3"]
  - name: d
    image: busybox:1.35
    securityContext: {runAsUser: 1000}
    terminationMessagePath: /words
    command: [sh, -c, "seq 100000 > /words; exit 3"]
"#;

#[test]
fn last_words_that_are_a_pipe_stop_nobody() {
    let stage = stage::shared();
    let room = stage.room("words");
    apply(&stage, PIPE);
    let phase = || stage.kubectl("-n words get pod mute -o jsonpath={.status.phase}");
    eventually("the pod has failed", || phase() == "Failed");
    let words = stage.kubectl("-n words get pod mute -o jsonpath={.status.containerStatuses[?(@.name==\"d\")].state.terminated.message}");
    assert!(words.len() <= 4096 && words.trim_end().ends_with("100000"), "{} bytes: {words:.100}", words.len());
    stage.kubectl("-n words delete pod mute --timeout=120s");
    drop(room);
}

/// A pod with a volume of each kind that the kubelet writes, and one that it writes itself.
const READER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: m, namespace: emptied}
data: {key: first}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: emptied}
stringData: {key: hidden}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: emptied, labels: {a: b}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: m, configMap: {name: m}}
  - {name: s, secret: {secretName: s}}
  - {name: d, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: e, emptyDir: {}}
  containers:
  - name: c
    image: busybox:1.35
    volumeMounts: [{name: m, mountPath: /m}, {name: s, mountPath: /s}, {name: d, mountPath: /d}, {name: e, mountPath: /e}]
    command: [sh, -c, "while :; do sleep 1; done"]
"#;

/// Whether a container finds all its files, and can write.
const LOOK: &str = "cat /m/key /s/key /d/labels && test -s /var/run/secrets/kubernetes.io/serviceaccount/token && touch /e/x";

#[test]
fn volumes_of_a_running_pod_that_somebody_emptied_are_filled_within_a_minute() {
    let stage = stage::shared();
    let room = stage.room("emptied");
    apply(&stage, READER);
    let restarts = || stage.kubectl("-n emptied get pod reader -o jsonpath={.status.containerStatuses[0].restartCount}");
    let look = || stage.kubectl_command(&["-n", "emptied", "exec", "reader", "--", "sh", "-c", LOOK]).output().expect("kubectl runs");
    let sees = |wanted: &str| {
        let output = look();
        output.status.success() && text(&output.stdout).starts_with(wanted)
    };
    eventually("the pod sees its files", || sees("first"));
    let volumes = directory(&stage, "emptied", "reader").join("volumes");
    // All content, links and directories alike; the volumes themselves stay.
    let empty = || Command::new("find").arg(&volumes).args(["-mindepth", "3", "-delete"]).status().expect("find runs");
    // The kubelet may be about to look, and be there between the two.
    eventually("they are empty", || empty().success() && !sees("first"));
    eventually_within(Duration::from_secs(60), "the content is back", || sees("first"));
    assert_eq!(restarts(), "0", "no container had to be restarted for that");
    stage.kubectl("-n emptied patch configmap m -p {\"data\":{\"key\":\"second\"}}");
    eventually_within(Duration::from_secs(60), "a change of the config map arrives", || sees("second"));
    // And now as another cluster's removal did it: nothing is left of the volumes.
    eventually("they are removed", || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("reads");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(&volumes));
        let unmounted = points.map(|point| Command::new("umount").args(["-l", point]).status().expect("umount runs")).all(|status| status.success());
        unmounted && fs::remove_dir_all(&volumes).is_ok()
    });
    eventually_within(Duration::from_secs(90), "the volumes are back", || sees("second"));
    eventually("its one restart is told, as a container cannot see a directory that was made anew", || restarts() == "1");
    drop(room);
}
