//! Clients that create, change and delete objects all the time and keep a ledger of it. Each object has one writer.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::{
    Status,
    service::{DeleteOptions, PatchType, UserInfo},
    stored::KubeObject,
};
use troupe_api_client::{
    Api, Client,
    remote::{RemoteApi, RemoteOptions},
};

use crate::{
    cluster::Cluster,
    ledger::{Ledger, State},
};

/// The namespace in which all of it happens.
pub const NAMESPACE: &str = "churn";
/// The state of a pod that was deleted and is still there.
pub const LEAVING: &str = "leaving";
const FINALLY: Duration = Duration::from_secs(180);

/// A kind of object that is churned.
trait Churned: KubeObject + Send + Sync + 'static {
    const OBJECTS: usize;
    /// Between two writes, in milliseconds.
    const PAUSE: u64;

    /// The states an object takes.
    fn state(random: &mut StdRng) -> String;
    fn manifest(name: &str, state: &str) -> Value;
    /// The patch to another state; `None` for kinds that are only made and deleted.
    fn change(state: &str) -> Option<Value>;
    fn read(&self) -> String;
}

impl Churned for ConfigMap {
    const OBJECTS: usize = 30;
    const PAUSE: u64 = 30;

    fn state(random: &mut StdRng) -> String {
        random.random::<u64>().to_string()
    }

    fn manifest(name: &str, state: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"v": state}})
    }

    fn change(state: &str) -> Option<Value> {
        Some(json!({"data": {"v": state}}))
    }

    fn read(&self) -> String {
        self.data.as_ref().and_then(|data| data.get("v")).cloned().unwrap_or_default()
    }
}

/// The pod that deployments and the pods on their own have.
fn pod_spec() -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox:1.35", "command": ["sleep", "3600"],
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "memory", "mountPath": "/memory"}]}],
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}],
    })
}

impl Churned for Deployment {
    const OBJECTS: usize = 2;
    const PAUSE: u64 = 2500;

    fn state(random: &mut StdRng) -> String {
        random.random_range(1..=3).to_string()
    }

    fn manifest(name: &str, state: &str) -> Value {
        let labels = json!({"app": name});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"replicas": state.parse::<i32>().expect("a number"), "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod_spec()}},
        })
    }

    fn change(state: &str) -> Option<Value> {
        Some(json!({"spec": {"replicas": state.parse::<i32>().expect("a number")}}))
    }

    fn read(&self) -> String {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default().to_string()
    }
}

impl Churned for Service {
    const OBJECTS: usize = 6;
    const PAUSE: u64 = 300;

    fn state(_: &mut StdRng) -> String {
        "made".into()
    }

    fn manifest(name: &str, _: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"type": "NodePort", "selector": {"app": "deployment0"}, "ports": [{"port": 80, "targetPort": 8080}]},
        })
    }

    fn change(_: &str) -> Option<Value> {
        None
    }

    fn read(&self) -> String {
        "made".into()
    }
}

impl Churned for Pod {
    const OBJECTS: usize = 3;
    const PAUSE: u64 = 1500;

    fn state(_: &mut StdRng) -> String {
        "made".into()
    }

    fn manifest(name: &str, _: &str) -> Value {
        let mut spec = pod_spec();
        spec["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 20000 + u32::from(name.as_bytes()[name.len() - 1])}]);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
    }

    fn change(_: &str) -> Option<Value> {
        None
    }

    fn read(&self) -> String {
        // One that is deleted goes when the node is done with it.
        if self.metadata.deletion_timestamp.is_some() { LEAVING.into() } else { "made".into() }
    }
}

/// One writer of objects of one kind.
struct Writer<K> {
    api: Api<K>,
    ledger: Ledger,
    random: StdRng,
    /// Writes that were acknowledged, for others to see.
    acknowledged: Arc<AtomicUsize>,
}

impl<K: Churned> Writer<K> {
    async fn run(mut self, over: Arc<AtomicBool>) -> Ledger {
        let mut pause = 0;
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let name = format!("{}{}", K::KIND.to_lowercase(), self.random.random_range(0..K::OBJECTS));
            pause = match self.step(&name).await {
                Ok(()) => K::PAUSE / 2 + self.random.random_range(0..=K::PAUSE),
                // Nobody answers at the moment.
                Err(()) => 100,
            };
        }
        self.settle().await;
        self.ledger
    }

