//! The node's daemon is killed again and again while policies and Services change: what policies forbid never passes, and what is connected stays so.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1::Service, networking::v1::NetworkPolicy};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::{
    Status,
    service::{DeleteOptions, PatchType},
    stored::KubeObject,
};
use troupe_api_client::Api;

use crate::{
    churn::client,
    cluster::{Cluster, apply, eventually, eventually_within},
    pod_network::{Pod, Threads},
    processes::{Daemon, Daemons},
};

/// How many times policies and Services are made, changed and deleted; more with this variable.
const CHANGES_VARIABLE: &str = "TROUPE_CHANGES";
const CHANGES: u64 = 1000;
/// What chooses changes and moments; the same number chooses the same.
const SEED_VARIABLE: &str = "TROUPE_SEED";
/// Each has objects of its own.
const WRITERS: u64 = 4;
/// Between two changes of a writer, in milliseconds.
const PAUSE: u64 = 60;
/// What the kills must come to at least.
const FEWEST_KILLS: u64 = 3;

const NAMESPACE: &str = "contested";
/// Where the server gives back what it gets.
const ECHO: u16 = 7000;
/// Where it is sent what nobody may send it.
const DATAGRAMS: u16 = 7001;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a change must be in force.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn kills_under_changing_policies_open_and_cut_nothing() {
    let number = |variable: &str, default: u64| std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (changes, seed) = (number(CHANGES_VARIABLE, CHANGES), number(SEED_VARIABLE, u64::from(std::process::id())));
    println!("{SEED_VARIABLE}={seed} {CHANGES_VARIABLE}={changes}");
    let cluster = Cluster::place();
    let mut daemons = Daemons::new(&cluster);
    daemons.start();
    let scene = Scene::of(&cluster);
    let datagrams = Datagrams::begin(&scene);
    eventually("the stranger is heard before there are policies", || datagrams.heard() > 0);
    let connections = Connections::begin(&scene);
    apply(&cluster, FIXED);
    eventually_within(SOON, "the stranger is not heard any more", || datagrams.are_silent());

    let heard = datagrams.heard();
    let attempts = Attempts::begin(&scene);
    let began = Instant::now();
    let write = |mine: u64| Writer::begin(&cluster, &scene, mine, changes / WRITERS, seed + mine);
    let writers: Vec<JoinHandle<()>> = (0..WRITERS).map(write).collect();
    let kills = kill_while(&mut daemons, seed, || !writers.iter().all(JoinHandle::is_finished) && !connections.0.are_broken());
    for writer in writers {
        writer.join().expect("every change is taken");
    }
    let took = began.elapsed();
    daemons.await_ready();
    let [direct, by_service] = scene.addresses(ECHO);
    eventually_within(SOON, "whom policies allow is answered", || scene.client.connects(by_service));
    assert!(!scene.stranger.connects(direct), "and nobody else");

    let (attempts, echoes) = (attempts.0.end(), connections.0.end());
    assert_eq!(datagrams.heard(), heard, "packets that policies forbid got through");
    assert_eq!(attempts.faults, Vec::<String>::new(), "connections that policies forbid were made");
    assert_eq!(echoes.faults, Vec::<String>::new(), "connections were cut");
    assert!(kills >= FEWEST_KILLS, "only {kills} kills: the changes were over too soon");
    println!("{changes} changes of policies and Services in {:.1} s, the node's daemon killed {kills} times", took.as_secs_f64());
    println!("{} datagrams and {} connections got nowhere", datagrams.sent(), attempts.count);
    println!("{} echoes on two connections, the slowest after {:.0} ms", echoes.count, echoes.longest.as_secs_f64() * 1000.0);

    // The stranger would have been heard.
    cluster.kubectl(&format!("-n {NAMESPACE} delete networkpolicy --all"));
    eventually_within(SOON, "the stranger is heard again without policies", || datagrams.heard() > heard);
}

/// What stands all the time: the server is the client's alone.
const FIXED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: contested}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: clients, namespace: contested}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: server, namespace: contested}
spec:
  selector: {app: server}
  ports:
  - {name: echo, port: 7000}
  - {name: datagrams, port: 7001, protocol: UDP}
";

fn pod_manifest(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: \
         0\n  containers: [{{name: c, image: 'busybox:1.35', command: [sleep, infinity]}}]\n---\n"
    )
}

/// A server whom one pod may ask and another one may not.
struct Scene {
    server: Pod,
    client: Pod,
    stranger: Pod,
    /// The address of the server's Service.
    service: IpAddr,
}

impl Scene {
    fn of(cluster: &Cluster) -> Self {
        cluster.kubectl(&format!("create namespace {NAMESPACE}"));
        let names = ["server", "client", "stranger"];
        apply(cluster, &format!("{}{SERVICE}", names.map(pod_manifest).concat()));
        for name in names {
            cluster.kubectl(&format!("-n {NAMESPACE} wait --for=condition=Ready pod/{name} --timeout=180s"));
        }
        let [server, client, stranger] = names.map(|name| Pod::of(cluster, NAMESPACE, name));
        let service = cluster.kubectl(&format!("-n {NAMESPACE} get service server -o jsonpath={{.spec.clusterIP}}"));
        Scene { server, client, stranger, service: service.parse().expect("an address") }
    }

