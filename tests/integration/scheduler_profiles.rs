//! `--scheduler-config` on a live cluster: profiles with other weights and arguments, and an extender that the test serves. Pods go to
//! hollow nodes: nobody minds how many of those there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    cluster::{Cluster, apply, binary, eventually, eventually_within},
    running::Running,
};

const CONFIGURATION: &str = r#"
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  plugins: {score: {disabled: [{name: "*"}], enabled: [{name: NodeResourcesFit, weight: 3}]}}
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
- schedulerName: batch
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [batch]}]}]
- schedulerName: spreading
  plugins: {score: {disabled: [{name: "*"}], enabled: [{name: NodeResourcesFit}]}}
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
extenders:
- urlPrefix: URL
  filterVerb: filter
  prioritizeVerb: prioritize
  weight: 5
  nodeCacheCapable: true
  managedResources: [{name: example.com/licence, ignoredByScheduler: true}]
"#;

#[test]
fn profiles_and_an_extender_say_where_pods_go() {
    let cluster = Cluster::place();
    let extender = Extender::beside(&cluster);
    let file = cluster.path("scheduler.yaml");
    std::fs::write(&file, CONFIGURATION.replace("URL", &extender.url)).expect("writes");
    cluster.start_with(&["--scheduler-config", &file.to_string_lossy()]);
    let _nodes = hollow_nodes(&cluster);
    cluster.kubectl("create namespace profiles");
    cluster.eventually_has("serviceaccount/default", "profiles");

    // One after the other, so that each sees where the others are.
    let place = |name: &str, scheduler: &str| placed(&cluster, name, scheduler, &json!({}));
    let packed: BTreeSet<String> = (0..3).map(|number| place(&format!("packed-{number}"), "packing")).collect();
    assert_eq!(packed.len(), 1, "where others are already");
    let spread: BTreeSet<String> = (0..3).map(|number| place(&format!("plain-{number}"), "default-scheduler")).collect();
    assert_eq!((spread.len(), spread.is_disjoint(&packed)), (3, true), "where the fewest others are: {spread:?}, not {packed:?}");
    adds_affinity(&cluster);
    spreads_by_default(&cluster);
    let reporter = || {
        let wanted = "reason=Scheduled,involvedObject.name=packed-0";
        cluster.kubectl(&format!("-n profiles get events --field-selector {wanted} -o jsonpath={{.items[*].reportingComponent}}"))
    };
    eventually("the profile's own event is there", || reporter() == "packing");

    // Pods with licences are the extender's business.
    let licence = json!({"containers": [{"name": "c", "image": "none", "resources": {"limits": {"example.com/licence": "1"}}}]});
    assert_eq!(placed(&cluster, "licensed", "default-scheduler", &licence), "hollow-3", "it likes this one most");
    create(&cluster, "refused", "default-scheduler", &licence);
    eventually("the extender's reason is told", || condition(&cluster, "refused").1.contains("2 no licence left"));
    assert_eq!(condition(&cluster, "refused").0, "Unschedulable");
    drop(extender);
    create(&cluster, "unasked", "default-scheduler", &licence);
    eventually_within(Duration::from_secs(90), "what fails is told", || condition(&cluster, "unasked").0 == "SchedulerError");
    placed(&cluster, "plain-3", "default-scheduler", &json!({}));
}

/// The profile's own affinity counts beside that of its pods.
fn adds_affinity(cluster: &Cluster) {
    assert_eq!(placed(cluster, "batched", "batch", &json!({})), "hollow-0");
    create(cluster, "elsewhere", "batch", &json!({"nodeSelector": {"zone": "b"}}));
    eventually("it fits nowhere", || condition(cluster, "elsewhere").0 == "Unschedulable");
    let (_, message) = condition(cluster, "elsewhere");
    assert!(message.contains("node(s) didn't match scheduler-enforced node affinity"), "{message}");
}

/// Pods that would all go to one node are spread because the profile says so.
fn spreads_by_default(cluster: &Cluster) {
    for (scheduler, wanted) in [("packing", [0, 4]), ("spreading", [2, 2])] {
        let labels = json!({"app": format!("web-{scheduler}")});
        let template = json!({"metadata": {"labels": labels}, "spec": spec(scheduler, &json!({}))});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": scheduler, "namespace": "profiles"},
            "spec": {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}});
        apply(cluster, &deployment.to_string());
        let nodes = || {
            let words = format!("-n profiles get pods -l app=web-{scheduler} -o jsonpath={{.items[*].spec.nodeName}}");
            cluster.kubectl(&words).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        eventually("all are placed", || nodes().len() == 4);
        let in_a = nodes().iter().filter(|node| zone(node) == "a").count();
        let mut zones = [in_a, 4 - in_a];
        zones.sort_unstable();
        assert_eq!(zones, wanted, "{scheduler}: {:?}", nodes());
    }
}