    /// One write, or a read where it is not certain what there is.
    async fn step(&mut self, name: &str) -> Result<(), ()> {
        let Some(known) = self.ledger.known(name) else { return self.look(name).await };
        let next = K::state(&mut self.random);
        match (known, K::change(&next)) {
            (None, _) => {
                let object: K = serde_json::from_value(K::manifest(name, &next)).expect("an object");
                let created = self.api.create(&object).await.map(drop);
                self.note(name, Some(next), created)
            }
            // A pod that ends keeps its name for a while.
            (Some(state), _) if state == LEAVING => self.look(name).await,
            (Some(_), Some(patch)) if self.random.random_range(0..4) > 0 => {
                let patched = self.api.patch(name, "", PatchType::Merge, &patch).await.map(drop);
                self.note(name, Some(next), patched)
            }
            (Some(_), _) => {
                let deleted = self.api.delete(name, DeleteOptions::default()).await;
                let left = if K::KIND == "Pod" { Some(LEAVING.into()) } else { None };
                self.note(name, left, deleted)
            }
        }
    }

    fn note(&mut self, name: &str, state: State, result: Result<(), Status>) -> Result<(), ()> {
        match result {
            Ok(()) => {
                self.ledger.acknowledge(name, state);
                self.acknowledged.store(self.ledger.acknowledged, Ordering::Relaxed);
                Ok(())
            }
            Err(status) => {
                // 4xx are answers too, and contradict what is known: the next look tells whether that was right.
                self.ledger.doubt(name, state);
                if status.code < 500 { Ok(()) } else { Err(()) }
            }
        }
    }

    async fn look(&mut self, name: &str) -> Result<(), ()> {
        let found = self.api.get_opt(name).await.map_err(drop)?.map(|object| object.read());
        if found.is_none() && self.ledger.may_be(name, &Some(LEAVING.into())) {
            self.ledger.went_on(name, None);
        } else {
            self.ledger.observe(name, found).unwrap_or_else(|lost| panic!("{}: {lost}", K::KIND));
        }
        Ok(())
    }

    /// Leaves nothing in doubt, so that what is audited is audited in earnest.
    async fn settle(&mut self) {
        let deadline = tokio::time::Instant::now() + FINALLY;
        for number in 0..K::OBJECTS {
            let name = format!("{}{number}", K::KIND.to_lowercase());
            while self.look(&name).await.is_err() || self.ledger.may_be(&name, &Some(LEAVING.into())) {
                assert!(tokio::time::Instant::now() < deadline, "{name} cannot be read, or does not go");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// The churn while it goes on.
pub struct Churn {
    over: Arc<AtomicBool>,
    writers: Vec<(&'static str, JoinHandle<Ledger>)>,
    /// How many writes of each of them were acknowledged.
    acknowledged: Vec<Arc<AtomicUsize>>,
}

impl Churn {
    /// Begins it in its namespace, which is made. `servers` are where the API is, unless the kubeconfig says it.
    pub fn begin(cluster: &Cluster, servers: &[&str], seed: u64) -> Self {
        cluster.kubectl(&format!("create namespace {NAMESPACE}"));
        let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let mut churn = Churn { over, writers: Vec::new(), acknowledged: Vec::new() };
        churn.add::<ConfigMap>(cluster, &servers, seed);
        churn.add::<Deployment>(cluster, &servers, seed + 1);
        churn.add::<Service>(cluster, &servers, seed + 2);
        churn.add::<Pod>(cluster, &servers, seed + 3);
        churn
    }

    fn add<K: Churned>(&mut self, cluster: &Cluster, servers: &[String], seed: u64) {
        let (kubeconfig, servers, over) = (cluster.kubeconfig(), servers.to_vec(), self.over.clone());
        let acknowledged = Arc::new(AtomicUsize::new(0));
        self.acknowledged.push(acknowledged.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let api = client(kubeconfig, servers).namespaced::<K>(NAMESPACE);
                Writer { api, ledger: Ledger::default(), random: StdRng::seed_from_u64(seed), acknowledged }.run(over).await
            })
        };
        self.writers.push((K::KIND, cluster.within(work)));
    }

    /// Whether a writer has found something wrong.
    pub fn is_broken(&self) -> bool {
        self.writers.iter().any(|(_, writer)| writer.is_finished())
    }

    /// How many writes of those who had the fewest were acknowledged.
    pub fn fewest(&self) -> usize {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// Ends it; gives the ledgers by kind.
    pub fn end(self) -> BTreeMap<&'static str, Ledger> {
        self.over.store(true, Ordering::Relaxed);
        self.writers.into_iter().map(|(kind, writer)| (kind, writer.join().expect("nothing that was acknowledged is lost"))).collect()
    }
}

/// A client with the administrator's credentials, on the runtime it is called on.
pub fn client(kubeconfig: PathBuf, servers: Vec<String>) -> Client {
    let options = RemoteOptions {
        servers,
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(15),
        ..RemoteOptions::new(kubeconfig)
    };
    let api = RemoteApi::new(options).expect("a usable kubeconfig");
    Client::new(Arc::new(api), Arc::new(UserInfo::default()), "churn")
}
