//! Two control planes as daemons on one etcd: what one is told the other knows, and either may be killed.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use serde_json::json;
use troupe_api::{
    Status,
    meta::Revision,
    service::{DeleteOptions, WatchOptions},
};
use troupe_api_client::{Api, Client, WatchEvent};

use crate::{
    churn::client,
    cluster::{Backend, Cluster, eventually, eventually_within, run, text},
    running::Running,
};

/// Addresses of the two, and what their files end in.
const SIDES: [Side; 2] = [Side { place: "", address: "198.51.100.2" }, Side { place: "-b", address: "198.51.100.12" }];
const LEASES: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
/// A lease lasts 15 s; whoever waits for it looks every two, and more or less a second. The rest is a busy machine's.
const TAKE_OVER: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
struct Side {
    place: &'static str,
    address: &'static str,
}

impl Side {
    fn server(self) -> String {
        format!("https://{}:6443", self.address)
    }

    fn kubeconfig(self) -> String {
        if self.place.is_empty() { "admin.kubeconfig".into() } else { format!("{}/admin.kubeconfig", &self.place[1..]) }
    }
}

/// Two control planes and a node that knows both.
struct Pair {
    // The daemons end before the cluster is cleaned away.
    sides: [Option<Running>; 2],
    _node: Option<Running>,
    cluster: Cluster,
}

impl Pair {
    fn start() -> Self {
        let cluster = Cluster::place_on(Backend::Etcd);
        run("ip", &["-n", cluster.namespace(), "address", "add", &format!("{}/24", SIDES[1].address), "dev", "uplink"]);
        fs::create_dir(cluster.path("b")).expect("a folder");
        let mut pair = Pair { cluster, sides: [None, None], _node: None };
        // The first makes the certificates, which both use.
        for side in [0, 1] {
            pair.start_side(side);
            pair.await_side(side);
            for lease in LEASES {
                eventually(&format!("the first holds {lease}"), || pair.holder(side, lease).is_some_and(|holder| holder == pair.identity(0)));
            }
        }
        let servers = SIDES.map(Side::server).join(",");
        pair._node = Some(pair.cluster.daemon("node", &["--api-servers", &servers]));
        eventually("the node is Ready", || text(&pair.cluster.kubectl_output("get nodes").stdout).contains(" Ready "));
        pair
    }

    fn start_side(&mut self, side: usize) {
        let Side { place, address } = SIDES[side];
        let certificates = self.cluster.path("data/pki");
        let names = SIDES.map(|side| side.address).join(",");
        let flags =
            ["--bind-address", address, "--advertise-address", address, "--cert-sans", &names, "--certificates-dir", &certificates.to_string_lossy()];
        self.sides[side] = Some(self.cluster.daemon_beside(place, "control-plane", &SIDES[side].kubeconfig(), &flags));
    }

    fn await_side(&self, side: usize) {
        eventually(&format!("side {side} is ready"), || self.kubectl_output(side, "get --raw /readyz").0);
    }

    fn kill_side(&mut self, side: usize) {
        drop(self.sides[side].take().expect("it runs"));
    }

    /// kubectl through one side; whether it succeeded, and what it printed, or else why not.
    fn kubectl_output(&self, side: usize, words: &str) -> (bool, String) {
        let mut command = self.cluster.inside("kubectl");
        command.env("KUBECONFIG", self.cluster.path(&SIDES[side].kubeconfig())).env("HOME", self.cluster.dir()).args(words.split_whitespace());
        let output = command.output().expect("kubectl runs");
        // Warnings come on the other stream.
        let said = if output.status.success() { &output.stdout } else { &output.stderr };
        (output.status.success(), text(said))
    }

    fn kubectl(&self, side: usize, words: &str) -> String {
        let (succeeded, said) = self.kubectl_output(side, words);
        assert!(succeeded, "kubectl {words} at side {side}: {said}");
        said
    }

    /// Who holds a lease, once there is one.
    fn holder(&self, side: usize, lease: &str) -> Option<String> {
        let (is_there, holder) = self.kubectl_output(side, &format!("-n kube-system get lease {lease} -o jsonpath={{.spec.holderIdentity}}"));
        is_there.then_some(holder)
    }

    /// The name under which a side stands.
    fn identity(&self, side: usize) -> String {
        fs::read_to_string(self.cluster.path(&format!("data{}/leader-identity", SIDES[side].place))).expect("a name").trim().to_owned()
    }

