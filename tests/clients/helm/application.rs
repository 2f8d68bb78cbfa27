//! A chart as charts of applications are, with a volume, autoscaling, a disruption budget and a load balancer, on a cluster on which
//! nothing else is installed: it serves, scales under load and down again, and outlives the eviction of its pods.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};
use troupe_net::netns;

use super::Helm;
use crate::cluster::{Cluster, eventually, eventually_within, run, text};

const NAMESPACE: &str = "shop";
const NAME: &str = "shop-application";
const POOL: &str = "198.51.100.240-198.51.100.241";
const EVERYTHING: &str = "deployments,replicasets,pods,jobs,services,endpoints,endpointslices,secrets,configmaps,serviceaccounts,\
    persistentvolumeclaims,horizontalpodautoscalers,poddisruptionbudgets";

pub fn scales_and_keeps_its_data() {
    let cluster = Cluster::place();
    cluster.start_with(&["--load-balancer-pool", POOL]);
    let helm = Helm::of(&cluster, NAMESPACE, "application");
    cluster.kubectl(&format!("create namespace {NAMESPACE}"));
    cluster.eventually_has("serviceaccount/default", NAMESPACE);
    cluster.eventually_has("configmap/kube-root-ca.crt", NAMESPACE);
    let before = left(&cluster);
    helm.run("install shop CHART --wait --timeout 180s");
    let address = cluster.kubectl(&format!("-n {NAMESPACE} get service {NAME} -o jsonpath={{.status.loadBalancer.ingress[0].ip}}"));
    assert_eq!(address, "198.51.100.240");
    let visitor = Visitor::of(&cluster, &address);
    eventually("it serves at its address", || visitor.get("/").is_some_and(|page| page == "welcome\n"));
    let tested = helm.run("test shop --timeout 120s");
    assert!(tested.contains("Phase:          Succeeded"), "{tested}");

    follows_the_load(&cluster, &visitor);
    outlives_its_pods(&cluster, &visitor);

    helm.run("uninstall shop --wait --timeout 120s");
    eventually("nothing of it is left in the namespace", || left(&cluster) == before);
    eventually("no volume is left", || cluster.kubectl("get persistentvolumes -o name").is_empty() && volumes(&cluster).is_empty());
    eventually("its address is nobody's", || !links(&cluster).contains(&address));
    eventually("no rules of it are left", || !cluster.rules().contains(NAME));
    assert_eq!(visitor.get("/"), None);
    cluster.kubectl(&format!("delete namespace {NAMESPACE} --timeout=120s"));
}

/// More pods while there is much to do, and as few as are allowed when there is not.
fn follows_the_load(cluster: &Cluster, visitor: &Visitor) {
    let load = visitor.again_and_again(4, Duration::ZERO, "/cgi-bin/work");
    eventually_within(Duration::from_secs(200), "it scales up", || serving(cluster).len() > 2);
    let reasons = || cluster.kubectl(&format!("-n {NAMESPACE} get hpa {NAME} -o jsonpath={{.status.conditions[*].reason}}"));
    eventually("the autoscaler tells by what it scales", || reasons().contains("ValidMetricFound"));
    load.end();
    let replicas = || cluster.kubectl(&format!("-n {NAMESPACE} get deployment {NAME} -o jsonpath={{.spec.replicas}}"));
    eventually_within(Duration::from_secs(200), "it scales down", || replicas() == "2" && pods(cluster).len() == 2 && serving(cluster).len() == 2);
}

/// Its pods are evicted one after the other, as its budget has it. Nobody misses them, and nothing that they wrote is lost.
fn outlives_its_pods(cluster: &Cluster, visitor: &Visitor) {
    let count = || visitor.get("/cgi-bin/visit").and_then(|page| page.trim().parse::<usize>().ok());
    let visits = count().expect("it writes");
    let written = fs::read_to_string(volume(cluster).join("visits")).expect("the file is on the node");
    assert_eq!(written.lines().count(), visits);

    let guests = visitor.again_and_again(1, Duration::from_millis(100), "/");
    let mut evicted = BTreeSet::new();
    for pod in serving(cluster) {
        let other = serving(cluster).into_iter().find(|other| *other != pod).expect("there are two");
        eventually("the budget allows it", || evict(cluster, &pod).is_ok());
        evicted.insert(pod.clone());
        // The one in its place is ready some seconds after it has begun.
        let refused = evict(cluster, &other).expect_err("the next one is not ready");
        assert!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{refused}");
        eventually("it is replaced", || pods(cluster).len() == 2 && serving(cluster).len() == 2 && !pods(cluster).contains(&pod));
    }
    assert!(evicted.is_disjoint(&pods(cluster)), "all are others now");
    let (asked, missed) = guests.end();
    assert!(asked > 20 && missed == 0, "{missed} of {asked} requests were not answered");

    assert_eq!(count(), Some(visits + 1), "what was written before is there");
    let written = fs::read_to_string(volume(cluster).join("visits")).expect("the file is on the node");
    let hosts: BTreeSet<String> = written.lines().map(str::to_owned).collect();
    assert!(!hosts.is_disjoint(&evicted), "{hosts:?}");
}

