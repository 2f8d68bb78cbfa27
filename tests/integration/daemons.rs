//! Control plane and node as daemons of their own: either may be killed at any time, or be away, and the pods go on.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, eventually, eventually_within, text},
    processes::{Daemon, Daemons},
};

const IDS: &str = "-n sample get pods -o jsonpath={.items[*].status.containerStatuses[*].containerID}";

/// A pod that a silent node loses at once.
const INTOLERANT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: intolerant, namespace: sample}
spec:
  containers: [{name: c, image: 'busybox:1.35', command: [sleep, '3600']}]
  terminationGracePeriodSeconds: 1
  tolerations:
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
"#;

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

#[test]
fn pods_do_not_need_the_api_server() {
    let cluster = Cluster::place();
    // What is short here is a minute in a real cluster: the API server is away for longer than a node may be silent.
    let mut daemons = Daemons::new(&cluster).with_flags(&["--node-monitor-grace-period=10", "--node-heartbeat=1"]);
    daemons.start();
    crate::sample::deploy(&cluster);
    crate::cluster::apply(&cluster, INTOLERANT);
    cluster.kubectl("-n sample wait --for=condition=Ready pod --all --timeout=120s");
    let before = cluster.kubectl(IDS);
    let told = runs_without_an_api_server(&cluster, &mut daemons, Duration::from_secs(20));
    // Whoever is evicted now was evicted for the API server's own absence.
    let until = Instant::now() + Duration::from_secs(13);
    while Instant::now() < until {
        let deleted = cluster.kubectl("-n sample get pods -o jsonpath={.items[*].metadata.deletionTimestamp}");
        assert_eq!(deleted, "", "pods are evicted");
        thread::sleep(Duration::from_millis(200));
    }
    hears_of_changes(&cluster, told);
    let after = cluster.kubectl(IDS);
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (before.split(' ').collect(), after.split(' ').collect());
    assert_eq!(before.difference(&after).count(), 1, "only the container that crashed is another one: {before:?} {after:?}");
    let taints = "get nodes -o jsonpath={.items[*].spec.taints}";
    eventually("nothing taints the node", || cluster.kubectl(taints).is_empty());
}

/// What the node wrote into its log.
fn node_log(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.path("node.log")).expect("the node writes a log")
}

/// The node's watches go on where they were, also those of what nobody changed: a new Service answers at once. Its log had `told` bytes when
/// the API server came back.
fn hears_of_changes(cluster: &Cluster, told: usize) {
    let log = node_log(cluster);
    let stuck: Vec<_> = log[told..].lines().filter(|line| line.contains("is stuck")).collect();
    assert!(stuck.is_empty(), "nothing was missed: {stuck:#?}");
    cluster.kubectl("-n sample expose deployment web --name=again --port=80 --target-port=8080");
    let ip = cluster.kubectl("-n sample get service again -o jsonpath={.spec.clusterIP}");
    let answers = || cluster.get(&format!("{ip}:80")).is_some_and(|page| page.contains("Hello"));
    eventually_within(Duration::from_secs(4), "a new Service answers", answers);
}

/// While the API server is away, pods answer and what crashes is restarted; then all of it is told. How long the node's log was when the API
/// server came back, in bytes.
fn runs_without_an_api_server(cluster: &Cluster, daemons: &mut Daemons<'_>, away: Duration) -> usize {
    let web = "-n sample get pods -l app=web -o jsonpath={.items[0].metadata.name}";
    let pod = cluster.kubectl(web);
    let container = cluster.kubectl(&format!("-n sample get pod {pod} -o jsonpath={{.status.containerStatuses[0].containerID}}"));
    let container = container.rsplit('/').next().expect("an ID").to_owned();
    let ip = cluster.kubectl("-n sample get service web -o jsonpath={.spec.clusterIP}");
    let pod_ip = cluster.kubectl(&format!("-n sample get pod {pod} -o jsonpath={{.status.podIP}}"));
    daemons.kill(Daemon::ControlPlane);
    let until = Instant::now() + away;
    let known = containers(cluster);
    for pid in processes(&container) {
        // One of several may take the others along.
        let _ = Command::new("kill").args(["-9", &pid]).status();
    }
    eventually("the crashed container is restarted", || containers(cluster).difference(&known).next().is_some());
    eventually("it answers again", || cluster.get(&format!("{pod_ip}:8080")).is_some_and(|page| page.contains("Hello")));
    while Instant::now() < until {
        assert!(cluster.get(&format!("{ip}:80")).is_some_and(|page| page.contains("Hello")), "the Service answers");
        thread::sleep(Duration::from_millis(200));
    }
    let told = node_log(cluster).len();
    daemons.restart(Daemon::ControlPlane);
    daemons.await_ready();
    let restarts = format!("-n sample get pod {pod} -o jsonpath={{.status.containerStatuses[0].restartCount}}");
    eventually("the restart is told", || cluster.kubectl(&restarts) == "1");
    cluster.kubectl("-n sample wait --for=condition=Ready pod --all --timeout=120s");
    told
}

#[test]
fn parts_of_a_control_plane_run_apart_and_another_takes_over() {
    let cluster = Cluster::place();
    let _apiserver = cluster.daemon("control-plane", &["--components=apiserver"]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    eventually("the components have kubeconfigs", || cluster.path("scheduler.kubeconfig").exists());
    let controllers = |place| cluster.daemon_beside(place, "control-plane", "controller-manager.kubeconfig", &["--components=controllers"]);
    let leader = controllers("-a");
    let holder = || {
        let lease = "-n kube-system get lease kube-controller-manager -o jsonpath={.spec.holderIdentity}";
        text(&cluster.kubectl_output(lease).stdout)
    };
    eventually("the first leads", || !holder().is_empty());
    let first = holder();
    let _other = controllers("-b");
    let _scheduler = cluster.daemon_beside("-s", "control-plane", "scheduler.kubeconfig", &["--components=scheduler"]);
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
    drop(leader);
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
    let node = cluster.daemon("node", &["--standalone"]);
    let web = |ids: &BTreeSet<String>| ids.iter().find(|id| processes(id).iter().any(|pid| comm(pid).contains("web"))).cloned();
    eventually("the pod's containers run", || web(&containers(&cluster)).is_some());
    let first = containers(&cluster);
    drop(node);
    let web = web(&first).expect("the container runs on without the daemon");
    let node = cluster.daemon("node", &["--standalone"]);
    for pid in processes(&web) {
        // It may be gone already.
        let _ = Command::new("kill").args(["-9", &pid]).status();
    }
    eventually("the crashed container is restarted", || containers(&cluster).difference(&first).next().is_some());
    assert!(first.intersection(&containers(&cluster)).next().is_some(), "in the same sandbox");
    fs::remove_file(manifests.join("alone.yaml")).expect("removes");
    eventually("a pod whose manifest is gone is gone", || containers(&cluster).is_empty());
    drop(node);
}

fn comm(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