    /// Runs `work` on a thread in the cluster's network with a client of each side.
    fn with_clients<T, F>(&self, work: impl FnOnce([Client; 2]) -> F + Send + 'static) -> thread::JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let kubeconfig = self.cluster.kubeconfig();
        self.cluster.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move { work(SIDES.map(|side| client(kubeconfig.clone(), vec![side.server()]))).await })
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for log in ["control-plane.log", "control-plane-b.log", "node.log"] {
            if thread::panicking() {
                let whole = fs::read_to_string(self.cluster.path(log)).unwrap_or_default();
                let lines: Vec<&str> = whole.lines().collect();
                eprintln!("--- the end of {log}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "data": {"v": value}})).expect("a config map")
}

fn value(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get("v")).map_or("", String::as_str)
}

#[test]
fn two_control_planes_on_one_etcd_are_one() {
    let mut pair = Pair::start();
    let endpoints = "get endpoints kubernetes -o jsonpath={.subsets[*].addresses[*].ip}";
    eventually("both are named to clients in the cluster", || pair.kubectl(0, endpoints) == SIDES.map(|side| side.address).join(" "));
    for lease in LEASES {
        assert_eq!(pair.holder(0, lease), Some(pair.identity(0)), "the first that stood leads");
    }
    let crossed = pair.with_clients(writes_are_read_on_the_other_side);
    crossed.join().expect("every write is read on the other side");
    let raced = pair.with_clients(services_race);
    raced.join().expect("nothing is given out twice");
    pair.kubectl(1, "create deployment before --image=busybox:1.35 --replicas=2 -- sleep 3600");
    pair.kubectl(1, "rollout status deployment/before --timeout=120s");
    let running = "get pods -l app=before -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let containers = pair.kubectl(1, running);
    the_other_takes_over(&mut pair);
    assert_eq!(pair.kubectl(1, running), containers, "no container is touched");
    eventually("only one is named to clients in the cluster", || pair.kubectl(1, endpoints) == SIDES[1].address);
    pair.start_side(0);
    pair.await_side(0);
    eventually("both are named again", || pair.kubectl(1, endpoints) == SIDES.map(|side| side.address).join(" "));
    assert_eq!(pair.kubectl(0, running), containers);
    for lease in LEASES {
        assert_eq!(pair.holder(0, lease), Some(pair.identity(1)), "who leads goes on leading");
    }
    reads_outlast_a_restart_of_etcd(&pair);
}

async fn writes_are_read_on_the_other_side(clients: [Client; 2]) {
    let apis = clients.map(|client| client.namespaced::<ConfigMap>("default"));
    for round in 0..50 {
        let (here, there) = (&apis[round % 2], &apis[(round + 1) % 2]);
        let name = format!("crossed{round}");
        here.create(&config_map(&name, "1")).await.expect("creates");
        assert_eq!(value(&there.get(&name).await.expect("is there")), "1");
        there.update(&config_map(&name, "2")).await.expect("updates");
        assert_eq!(value(&here.get(&name).await.expect("is there")), "2");
        here.delete(&name, DeleteOptions::default()).await.expect("deletes");
        assert!(there.get_opt(&name).await.expect("answers").is_none());
    }
}

/// Services made on both sides at once get addresses and ports of their own.
async fn services_race(clients: [Client; 2]) {
    let service = |name: &str| -> Service {
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        serde_json::from_value(object).expect("a service")
    };
    let apis = clients.map(|client| client.namespaced::<Service>("default"));
    let made = join_all((0..60).map(|n| {
        let (api, wanted) = (apis[n % 2].clone(), service(&format!("raced{n}")));
        async move { api.create(&wanted).await.expect("creates") }
    }))
    .await;
    let specs: Vec<_> = made.iter().filter_map(|service| service.spec.as_ref()).collect();
    let addresses: BTreeSet<_> = specs.iter().filter_map(|spec| spec.cluster_ip.clone()).collect();
    let ports: BTreeSet<_> = specs.iter().flat_map(|spec| spec.ports.iter().flatten()).filter_map(|port| port.node_port).collect();
    assert_eq!((addresses.len(), ports.len()), (60, 60));
    for service in made {
        apis[0].delete(service.metadata.name.as_deref().expect("a name"), DeleteOptions::default()).await.expect("deletes");
    }
}

/// The leader is killed while a watch at its side goes on: the other side leads in time, and the watch is resumed there.
fn the_other_takes_over(pair: &mut Pair) {
    let (begun, watching) = std::sync::mpsc::channel();
    let (killed, is_killed) = tokio::sync::oneshot::channel();
    let watched = pair.with_clients(async move |clients| a_watch_goes_on(clients, begun, is_killed).await);
    watching.recv().expect("the watch has begun");
    pair.kill_side(0);
    let at = Instant::now();
    killed.send(()).expect("it is waited for");
    pair.kubectl(1, "create deployment after --image=busybox:1.35 --replicas=2 -- sleep 3600");
    for lease in LEASES {
        eventually_within(TAKE_OVER, &format!("the other holds {lease}"), || pair.holder(1, lease) == Some(pair.identity(1)));
        assert!(at.elapsed() < TAKE_OVER, "{lease} was taken over after {:?}", at.elapsed());
    }
    println!("both leases were taken over within {:.1} s", at.elapsed().as_secs_f64());
    pair.kubectl(1, "rollout status deployment/after --timeout=120s");
    assert!(pair.kubectl(1, "get nodes").contains(" Ready "), "the node goes on at the other side");
    watched.join().expect("nothing is missing or doubled");
}

async fn next(watch: &mut (impl StreamExt<Item = WatchEvent<ConfigMap>> + Unpin)) -> Option<(Revision, String)> {
    loop {
        match watch.next().await? {
            WatchEvent::Applied { object, stored, .. } => return Some((stored.revision, value(&object).to_owned())),
            WatchEvent::Bookmark { .. } | WatchEvent::Deleted { .. } => {}
            WatchEvent::End(_) => return None,
        }
    }
}

async fn a_watch_goes_on(clients: [Client; 2], begun: std::sync::mpsc::Sender<()>, killed: tokio::sync::oneshot::Receiver<()>) {
    const VALUES: usize = 40;
    let [here, there] = clients.map(|client| client.namespaced::<ConfigMap>("default"));
    let made = there.create(&config_map("watched", "0")).await.expect("creates");
    let from: Revision = made.metadata.resource_version.as_deref().expect("a revision").parse().expect("a revision");
    let follow = |seen: Revision| WatchOptions { resource_version: Some(seen), ..WatchOptions::default() };
    let mut watch = here.watch(follow(from)).await.expect("watches");
    for n in 1..=VALUES / 2 {
        there.update(&config_map("watched", &n.to_string())).await.expect("updates");
    }
    let (mut seen, first) = next(&mut watch).await.expect("an event");
    let mut values = vec![first];
    begun.send(()).expect("it is waited for");
    killed.await.expect("the server is killed");
    // What was on its way may still come.
    while let Ok(Some((revision, value))) = tokio::time::timeout(Duration::from_secs(5), next(&mut watch)).await {
        seen = revision;
        values.push(value);
    }
    for n in VALUES / 2 + 1..=VALUES {
        there.update(&config_map("watched", &n.to_string())).await.expect("updates");
    }
    let mut watch = there.watch(follow(seen)).await.expect("watches");
    while values.len() < VALUES {
        let event = tokio::time::timeout(Duration::from_secs(60), next(&mut watch)).await.expect("in time");
        values.push(event.expect("an event").1);
    }
    assert_eq!(values, (1..=VALUES).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Reads that meet an etcd that is away wait for it; and then all is as it was.
fn reads_outlast_a_restart_of_etcd(pair: &Pair) {
    pair.kubectl(0, "create configmap kept --from-literal=v=1");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reading = pair.with_clients(async move |clients| {
        let apis = clients.map(|client| client.namespaced::<ConfigMap>("default"));
        let mut reads = 0;
        while stopped.try_recv().is_err() {
            for api in &apis {
                read(api).await.unwrap_or_else(|status| panic!("after {reads} reads: {status}"));
                reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        reads
    });
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(500));
        pair.cluster.etcd().kill();
        thread::sleep(Duration::from_millis(2500));
        pair.cluster.etcd().restart();
        eventually("writes are taken again", || pair.kubectl_output(1, "annotate configmap kept at=now --overwrite").0);
    }
    stop.send(()).expect("it reads");
    println!("{} reads were answered while etcd came and went", reading.join().expect("no read fails"));
    for side in [0, 1] {
        assert_eq!(pair.kubectl(side, "get configmap kept -o jsonpath={.data.v}"), "1");
    }
    let ended = |child: &Running| !Command::new("kill").args(["-0", &child.id().to_string()]).status().expect("kill runs").success();
    assert!(!pair.sides.iter().flatten().any(ended), "both live");
}

async fn read(api: &Api<ConfigMap>) -> Result<(), Status> {
    let map = api.get("kept").await?;
    assert_eq!(value(&map), "1");
    Ok(())
}
