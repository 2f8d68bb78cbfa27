//! Control plane and node as daemons of their own: either may be killed at any time, or be away, and the pods go on.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::cluster::{Cluster, eventually, text};

/// Rounds of killing both daemons; more with this variable.
const ROUNDS_VARIABLE: &str = "TROUPE_SURVIVAL_ROUNDS";
const IDS: &str = "-n sample get pods -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
const RESTARTS: &str = "-n sample get pods -o jsonpath={.items[*].status.containerStatuses[*].restartCount}";

/// The daemons of a cluster.
struct Daemons<'a> {
    cluster: &'a Cluster,
    control_plane: Option<Child>,
    node: Option<Child>,
}

impl<'a> Daemons<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        let mut daemons = Daemons { cluster, control_plane: None, node: None };
        daemons.start_control_plane();
        // The node does not wait for the API server, only for its kubeconfig.
        eventually("the control plane writes the node's kubeconfig", || cluster.path("node.kubeconfig").exists());
        daemons.start_node();
        daemons.await_ready();
        daemons
    }

    fn start_control_plane(&mut self) {
        self.control_plane = Some(self.cluster.daemon("control-plane", &[]));
    }

    fn start_node(&mut self) {
        self.node = Some(self.cluster.daemon("node", &[]));
    }

    fn await_ready(&self) {
        eventually("the API server is ready", || self.cluster.kubectl_output("get --raw /readyz").status.success());
        eventually("the node is Ready", || text(&self.cluster.kubectl_output("get nodes").stdout).contains(" Ready "));
    }

    fn kill_control_plane(&mut self) {
        kill(self.control_plane.take());
    }

    fn kill_node(&mut self) {
        kill(self.node.take());
    }
}

fn kill(daemon: Option<Child>) {
    let mut daemon = daemon.expect("it runs");
    daemon.kill().expect("it can be killed");
    daemon.wait().expect("it is gone");
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["control-plane.log", "node.log"] {
                let whole = fs::read_to_string(self.cluster.path(log)).unwrap_or_default();
                let lines: Vec<&str> = whole.lines().collect();
                eprintln!("--- the end of {log}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        for daemon in [&mut self.control_plane, &mut self.node] {
            if let Some(mut daemon) = daemon.take() {
                // It may be gone already.
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
    }
}

/// Makes config maps and pods all the time, and remembers what the API server said it has taken.
struct Churn {
    over: Arc<AtomicBool>,
    maps: JoinHandle<Vec<String>>,
    pods: JoinHandle<()>,
}

impl Churn {
    fn begin(cluster: &Cluster) -> Self {
        cluster.kubectl("create namespace churn");
        let over = Arc::new(AtomicBool::new(false));
        let (mapper, podder) = (cluster.caller(), cluster.caller());
        let (end, stop) = (over.clone(), over.clone());
        let maps = thread::spawn(move || {
            let names = (0..).map(|at| format!("m{at}")).take_while(|_| !end.load(Ordering::Relaxed));
            names.filter(|name| mapper(&format!("-n churn create configmap {name} --request-timeout=5s"))).collect()
        });
        let pods = thread::spawn(move || {
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                at += 1;
                podder(&format!("-n churn run p{at} --image=busybox:1.35 --restart=Never --request-timeout=5s -- sleep 3600"));
                if at > 2 {
                    podder(&format!("-n churn delete pod p{} --wait=false --grace-period=1 --request-timeout=5s", at - 2));
                }
                thread::sleep(Duration::from_millis(500));
            }
        });
        Churn { over, maps, pods }
    }

    /// The config maps that were acknowledged.
    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.pods.join().expect("no panic");
        self.maps.join().expect("no panic")
    }
}

/// The runtime's containers, pause containers included.
fn containers(cluster: &Cluster) -> BTreeSet<String> {
    let socket = cluster.path("run/containerd/containerd.sock");
    let output = Command::new("ctr").arg("--address").arg(socket).args(["--namespace", "k8s.io", "containers", "list", "--quiet"]).output();
    text(&output.expect("ctr runs").stdout).lines().map(str::to_owned).collect()
}