/// # Errors
/// Why it may not be.
fn evict(cluster: &Cluster, pod: &str) -> Result<(), String> {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}});
    let file = cluster.path("eviction.json");
    fs::write(&file, eviction.to_string()).expect("writes");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
    let output = cluster.kubectl_output(&format!("create --raw {path} -f {}", file.display()));
    if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
}

fn items(cluster: &Cluster, what: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&cluster.kubectl(&format!("-n {NAMESPACE} get {what} -o json"))).expect("JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// All pods, also such that go.
fn pods(cluster: &Cluster) -> BTreeSet<String> {
    items(cluster, "pods").iter().map(name).collect()
}

/// The pods that are ready and stay.
fn serving(cluster: &Cluster) -> BTreeSet<String> {
    let is_ready = |pod: &Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let all = items(cluster, "pods");
    all.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod)).map(name).collect()
}

/// The directory of the claim's volume on the node.
fn volume(cluster: &Cluster) -> PathBuf {
    let volume = cluster.kubectl(&format!("-n {NAMESPACE} get pvc {NAME} -o jsonpath={{.spec.volumeName}}"));
    cluster.kubectl(&format!("get pv {volume} -o jsonpath={{.spec.local.path}}")).into()
}

/// All directories of volumes that were made on the node.
fn volumes(cluster: &Cluster) -> Vec<PathBuf> {
    let read = fs::read_dir(cluster.path("data").join("volumes"));
    read.map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect()).unwrap_or_default()
}

/// All that the chart could leave behind in its namespace.
fn left(cluster: &Cluster) -> String {
    cluster.kubectl(&format!("-n {NAMESPACE} get {EVERYTHING} -o name"))
}

fn links(cluster: &Cluster) -> String {
    text(&cluster.inside("ip").args(["-o", "address"]).output().expect("ip runs").stdout)
}

/// A machine outside of the cluster that reaches it through a router; gone when dropped.
#[derive(Clone)]
struct Visitor {
    place: Arc<Place>,
    address: SocketAddr,
}

struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = netns::delete(&self.0);
    }
}

impl Visitor {
    /// One that visits port 80 of an address.
    fn of(cluster: &Cluster, address: &str) -> Self {
        let (here, there) = (format!("{}-visitor", cluster.namespace()), cluster.namespace());
        let ip = |words: &str| run("ip", &words.split(' ').collect::<Vec<_>>());
        ip(&format!("netns add {here}"));
        let place = Arc::new(Place(here.clone()));
        ip(&format!("-n {there} link add visitors type veth peer name eth0 netns {here}"));
        ip(&format!("-n {there} address add 203.0.113.2/24 dev visitors"));
        ip(&format!("-n {there} link set visitors up"));
        ip(&format!("-n {here} address add 203.0.113.9/24 dev eth0"));
        ip(&format!("-n {here} link set eth0 up"));
        ip(&format!("-n {here} route add default via 203.0.113.2"));
        Visitor { place, address: format!("{address}:80").parse().expect("an address") }
    }

    /// What a page says, if it is answered with 200 within five seconds.
    fn get(&self, path: &str) -> Option<String> {
        let ask = || {
            let patience = Duration::from_secs(5);
            let mut tcp = TcpStream::connect_timeout(&self.address, patience).ok()?;
            tcp.set_read_timeout(Some(patience)).ok()?;
            write!(tcp, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
        };
        netns::run(&netns::path(&self.place.0), ask).expect("the namespace exists")
    }

    /// So many visitors at once, each with a pause after an answer.
    fn again_and_again(&self, visitors: usize, pause: Duration, path: &'static str) -> Visits {
        let (over, asked, missed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let visit = |_| {
            let (visitor, over, asked, missed) = (self.clone(), over.clone(), asked.clone(), missed.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = visitor.get(path);
                    asked.fetch_add(1, Ordering::Relaxed);
                    missed.fetch_add(usize::from(answer.is_none()), Ordering::Relaxed);
                    std::thread::sleep(pause);
                }
            })
        };
        let visitors = (0..visitors).map(visit).collect();
        Visits { over, asked, missed, visitors }
    }
}

/// Visits that go on until they are ended, or dropped.
struct Visits {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    missed: Arc<AtomicUsize>,
    visitors: Vec<JoinHandle<()>>,
}

impl Visits {
    /// How many there were, and how many were not answered.
    fn end(mut self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        self.visitors.drain(..).for_each(|visitor| visitor.join().expect("no panic"));
        (self.asked.load(Ordering::Relaxed), self.missed.load(Ordering::Relaxed))
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
