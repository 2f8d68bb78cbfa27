//! From a pod's creation to its Ready condition, beside the calls that the container runtime needs for it anyway, and from its deletion to its end.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join, join_all};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use troupe_cri::{
    GrpcRuntime, Runtime,
    proto::{ContainerConfig, ContainerMetadata, ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata},
};

use crate::{
    Bench,
    cluster::Cluster,
    figures::{Budget, report, report_beside},
    https::{Connection, Door},
};

/// As many pods as a node has by default.
pub const MOST: usize = 110;
/// As many of [`MOST`] are deleted at once.
const DELETED: usize = 100;
/// Of the time that the bare calls take.
const AT_MOST: f64 = 1.1;
const PATH: &str = "/api/v1/namespaces/pods/pods";
const IMAGE: &str = "docker.io/library/busybox:1.35";
/// Does nothing and ends at the signal TERM, which the first process of a container does not get unless it asks for it.
const COMMAND: [&str; 3] = ["sh", "-c", "trap exit TERM; sleep 1000 & wait"];
const PATIENCE: Duration = Duration::from_secs(120);
/// What a kubelet does after a pod is gone from the API is done by then.
const SETTLING: Duration = Duration::from_secs(1);

/// How long pods took, in seconds.
pub struct Took {
    /// From the beginning until all were there.
    all: f64,
    /// Each from its own beginning.
    each: Vec<f64>,
}

pub async fn measure(bench: &Bench) {
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::new(bench.cluster.path("run/containerd/containerd.sock")));
    let mut pods = Pods::open(&bench.cluster, &bench.door).await;
    for (count, rounds, upstream) in [(1, 7, "0.35–0.45 s"), (10, 2, ""), (50, 1, ""), (MOST, 1, "100 in 24 s")] {
        let (mut ours, mut bare, mut deletions) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            bare.push(bare_pods(&runtime, &bench.cluster.path("bare"), count, round).await);
            let (took, deletion) = run_and_delete(&mut pods, count, round).await;
            ours.push(took);
            deletions.push(deletion);
        }
        let what = if count == 1 { "1 pod".to_owned() } else { format!("{count} pods at once") };
        tell_ready(&what, &ours, &bare, upstream);
        if count == MOST {
            tell_slowest(&what, &ours, &bare);
            report(&format!("deletion of {DELETED} pods at once, until none is left"), median(deletions), " s", Budget::AtMost(2.9));
        }
    }
}

/// How long all pods took, by the median of all rounds.
fn tell_ready(what: &str, ours: &[Took], bare: &[Took], upstream: &str) {
    let [ours, bare] = [ours, bare].map(|rounds| median(rounds.iter().map(|took| took.all).collect()));
    report_beside(&format!("apply to Ready of {what}"), ours, " s", Budget::None, upstream);
    report(&format!("apply to Ready of {what} / the bare CRI calls it needs"), ours / bare, "", Budget::AtMost(AT_MOST));
}

/// How long the 99th of a hundred pods took, of those of all rounds.
fn tell_slowest(what: &str, ours: &[Took], bare: &[Took]) {
    let [ours, bare] = [ours, bare].map(|rounds| percentile_99(rounds.iter().flat_map(|took| took.each.clone()).collect()));
    report(&format!("creation to Ready of each of {what}, 99th percentile"), ours, " s", Budget::None);
    report(&format!("creation to Ready of each of {what}, 99th percentile / that of the bare CRI calls"), ours / bare, "", Budget::AtMost(AT_MOST));
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// By the nearest rank.
fn percentile_99(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// A kubelet's configuration with room for [`MOST`] pods beside those of the system, in a file of the cluster's.
pub fn kubelet_config(cluster: &Cluster) -> String {
    let file = cluster.path("kubelet.yaml");
    let config = format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: {}\n", MOST + 20);
    fs::write(&file, config).expect("a folder of our own");
    file.to_string_lossy().into_owned()
}

/// Runs pods and removes them, [`DELETED`] of them at most at once; how long they took until they were Ready, and those until they were gone.
async fn run_and_delete(pods: &mut Pods, count: usize, round: usize) -> (Took, f64) {
    let many = group(&format!("p{count}-{round}"), count.min(DELETED));
    let rest = group(&format!("rest{count}-{round}"), count.saturating_sub(DELETED));
    let took = pods.run(&[&many[..], &rest[..]].concat()).await;
    let deletion = pods.delete(&many).await;
    if !rest.is_empty() {
        pods.delete(&rest).await;
    }
    if count > 1 {
        tokio::time::sleep(SETTLING).await;
    }
    (took, deletion)
}

/// Pods that do nothing.
pub fn group(name: &str, count: usize) -> Vec<Value> {
    (0..count).map(|at| pod(name, at)).collect()
}

/// The pod at a place of a group.
fn pod(group: &str, at: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{group}-{at}"), "labels": {"group": group}},
        "spec": {"containers": [{"name": "c", "image": IMAGE, "command": COMMAND}]}})
}

