//! From a pod's creation to its Ready condition, beside the calls that the container runtime needs for it anyway.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use troupe_cri::{
    GrpcRuntime, Runtime,
    proto::{ContainerConfig, ContainerMetadata, ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata},
};

use crate::{
    Bench,
    figures::{Budget, report, report_beside},
};

const PATH: &str = "/api/v1/namespaces/pods/pods";
const IMAGE: &str = "docker.io/library/busybox:1.35";
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure(bench: &Bench) {
    bench.cluster.kubectl("create namespace pods");
    bench.cluster.eventually_has("serviceaccount/default", "pods");
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::new(bench.cluster.path("run/containerd/containerd.sock")));
    for (pods, rounds, upstream) in [(1, 7, "0.35–0.45 s"), (10, 2, ""), (50, 1, "100 in 24 s")] {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            bare.push(bare_pods(&runtime, &bench.cluster.path("bare"), pods, round).await);
            ours.push(ready_pods(bench, pods, round).await);
        }
        let (ours, bare) = (median(ours), median(bare));
        let what = if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods at once") };
        report_beside(&format!("apply to Ready of {what}"), ours, " s", Budget::None, upstream);
        report(&format!("apply to Ready of {what} / the bare CRI calls it needs"), ours / bare, "", Budget::AtMost(1.2));
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Creates pods and waits until all of them are Ready, then removes them.
async fn ready_pods(bench: &Bench, count: usize, round: usize) -> f64 {
    let (mut connection, mut watching) = (bench.door.connect().await, bench.door.connect().await);
    let mut body = watching.start("GET", &format!("{PATH}?watch=true"), "application/json", "").await.into_body();
    let begun = Instant::now();
    for at in 0..count {
        connection.json("POST", PATH, pod(&format!("p{count}-{round}-{at}")).to_string()).await;
    }
    let (mut ready, mut buffer) = (BTreeSet::new(), Vec::new());
    while ready.len() < count {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("pods become Ready").expect("the watch lasts");
        buffer.extend_from_slice(frame.expect("no error").data_ref().map_or(&[], |data| &data[..]));
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).expect("an event");
            if is_ready(&event["object"]) {
                ready.insert(event["object"]["metadata"]["name"].as_str().expect("a name").to_owned());
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    connection.json("DELETE", &format!("{PATH}?gracePeriodSeconds=0"), "").await;
    let gone = Instant::now();
    while connection.json("GET", PATH, "").await.windows(10).any(|part| part == b"\"nodeName\"") {
        assert!(gone.elapsed() < PATIENCE, "the pods stay");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    took
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "1000"]}]}})
}

/// Sandbox, container, start: as many at once as there are pods. They go away again.
async fn bare_pods(runtime: &Arc<dyn Runtime>, logs: &std::path::Path, count: usize, round: usize) -> f64 {
    let begun = Instant::now();
    let made = join_all((0..count).map(|at| {
        let (runtime, config) = (runtime.clone(), sandbox(&format!("bare-{count}-{round}-{at}"), logs));
        tokio::spawn(async move {
            let id = runtime.run_pod_sandbox(config.clone(), "").await.expect("a sandbox");
            let container = runtime.create_container(&id, container(), config).await.expect("a container");
            runtime.start_container(&container).await.expect("it starts");
            id
        })
    }))
    .await;
    let took = begun.elapsed().as_secs_f64();
    for id in made {
        let id = id.expect("no panic");
        runtime.stop_pod_sandbox(&id).await.expect("it stops");
        runtime.remove_pod_sandbox(&id).await.expect("it goes away");
    }
    took
}

/// Without the labels by which a kubelet knows its pods, so that ours leaves it alone.
fn sandbox(name: &str, logs: &std::path::Path) -> PodSandboxConfig {
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
        command: ["sleep", "1000"].map(str::to_owned).to_vec(),
        log_path: "c.log".into(),
        ..Default::default()
    }
}
