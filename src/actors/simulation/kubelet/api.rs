//! The API as a kubelet meets it: pods that it sees late, and writes that fail or whose replies get lost. It is no API server: of objects it
//! has pods alone, it takes whatever is well-formed, and deletes as the API server does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::SignedDuration;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    node::v1::RuntimeClass,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, Clock, time::format_time},
    status::{Reason, Status},
};
use troupe_cri::names::PodIdentity;

use super::{judge::Judge, runtime::FaultyRuntime};
use crate::{
    kubelet::{
        cluster::{Cluster, Token},
        patch::merged,
        volumes::payload::TokenRequest,
    },
    pod_phase::is_finished,
    simulation::SimulatedClock,
};

/// How late a kubelet sees changes, mostly and now and then.
const LAG: Duration = Duration::from_millis(600);
const LONG_LAG: Duration = Duration::from_secs(12);
/// How long a call takes at most.
const SLOW: Duration = Duration::from_millis(800);
/// The seconds that containers have to end.
const GRACE: i64 = 3;

/// All pods by uid.
type Pods = Arc<Mutex<BTreeMap<String, Stored>>>;

#[derive(Clone)]
struct Stored {
    tree: Value,
    pod: Arc<Pod>,
}

impl Stored {
    fn new(tree: Value) -> Self {
        let pod = Arc::new(serde_json::from_value(tree.clone()).expect("a pod"));
        Stored { tree, pod }
    }
}

/// The pods as one kubelet process knows them.
#[derive(Default)]
pub struct View {
    known: Mutex<BTreeMap<String, Arc<Pod>>>,
    is_synced: AtomicBool,
}

impl View {
    /// All pods; `None` before they are known.
    pub fn all(&self) -> Option<Vec<Arc<Pod>>> {
        self.is_synced.load(Relaxed).then(|| self.known.lock().values().cloned().collect())
    }

    pub fn get(&self, uid: &str) -> Option<Arc<Pod>> {
        self.known.lock().get(uid).cloned()
    }

    /// Takes over what is true of a pod now; gives the pod if there is or was one.
    fn take_over(&self, uid: &str, pods: &Pods) -> Option<Arc<Pod>> {
        let now = pods.lock().get(uid).map(|stored| stored.pod.clone());
        let mut known = self.known.lock();
        match now {
            Some(pod) => {
                known.insert(uid.to_owned(), pod.clone());
                Some(pod)
            }
            None => known.remove(uid),
        }
    }
}

/// Hears of pods that changed.
pub type Tell = Arc<dyn Fn(PodIdentity) + Send + Sync>;

/// See the module. Share it by `Arc`.
pub struct SimulatedApi {
    pods: Pods,
    watch: Mutex<Option<(Arc<View>, Tell)>>,
    rng: Mutex<StdRng>,
    in_trouble: AtomicBool,
    clock: Arc<SimulatedClock>,
    runtime: Arc<FaultyRuntime>,
    judge: Arc<Judge>,
}

impl SimulatedApi {
    pub fn new(clock: Arc<SimulatedClock>, runtime: Arc<FaultyRuntime>, judge: Arc<Judge>, seed: u64) -> Self {
        let rng = Mutex::new(StdRng::seed_from_u64(seed ^ 0xa91));
        SimulatedApi { pods: Pods::default(), watch: Mutex::default(), rng, in_trouble: AtomicBool::new(false), clock, runtime, judge }
    }

    /// From now on calls fail and get lost, or not.
    pub fn misbehave(&self, in_trouble: bool) {
        self.in_trouble.store(in_trouble, Relaxed);
    }

    /// A kubelet follows the pods from now on, and the one before it no more. It knows them after a while.
    pub fn watch(&self, view: Arc<View>, tell: Tell) {
        *self.watch.lock() = Some((view.clone(), tell));
        let (pods, lag) = (self.pods.clone(), self.some_of(LAG * 3));
        tokio::spawn(async move {
            tokio::time::sleep(lag).await;
            let uids: BTreeSet<String> = pods.lock().keys().chain(view.known.lock().keys()).cloned().collect();
            uids.iter().for_each(|uid| drop(view.take_over(uid, &pods)));
            view.is_synced.store(true, Relaxed);
        });
    }

    /// Nobody follows the pods.
    pub fn end_watch(&self) {
        *self.watch.lock() = None;
    }

    /// Makes a pod; gives its uid.
    pub fn create(&self, name: &str, spec: &Value) -> String {
        let uid = format!("{name}-uid");
        let metadata = json!({"name": name, "namespace": "default", "uid": uid, "generation": 1, "creationTimestamp": format_time(self.clock.now())});
        let mut spec = spec.clone();
        spec["nodeName"] = "n1".into();
        spec["terminationGracePeriodSeconds"] = GRACE.into();
        let stored = Stored::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
        self.judge.made(&uid, stored.pod.spec.clone().unwrap_or_default());
        self.pods.lock().insert(uid.clone(), stored);
        self.changed(&uid);
        uid
    }