fn name_of(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().expect("a name").to_owned()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

/// The pods of a namespace of their own.
pub struct Pods {
    door: Door,
    watch: Watch,
}

impl Pods {
    /// Makes the namespace.
    pub async fn open(cluster: &Cluster, door: &Door) -> Self {
        cluster.kubectl("create namespace pods");
        cluster.eventually_has("serviceaccount/default", "pods");
        Pods { watch: Watch::start(door).await, door: door.clone() }
    }

    /// Creates pods and waits until all of them are Ready.
    pub async fn run(&mut self, pods: &[Value]) -> Took {
        let mut connection = self.door.connect().await;
        let names = pods.iter().map(name_of).collect();
        let begun = Instant::now();
        let (created, ready) = join(create(&mut connection, pods), self.watch.until(names, |event| is_ready(&event["object"]))).await;
        let all = begun.elapsed().as_secs_f64();
        Took { all, each: created.iter().map(|(name, at)| (ready[name] - *at).as_secs_f64()).collect() }
    }

    /// Deletes a whole group, whose pods may take as long to end as pods usually may; seconds until the last one is gone.
    pub async fn delete(&mut self, pods: &[Value]) -> f64 {
        let mut connection = self.door.connect().await;
        let group = pods[0]["metadata"]["labels"]["group"].as_str().expect("a label");
        let (path, names) = (format!("{PATH}?labelSelector=group%3D{group}"), pods.iter().map(name_of).collect());
        let begun = Instant::now();
        join(connection.json("DELETE", &path, ""), self.watch.until(names, |event| event["type"] == "DELETED")).await;
        begun.elapsed().as_secs_f64()
    }
}

/// One after the other; when each was asked for.
async fn create(connection: &mut Connection, pods: &[Value]) -> Vec<(String, Instant)> {
    let mut created = Vec::with_capacity(pods.len());
    for pod in pods {
        created.push((name_of(pod), Instant::now()));
        connection.json("POST", PATH, pod.to_string()).await;
    }
    created
}

/// A watch of the namespace's pods.
struct Watch {
    body: Incoming,
    unread: Vec<u8>,
    /// It ends with this.
    _connection: Connection,
}

impl Watch {
    async fn start(door: &Door) -> Self {
        let mut connection = door.connect().await;
        let body = connection.start("GET", &format!("{PATH}?watch=true"), "application/json", "").await.into_body();
        Watch { body, unread: Vec::new(), _connection: connection }
    }

    /// The next event.
    async fn event(&mut self) -> Value {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("an event");
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("something happens").expect("the watch lasts");
            self.unread.extend_from_slice(frame.expect("no error").data_ref().map_or(&[], |data| &data[..]));
        }
    }

    /// When an event first told so of each of these pods.
    async fn until(&mut self, mut names: BTreeSet<String>, is_so: fn(&Value) -> bool) -> HashMap<String, Instant> {
        let (begun, mut told) = (Instant::now(), HashMap::new());
        while !names.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "these are not there yet, or not gone: {names:?}");
            let event = self.event().await;
            assert!(event["type"] != "ERROR", "{event}");
            let name = event["object"]["metadata"]["name"].as_str().expect("a name");
            if is_so(&event) && names.remove(name) {
                told.insert(name.to_owned(), Instant::now());
            }
        }
        told
    }
}

/// Sandbox, container, start: as many at once as there are pods. They go away again.
async fn bare_pods(runtime: &Arc<dyn Runtime>, logs: &Path, count: usize, round: usize) -> Took {
    let begun = Instant::now();
    let made = join_all((0..count).map(|at| {
        let (runtime, config) = (runtime.clone(), sandbox(&format!("bare-{count}-{round}-{at}"), logs));
        tokio::spawn(async move {
            let id = runtime.run_pod_sandbox(config.clone(), "").await.expect("a sandbox");
            let container = runtime.create_container(&id, container(), config).await.expect("a container");
            runtime.start_container(&container).await.expect("it starts");
            (id, begun.elapsed().as_secs_f64())
        })
    }))
    .await;
    let all = begun.elapsed().as_secs_f64();
    let (ids, each): (Vec<String>, Vec<f64>) = made.into_iter().map(|made| made.expect("no panic")).unzip();
    join_all(ids.iter().map(|id| remove(runtime, id))).await;
    Took { all, each }
}

async fn remove(runtime: &Arc<dyn Runtime>, sandbox: &str) {
    runtime.stop_pod_sandbox(sandbox).await.expect("it stops");
    runtime.remove_pod_sandbox(sandbox).await.expect("it goes away");
}

/// Without the labels by which a kubelet knows its pods, so that ours leaves it alone.
fn sandbox(name: &str, logs: &Path) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "bare".into(), attempt: 0 }),
        log_directory: logs.join(name).display().to_string(),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: format!("/bench-bare/{name}"), ..Default::default() }),
        labels: HashMap::new(),
        ..Default::default()
    }
}

fn container() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: COMMAND.map(str::to_owned).to_vec(),
        log_path: "c.log".into(),
        ..Default::default()
    }
}