/// The processes of a container, other than its shim.
fn processes(container: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("there are processes").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let inside = |pid: &String| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container));
    all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(inside).collect()
}

fn mounts_below(cluster: &Cluster) -> usize {
    let dir = cluster.path("kubelet/pods");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&*dir.to_string_lossy())).count()
}

#[test]
fn pods_and_writes_outlive_both_daemons() {
    let rounds: u32 = std::env::var(ROUNDS_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let cluster = Cluster::place();
    let mut daemons = Daemons::start(&cluster);
    eventually("the DNS server runs", || cluster.kubectl("-n kube-system get pods -o name").contains("pod/"));
    cluster.kubectl("-n kube-system wait --for=condition=Ready pod --all --timeout=60s");
    let (idle, idle_mounts) = (containers(&cluster), mounts_below(&cluster));
    cluster.kubectl(&format!("apply -f {}/config/samples/web.yaml", env!("CARGO_MANIFEST_DIR")));
    cluster.kubectl("-n sample rollout status deployment/web --timeout=90s");
    cluster.kubectl("-n sample wait --for=condition=Ready pod --all --timeout=60s");
    let before = cluster.kubectl(IDS);
    let churn = Churn::begin(&cluster);
    for _ in 0..rounds {
        daemons.kill_control_plane();
        thread::sleep(Duration::from_millis(500)); // some churn meets nobody
        daemons.start_control_plane();
        daemons.await_ready();
        daemons.kill_node();
        thread::sleep(Duration::from_millis(500)); // likewise
        daemons.start_node();
        daemons.await_ready();
    }
    let acknowledged = churn.end();
    assert!(acknowledged.len() > 5, "there was churn: {acknowledged:?}");
    let maps = cluster.kubectl("-n churn get configmaps -o name");
    let known: BTreeSet<&str> = maps.lines().filter_map(|line| line.strip_prefix("configmap/")).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(cluster.kubectl(IDS), before, "the containers are the same ones");
    assert!(cluster.kubectl(RESTARTS).split_whitespace().all(|count| count == "0"));
    runs_without_an_api_server(&cluster, &mut daemons);
    cluster.kubectl("delete namespace sample churn --timeout=60s");
    eventually("no container is left over", || containers(&cluster) == idle);
    eventually("no mount is left over", || mounts_below(&cluster) == idle_mounts);
    eventually("no rule of the sample is left over", || !cluster.rules().contains("sample/"));
}

/// While the API server is away, pods answer and what crashes is restarted; then all of it is told.
fn runs_without_an_api_server(cluster: &Cluster, daemons: &mut Daemons<'_>) {
    let web = "-n sample get pods -l app=web -o jsonpath={.items[0].metadata.name}";
    let pod = cluster.kubectl(web);
    let container = cluster.kubectl(&format!("-n sample get pod {pod} -o jsonpath={{.status.containerStatuses[0].containerID}}"));
    let container = container.rsplit('/').next().expect("an ID").to_owned();
    let ip = cluster.kubectl("-n sample get service web -o jsonpath={.spec.clusterIP}");
    let pod_ip = cluster.kubectl(&format!("-n sample get pod {pod} -o jsonpath={{.status.podIP}}"));
    daemons.kill_control_plane();
    let known = containers(cluster);
    for pid in processes(&container) {
        // One of several may take the others along.
        let _ = Command::new("kill").args(["-9", &pid]).status();
    }
    eventually("the crashed container is restarted", || containers(cluster).difference(&known).next().is_some());
    eventually("it answers again", || cluster.get(&format!("{pod_ip}:8080")).is_some_and(|page| page.contains("Hello")));
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert!(cluster.get(&format!("{ip}:80")).is_some_and(|page| page.contains("Hello")), "the Service answers");
        thread::sleep(Duration::from_millis(200));
    }
    daemons.start_control_plane();
    daemons.await_ready();
    let restarts = format!("-n sample get pod {pod} -o jsonpath={{.status.containerStatuses[0].restartCount}}");
    eventually("the restart is told", || cluster.kubectl(&restarts) == "1");
    cluster.kubectl("-n sample wait --for=condition=Ready pod --all --timeout=60s");
}