    /// Deletes a pod: at once if nobody is to wait for its kubelet, or it has ended, else its kubelet does it in the end.
    pub fn delete(&self, uid: &str, at_once: bool) {
        self.judge.deleted(uid);
        let mut pods = self.pods.lock();
        let Some(stored) = pods.get_mut(uid) else { return };
        if at_once || is_finished(&stored.pod) {
            pods.remove(uid);
        } else {
            let mut tree = stored.tree.clone();
            let end = self.clock.now().saturating_add(SignedDuration::from_secs(GRACE)).expect("simulations are short");
            tree["metadata"]["deletionTimestamp"] = format_time(end).into();
            tree["metadata"]["deletionGracePeriodSeconds"] = GRACE.into();
            *stored = Stored::new(tree);
        }
        drop(pods);
        self.changed(uid);
    }

    /// A pod as it is.
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().get(uid).map(|stored| stored.pod.clone())
    }

    /// How many pods there are.
    pub fn count(&self) -> usize {
        self.pods.lock().len()
    }

    fn comes(&self, probability: f64) -> bool {
        self.rng.lock().random_bool(probability)
    }

    fn some_of(&self, most: Duration) -> Duration {
        most.mul_f64(self.rng.lock().random_range(0.0..1.0))
    }

    /// Tells the kubelet of a pod that changed, after a while.
    fn changed(&self, uid: &str) {
        let watch = self.watch.lock().clone();
        let Some((view, tell)) = watch else { return };
        let lag = self.some_of(if self.comes(0.05) { LONG_LAG } else { LAG });
        let (pods, uid) = (self.pods.clone(), uid.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(lag).await;
            if let Some(pod) = view.take_over(&uid, &pods) {
                tell(PodIdentity::of(&pod));
            }
        });
    }

    async fn pause(&self) {
        if self.comes(0.3) {
            let pause = self.some_of(SLOW);
            tokio::time::sleep(pause).await;
        }
    }

    /// Carries a write out, or not.
    async fn disturbed(&self, write: impl Future<Output = Result<(), Status>> + Send) -> Result<(), Status> {
        if !self.in_trouble.load(Relaxed) {
            return write.await;
        }
        self.pause().await;
        if self.comes(0.1) {
            return Err(Status::unavailable("the network is parted, says the simulation"));
        }
        let done = write.await;
        self.pause().await;
        if self.comes(0.08) { Err(Status::timeout("the reply got lost, says the simulation")) } else { done }
    }

    async fn write_status(&self, uid: &str, patch: &Value) -> Result<(), Status> {
        let containers = self.runtime.containers(uid).await;
        self.merge(uid, patch).map(|phase| {
            self.judge.told(uid, &phase, &containers);
            self.changed(uid);
        })
    }

    /// Merges a patch into a pod; gives its phase then.
    fn merge(&self, uid: &str, patch: &Value) -> Result<String, Status> {
        let mut pods = self.pods.lock();
        let stored = pods.get_mut(uid).ok_or_else(|| Status::new(404, Reason::NotFound, format!("pod {uid} not found")))?;
        *stored = Stored::new(merged(stored.tree.clone(), patch));
        Ok(stored.pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default())
    }

    async fn remove(&self, uid: &str) -> Result<(), Status> {
        let containers = self.runtime.containers(uid).await;
        if self.pods.lock().remove(uid).is_some() {
            self.judge.leaves(uid, &containers);
            self.changed(uid);
        }
        Ok(())
    }
}

fn uid_of(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[async_trait]
impl Cluster for SimulatedApi {
    async fn config_map(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<ConfigMap>>, Status> {
        Ok(None)
    }

    async fn secret(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<Secret>>, Status> {
        Ok(None)
    }

    async fn service_account(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<ServiceAccount>>, Status> {
        Ok(None)
    }

    async fn runtime_class(&self, _name: &str) -> Result<Option<Arc<RuntimeClass>>, Status> {
        Ok(None)
    }

    async fn node(&self, _name: &str) -> Result<Option<Arc<Node>>, Status> {
        Ok(None)
    }

    async fn claim(&self, _namespace: &str, _name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, Status> {
        Ok(None)
    }

    async fn volume(&self, _name: &str) -> Result<Option<Arc<PersistentVolume>>, Status> {
        Ok(None)
    }

    async fn token(&self, _pod: &Pod, _request: &TokenRequest) -> Result<Token, Status> {
        Err(Status::internal("no pod here has a token"))
    }

    fn services(&self, _namespace: &str) -> Vec<Arc<Service>> {
        Vec::new()
    }

    async fn patch_status(&self, pod: &Pod, patch: &Value, _cause: Cause) -> Result<(), Status> {
        self.disturbed(self.write_status(uid_of(pod), patch)).await
    }

    async fn finish_deletion(&self, pod: &Pod, _cause: Cause) -> Result<(), Status> {
        self.disturbed(self.remove(uid_of(pod))).await
    }
}