    /// Where the server is asked: at its own address and at its Service's.
    fn addresses(&self, port: u16) -> [SocketAddr; 2] {
        [self.server.ip, self.service].map(|ip| SocketAddr::new(ip, port))
    }
}

/// Datagrams from the stranger to the server all the time, each few from another port.
struct Datagrams {
    sent: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    _threads: Threads,
}

impl Datagrams {
    fn begin(scene: &Scene) -> Self {
        let (mut threads, sent, heard) = (Threads::new(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (server, count) = (scene.server.datagrams(DATAGRAMS), heard.clone());
        threads.repeat(move |_| {
            let arrived = server.recv_from(&mut [0; 16]).is_ok();
            count.fetch_add(u64::from(arrived), Ordering::Relaxed);
        });
        let (stranger, addresses, count) = (scene.stranger.clone(), scene.addresses(DATAGRAMS), sent.clone());
        threads.repeat(move |_| {
            let socket = stranger.datagrams(0);
            for address in addresses.into_iter().cycle().take(40) {
                // It is refused where the Service has just no endpoint.
                let sent = socket.send_to(b"open?", address).is_ok();
                count.fetch_add(u64::from(sent), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        Datagrams { sent, heard, _threads: threads }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many have come to the server.
    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// None comes for a while in which many are sent, and which is long enough to hear those that had come before.
    fn are_silent(&self) -> bool {
        let (heard, sent) = (self.heard(), self.sent());
        thread::sleep(Duration::from_secs(1));
        while self.sent() < sent + 200 {
            thread::sleep(Duration::from_millis(10));
        }
        self.heard() == heard
    }
}

/// Tries of the stranger to connect to the server.
struct Attempts(Threads);

impl Attempts {
    fn begin(scene: &Scene) -> Self {
        let (mut threads, began) = (Threads::new(), Instant::now());
        for address in scene.addresses(ECHO) {
            let stranger = scene.stranger.clone();
            threads.repeat(move |tally| {
                if stranger.connect(address, Duration::from_millis(200)).is_ok() {
                    tally.faults.push(format!("{address} after {:.3} s", began.elapsed().as_secs_f64()));
                }
                tally.count += 1;
            });
        }
        Attempts(threads)
    }
}

/// Connections of the client to the server that were there before all policies, and on which echoes come and go.
struct Connections(Threads);

impl Connections {
    fn begin(scene: &Scene) -> Self {
        let (mut threads, began) = (Threads::new(), Instant::now());
        threads.serve(scene.server.listener(ECHO));
        let [direct, by_service] = scene.addresses(ECHO);
        let connect = |address: SocketAddr| scene.client.connect(address, PATIENCE).expect("connects");
        eventually("the Service leads to the server", || scene.client.connects(by_service));
        for (address, stream) in [(direct, connect(direct)), (by_service, connect(by_service))] {
            stream.set_nodelay(true).expect("takes it");
            stream.set_read_timeout(Some(PATIENCE)).expect("takes it");
            threads.repeat(move |tally| {
                let asked = Instant::now();
                if let Err(error) = echoes(&stream, tally.count) {
                    tally.faults.push(format!("{address} after {:.3} s: {error}", began.elapsed().as_secs_f64()));
                }
                tally.longest = tally.longest.max(asked.elapsed());
                tally.count += 1;
                thread::sleep(Duration::from_millis(5));
            });
        }
        Connections(threads)
    }
}

/// Sends a number and gets it back.
fn echoes(mut stream: &TcpStream, number: u64) -> io::Result<()> {
    let (sent, mut got) = (number.to_be_bytes(), [0; 8]);
    stream.write_all(&sent)?;
    stream.read_exact(&mut got)?;
    if got == sent { Ok(()) } else { Err(io::Error::other("it says something else")) }
}

/// Kills the node's daemon at random moments while something goes on, and starts it again some time later. Gives how often it ran when it was.
fn kill_while(daemons: &mut Daemons<'_>, seed: u64, goes_on: impl Fn() -> bool) -> u64 {
    let (mut random, mut kills) = (StdRng::seed_from_u64(seed), 0);
    while goes_on() {
        thread::sleep(Duration::from_millis(random.random_range(500..3000)));
        assert_eq!(daemons.fallen(), None);
        kills += u64::from(daemons.kill(Daemon::Node));
        thread::sleep(Duration::from_millis(random.random_range(0..1000)));
        daemons.restart(Daemon::Node);
    }
    kills
}

/// Makes, changes and deletes policies and Services of its own, and changes those that stand.
struct Writer {
    policies: Api<NetworkPolicy>,
    services: Api<Service>,
    mine: u64,
    stranger: IpAddr,
    random: StdRng,
    existing: BTreeSet<String>,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Make,
    Change,
    Delete,
}

impl Writer {
    fn begin(cluster: &Cluster, scene: &Scene, mine: u64, changes: u64, seed: u64) -> JoinHandle<()> {
        let (kubeconfig, stranger) = (cluster.kubeconfig(), scene.stranger.ip);
        cluster.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let client = client(kubeconfig, Vec::new());
                let (policies, services) = (client.namespaced(NAMESPACE), client.namespaced(NAMESPACE));
                let mut writer = Writer { policies, services, mine, stranger, random: StdRng::seed_from_u64(seed), existing: BTreeSet::new() };
                for _ in 0..changes {
                    writer.step().await;
                    let pause = PAUSE / 2 + writer.random.random_range(0..=PAUSE);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            });
        })
    }

    async fn step(&mut self) {
        let is_policy = self.random.random_bool(0.6);
        // The first writer has what stands, too, and never deletes it.
        let stands = self.mine == 0 && self.random.random_bool(0.2);
        let name = match (stands, is_policy) {
            (true, true) => "closed".to_owned(),
            (true, false) => "server".to_owned(),
            (false, true) => format!("policy-{}-{}", self.mine, self.random.random_range(0..4)),
            (false, false) => format!("service-{}-{}", self.mine, self.random.random_range(0..4)),
        };
        let step = match stands || self.existing.contains(&name) {
            false => Step::Make,
            true if stands || self.random.random_bool(0.7) => Step::Change,
            true => Step::Delete,
        };
        let spec = match (stands, is_policy) {
            (true, true) => self.closed(),
            (true, false) => self.server(),
            (false, true) => self.policy(),
            (false, false) => self.service(),
        };
        let taken = if is_policy { take(&self.policies, step, &name, spec).await } else { take(&self.services, step, &name, spec).await };
        taken.unwrap_or_else(|status| panic!("{step:?} of {name}: {status:?}"));
        if step == Step::Delete {
            self.existing.remove(&name);
        } else if !stands {
            self.existing.insert(name);
        }
    }

    /// The server stays closed to all but the client.
    fn closed(&mut self) -> Value {
        let client = json!([{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]);
        json!({"ingress": if self.random.random_bool(0.5) { client } else { Value::Null }})
    }

    /// The server keeps the ports that it is asked at.
    fn server(&mut self) -> Value {
        let mut ports = json!([{"name": "echo", "port": ECHO, "protocol": "TCP"}, {"name": "datagrams", "port": DATAGRAMS, "protocol": "UDP"}]);
        if self.random.random_bool(0.5) {
            let more = json!({"name": "more", "port": self.random.random_range(8000..8100), "protocol": "TCP"});
            ports.as_array_mut().expect("a list").push(more);
        }
        json!({"ports": ports, "internalTrafficPolicy": if self.random.random_bool(0.5) { "Local" } else { "Cluster" }})
    }

    /// A policy that lets others in, or at other ports, or holds the client to the server.
    fn policy(&mut self) -> Value {
        let app = |name: &str| json!({"podSelector": {"matchLabels": {"app": name}}});
        let all_or_server = if self.random.random_bool(0.5) { json!({"app": "server"}) } else { Value::Null };
        let ingress = match self.random.random_range(0..6) {
            0 => json!([{"from": [app("client")]}]),
            1 => json!([{"from": [{"ipBlock": {"cidr": "10.244.0.0/16", "except": [format!("{}/32", self.stranger)]}}]}]),
            2 => json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "nobody"}}}]}]),
            3 => json!([{"ports": [{"port": 9000, "endPort": self.random.random_range(9000..9999)}]}]),
            4 => json!([{"from": [{"podSelector": {}}], "ports": [{"port": "unnamed"}, {"port": 132, "protocol": "SCTP"}]}]),
            _ => {
                let egress = json!([{"to": [app("server")]}]);
                return json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "ingress": null, "egress": egress});
            }
        };
        json!({"podSelector": {"matchLabels": all_or_server}, "policyTypes": ["Ingress"], "ingress": ingress, "egress": null})
    }

    /// A further Service, with endpoints or without.
    fn service(&mut self) -> Value {
        let app = if self.random.random_bool(0.7) { "server" } else { "nobody" };
        let port = self.random.random_range(80..90);
        json!({"type": "NodePort", "selector": {"app": app}, "ports": [{"port": port, "targetPort": ECHO}]})
    }
}

async fn take<K: KubeObject>(api: &Api<K>, step: Step, name: &str, spec: Value) -> Result<(), Status> {
    match step {
        Step::Make => {
            let object: K = serde_json::from_value(json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})).expect("an object");
            api.create(&object).await.map(drop)
        }
        Step::Change => api.patch(name, "", PatchType::Merge, &json!({"spec": spec})).await.map(drop),
        Step::Delete => api.delete(name, DeleteOptions::default()).await,
    }
}