/// Daemons that end with the test.
struct Group(Vec<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        for daemon in &mut self.0 {
            // It may be gone already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn parts_of_a_control_plane_run_apart_and_another_takes_over() {
    let cluster = Cluster::place();
    let mut group = Group(vec![cluster.daemon("control-plane", &["--components=apiserver"])]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    eventually("the components have kubeconfigs", || cluster.path("scheduler.kubeconfig").exists());
    let controllers = |place| cluster.daemon_beside(place, "control-plane", "controller-manager.kubeconfig", &["--components=controllers"]);
    group.0.push(controllers("-a"));
    let holder = || {
        let lease = "-n kube-system get lease kube-controller-manager -o jsonpath={.spec.holderIdentity}";
        text(&cluster.kubectl_output(lease).stdout)
    };
    eventually("the first leads", || !holder().is_empty());
    let first = holder();
    group.0.push(controllers("-b"));
    group.0.push(cluster.daemon_beside("-s", "control-plane", "scheduler.kubeconfig", &["--components=scheduler"]));
    cluster.kubectl(&format!("create -f {}", node_manifest(&cluster)));
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}],"allocatable":{"cpu":"4","memory":"8Gi","pods":"110"}}}"#;
    cluster.kubectl(&format!("patch node paper --subresource=status --type=merge -p {status}"));
    let runs = |name: &str| {
        let bound = format!("get pods -l app={name} -o jsonpath={{.items[*].spec.nodeName}}");
        cluster.kubectl(&format!("create deployment {name} --image=busybox:1.35 --replicas=2"));
        eventually(&format!("the pods of {name} are made and bound"), || cluster.kubectl(&bound) == "paper paper");
    };
    runs("before");
    let made_by = "get replicasets -l app=before -o jsonpath={.items[0].metadata.managedFields[0].manager}";
    assert_eq!(cluster.kubectl(made_by), "kube-controller-manager");
    let _ = group.0[1].kill(); // the leader
    eventually("the other leads", || ![String::new(), first.clone()].contains(&holder()));
    runs("after");
}

/// A Node without a machine.
fn node_manifest(cluster: &Cluster) -> String {
    let path = cluster.path("node.yaml");
    fs::write(&path, "apiVersion: v1\nkind: Node\nmetadata: {name: paper}\n").expect("writes");
    path.to_string_lossy().into_owned()
}

#[test]
fn a_node_alone_keeps_its_static_pods() {
    let cluster = Cluster::place();
    let manifests = cluster.path("manifests");
    fs::create_dir_all(&manifests).expect("a folder");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: alone}\nspec:\n  containers:\n  - {name: web, image: 'troupe.local/sample-web:0.1'}\n";
    fs::write(manifests.join("alone.yaml"), pod).expect("writes");
    let mut node = cluster.daemon("node", &["--standalone"]);
    eventually("the pod's containers run", || containers(&cluster).len() == 2);
    let first = containers(&cluster);
    node.kill().expect("it can be killed");
    node.wait().expect("it is gone");
    let web = first.iter().find(|id| processes(id).iter().any(|pid| comm(pid) != "pause"));
    let web = web.expect("the container runs on without the daemon").clone();
    let mut node = cluster.daemon("node", &["--standalone"]);
    for pid in processes(&web) {
        // It may be gone already.
        let _ = Command::new("kill").args(["-9", &pid]).status();
    }
    eventually("the crashed container is restarted", || containers(&cluster).difference(&first).next().is_some());
    assert!(first.intersection(&containers(&cluster)).next().is_some(), "in the same sandbox");
    fs::remove_file(manifests.join("alone.yaml")).expect("removes");
    eventually("a pod whose manifest is gone is gone", || containers(&cluster).is_empty());
    node.kill().expect("it can be killed");
    node.wait().expect("it is gone");
}

fn comm(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