/// The first two hollow nodes are in zone a, the others in b.
fn zone(node: &str) -> &'static str {
    if matches!(node, "hollow-0" | "hollow-1") { "a" } else { "b" }
}

fn hollow_nodes(cluster: &Cluster) -> Running {
    let mut command = cluster.inside(&binary());
    command.args(["node", "--hollow", "4", "--kubeconfig"]).arg(cluster.kubeconfig());
    let nodes = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("troupe runs"));
    eventually("they are there", || cluster.kubectl("get nodes -l troupe.dev/hollow=true --no-headers").matches(" Ready ").count() == 4);
    for node in (0..4).map(|number| format!("hollow-{number}")) {
        cluster.kubectl(&format!("label node {node} zone={}", zone(&node)));
    }
    cluster.kubectl("label node hollow-0 pool=batch");
    nodes
}

/// What a pod of these tests is, beside what it has of its own.
fn spec(scheduler: &str, own: &Value) -> Value {
    let resources = json!({"requests": {"cpu": "4", "memory": "1Gi"}});
    let mut spec = json!({"schedulerName": scheduler, "nodeSelector": {"troupe.dev/hollow": "true"},
        "tolerations": [{"key": "troupe.dev/hollow", "operator": "Exists"}],
        "containers": [{"name": "c", "image": "none", "resources": resources}]});
    own.as_object().into_iter().flatten().for_each(|(key, value)| spec[key] = value.clone());
    spec
}

fn create(cluster: &Cluster, name: &str, scheduler: &str, own: &Value) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "profiles"}, "spec": spec(scheduler, own)});
    apply(cluster, &pod.to_string());
}

/// Creates a pod and tells which node it gets.
fn placed(cluster: &Cluster, name: &str, scheduler: &str, own: &Value) -> String {
    create(cluster, name, scheduler, own);
    let node = || cluster.kubectl(&format!("-n profiles get pod {name} -o jsonpath={{.spec.nodeName}}"));
    eventually(&format!("{name} has a node"), || !node().is_empty());
    node()
}

/// Reason and message of the condition PodScheduled.
fn condition(cluster: &Cluster, name: &str) -> (String, String) {
    let pod: Value = serde_json::from_str(&cluster.kubectl(&format!("-n profiles get pod {name} -o json"))).expect("JSON");
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == "PodScheduled").cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Gives out licences on two nodes, in the network namespace of a cluster, until it is dropped.
struct Extender {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Extender {
    fn beside(cluster: &Cluster) -> Self {
        let ((stop, stopped), (bound, address)) = (oneshot::channel::<()>(), mpsc::channel());
        let thread = cluster.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                bound.send(listener.local_addr().expect("bound")).expect("the test waits");
                let accepting = async {
                    while let Ok((tcp, _)) = listener.accept().await {
                        tokio::spawn(serve(tcp));
                    }
                };
                // Over, too, when the other end is gone.
                tokio::select! { _ = stopped => {}, () = accepting => {} }
            });
        });
        let url = format!("http://{}/licences", address.recv().expect("it listens"));
        Extender { url, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Extender {
    fn drop(&mut self) {
        drop(self.stop.take());
        // If it panicked, nothing is served either.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers the questions of one connection.
async fn serve(mut tcp: TcpStream) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        let whole = text.split_once("\r\n\r\n").filter(|(head, body)| {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            length.is_some_and(|length| body.len() >= length)
        });
        if let Some((head, body)) = whole {
            let said = answer(head.lines().next().unwrap_or_default(), &serde_json::from_str(body).expect("JSON")).to_string();
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{said}", said.len());
            if tcp.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
            read.clear();
            continue;
        }
        if tcp.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

fn answer(request: &str, arguments: &Value) -> Value {
    if request.contains("/prioritize ") {
        return json!([{"Host": "hollow-2", "Score": 0}, {"Host": "hollow-3", "Score": 10}]);
    }
    let licensed = ["hollow-2", "hollow-3"];
    let nodes = || arguments["NodeNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let (there, others): (Vec<&str>, Vec<&str>) = nodes().partition(|node| licensed.contains(node));
    let refused: BTreeMap<&str, &str> = others.into_iter().map(|node| (node, "no licences here")).collect();
    if arguments["Pod"]["metadata"]["name"] == "refused" {
        let left: BTreeMap<&str, &str> = there.into_iter().map(|node| (node, "no licence left")).chain(refused).collect();
        return json!({"NodeNames": [], "FailedNodes": left});
    }
    json!({"NodeNames": there, "FailedNodes": refused})
}
