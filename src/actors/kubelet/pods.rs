//! The pods of this node: one worker each, for every pod the API binds here, every manifest, and everything the
//! runtime or the disk still has of pods that are gone.

mod devices;
mod preempting;
mod resizes;
mod terminating;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use actix::Message;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::meta::Cause;
use troupe_cri::names::PodIdentity;

use self::preempting::{MakingRoom, Victims};
pub use self::terminating::Terminate;
use super::{
    admission::{
        Rejection,
        fit::{self, Guest, Place},
        listening::{listening, tunnel},
        preemption,
    },
    cgroups,
    cluster::is_static,
    context::NodeContext,
    events::Note,
    eviction,
    listing::list,
    metrics,
    node::own::OwnNode,
    status::{Evicted, PodFailure},
    worker::shell::{FailPod, PodSource, PodWorker, Wake, WhenGone},
};
use crate::{
    files::blocking,
    pod_phase::is_finished,
    runtime::{
        envelope::Reply,
        events,
        host::{On, Unit, UnitAddr, UnitContext},
        unit::Policy,
    },
    scheduler::demand::HostPort,
};

/// How often disk and runtime are searched for remains of pods that are gone.
const SEARCH: Duration = Duration::from_secs(120);

/// A pod of the API or the manifest folder appeared, changed or vanished.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct PodChanged(pub PodIdentity);

/// Pods changed at the runtime.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RuntimeChanged(pub Vec<PodIdentity>);

/// A pod has to go, because of what it, or all pods together, take of the node.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Evict {
    pub id: PodIdentity,
    /// What its status and an event tell.
    pub message: String,
    /// For others' sake: the condition `DisruptionTarget` says so.
    pub disruption: bool,
    /// Seconds that its containers have to end; 0 when they are killed.
    pub grace: u64,
}

/// Nothing is left of a pod.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct PodGone(pub PodIdentity);

/// All pods that should be on this node now; `None` before that is known, when no remains may be touched.
pub type AllPods = Arc<dyn Fn() -> Option<Vec<Arc<Pod>>> + Send + Sync>;

/// What decides whether there is a place for a pod.
#[derive(Clone)]
pub struct Room {
    pub node: OwnNode,
    /// No more pods than this run here.
    pub most: usize,
    /// Where the daemons of this node listen.
    pub listeners: Vec<HostPort>,
    /// Whether tolerations compare numbers.
    pub compares_tolerations: bool,
}

impl Room {
    /// Where pods find their place on a node on which these listen.
    fn place(&self, node: Arc<Node>, listeners: Vec<HostPort>) -> Place {
        let most_pods = i64::try_from(self.most).unwrap_or(i64::MAX);
        Place { node, most_pods, listeners, compares_tolerations: self.compares_tolerations }
    }
}

/// The unit that keeps the workers.
pub struct Pods {
    context: Arc<NodeContext>,
    all: AllPods,
    source: PodSource,
    workers: BTreeMap<String, (PodIdentity, UnitAddr<PodWorker>)>,
    room: Room,
    /// Pods whose refusal is under way, by uid.
    judged: BTreeSet<String>,
    /// Pods that are let in and wait for others to leave, by uid.
    making_room: BTreeMap<String, MakingRoom>,
    /// Every pod that was let in has a worker.
    searched: bool,
    /// Pods that ask for another size than they have, by uid.
    resizing: BTreeSet<String>,
    /// They will be looked at in a moment.
    allocating: bool,
    /// The weight of burstable pods, as it was set last, and that it will be set anew in a moment.
    weight: i64,
    weighing: bool,
}

impl Pods {
    pub fn new(context: Arc<NodeContext>, all: AllPods, source: PodSource, room: Room) -> Self {
        Pods {
            context,
            all,
            source,
            workers: BTreeMap::new(),
            room,
            judged: BTreeSet::new(),
            making_room: BTreeMap::new(),
            searched: false,
            resizing: BTreeSet::new(),
            allocating: false,
            weight: 0,
            weighing: false,
        }
    }

    /// Wakes the pod's worker, or starts one if there is something to do for it.
    fn wake(&mut self, id: &PodIdentity, runtime: bool, cx: &mut UnitContext<'_, Self>) {
        if let Some((_, worker)) = self.workers.get(&id.uid) {
            if !runtime {
                worker.lift_quarantine();
            }
            return cx.reach(worker).wake(Wake { runtime }, cx.cause().clone());
        }
        let known = (self.source)(id);
        if !runtime && known.as_ref().is_some_and(|pod| self.refuses(pod, cx)) {
            return;
        }
        if known.is_some() || (runtime && (self.all)().is_some()) {
            self.start(id.clone(), cx);
        }
    }

    /// Whether no worker looks after a pod: there is no place for it here, or that is not known yet.
    fn refuses(&mut self, pod: &Arc<Pod>, cx: &mut UnitContext<'_, Self>) -> bool {
        let id = PodIdentity::of(pod);
        if fit::was_refused(pod) || self.judged.contains(&id.uid) || self.making_room.contains_key(&id.uid) {
            return true;
        }
        if !fit::needs_place(pod) {
            return false;
        }
        if !is_static(pod) && !self.room.node.is_known() {
            // The search, which waits for the node too, finds it.
            return true;
        }
        match self.fits(pod, self.room.node.get()) {
            Ok(victims) if victims.pods.is_empty() => return false,
            Ok(victims) => self.preempt(id, victims, cx),
            Err(_) => self.judge(id, cx),
        }
        true
    }

    /// Whether there is a place for a pod, and who has to leave it.
    fn fits(&self, pod: &Arc<Pod>, node: Arc<Node>) -> Result<Victims, Rejection> {
        let mut listeners = self.room.listeners.clone();
        if fit::maps_ports(pod) {
            listeners.extend(listening());
            listeners.push(tunnel());
        }
        let place = self.room.place(node, listeners);
        let (guest, others) = (guest(&self.context.allocations.applied_to(pod)), self.others(pod));
        fit::fits(&guest, &others, &place)?;
        let (victims, resource) = preemption::victims(&guest, &others, &place);
        let pods = victims.iter().map(|victim| PodIdentity::of(&victim.pod)).collect();
        Ok(Victims { pods, resource: resource.unwrap_or_default() })
    }

    /// The pods that were let in and have not ended.
    fn others(&self, pod: &Pod) -> Vec<Guest> {
        let let_in = self.making_room.values().map(|waiting| waiting.id.clone());
        let mut ids: BTreeSet<PodIdentity> = self.workers.values().map(|(id, _)| id.clone()).chain(let_in).collect();
        if !self.searched {
            // After a start, some that run already may not have their workers yet.
            let begun = (self.all)().unwrap_or_default().into_iter().filter(|pod| fit::has_begun(pod));
            ids.extend(begun.map(|pod| PodIdentity::of(&pod)));
        }
        ids.remove(&PodIdentity::of(pod));
        let known = ids.iter().filter_map(|id| (self.source)(id));
        known.filter(|pod| !is_finished(pod)).map(|pod| guest(&self.context.allocations.applied_to(&pod))).collect()
    }

    /// Refuses a pod, unless it has a place on the node as that is by now: a label may have come with the pod.
    fn judge(&mut self, id: PodIdentity, cx: &mut UnitContext<'_, Self>) {
        self.judged.insert(id.uid.clone());
        let context = self.context.clone();
        let work = async move { context.cluster.node(&context.node_name).await };
        cx.spawn_then(work, |pods, node, cx| {
            let node = match node {
                Ok(Some(node)) => pods.room.node.completed(node),
                _ => pods.room.node.get(),
            };
            let Some(pod) = (pods.source)(&id).filter(|pod| fit::needs_place(pod) && !pods.workers.contains_key(&id.uid)) else {
                pods.judged.remove(&id.uid);
                return pods.wake(&id, false, cx);
            };
            match pods.fits(&pod, node) {
                Ok(victims) => {
                    pods.judged.remove(&id.uid);
                    if victims.pods.is_empty() { pods.start(id, cx) } else { pods.preempt(id, victims, cx) }
                }
                Err(rejection) => pods.refuse(&pod, &rejection, cx),
            }
        });
    }

    fn refuse(&self, pod: &Arc<Pod>, rejection: &Rejection, cx: &mut UnitContext<'_, Self>) {
        let Rejection { reason, message } = rejection;
        tracing::warn!(pod = pod.metadata.name, %reason, message, "pod refused");
        metrics::rejected(fit::counted(reason));
        let patch = fit::refusal(pod, rejection);
        self.context.events.pod(pod, Note::warning(reason, message.clone()));
        let (context, pod, cause) = (self.context.clone(), pod.clone(), cx.cause().clone());
        let id = PodIdentity::of(&pod);
        let write = async move {
            // Otherwise the next search finds it again.
            if let Err(error) = context.cluster.patch_status(&pod, &patch, cause).await {
                tracing::debug!(%error, pod = pod.metadata.name, "the refusal was not written");
            }
        };
        cx.spawn_then(write, move |pods, (), cx| {
            pods.judged.remove(&id.uid);
            if (pods.source)(&id).is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()) {
                // It was deleted meanwhile, which nobody was told.
                pods.wake(&id, false, cx);
            }
        });
    }

    fn start(&mut self, id: PodIdentity, cx: &mut UnitContext<'_, Self>) {
        self.promise(&id);
        self.weigh_soon(cx);
        let path = format!("{}/{}/{}/{}", cx.path(), id.namespace, id.name, id.uid);
        let (context, source, pods) = (self.context.clone(), self.source.clone(), cx.address());
        let when_gone: WhenGone = Arc::new(move |id: &PodIdentity| pods.wake(PodGone(id.clone()), Cause::default()));
        let (worker_id, policy) = (id.clone(), self.policy(&id));
        // What led here goes along, for the trace: it begins to work before anybody could tell it. When it is restarted that is no reason any more.
        let cause = Mutex::new(Some(cx.cause().clone()));
        let worker = cx.system().spawn(path, policy, move |_| {
            let worker = PodWorker::new(context.clone(), worker_id.clone(), source.clone(), when_gone.clone());
            worker.because_of(cause.lock().take())
        });
        cx.reach(&worker).wake(Wake::default(), cx.cause().clone());
        self.workers.insert(id.uid.clone(), (id, worker));
    }

    /// A pod that its worker fails on again and again must not take the others along.
    fn policy(&self, id: &PodIdentity) -> Policy {
        let (context, source, id) = (self.context.clone(), self.source.clone(), id.clone());
        Policy::per_object(move |why| {
            if let Some(pod) = source(&id) {
                context.events.pod(&pod, Note::warning(events::QUARANTINED, events::quarantine_message("the kubelet's worker", why)));
            }
        })
    }

    /// Starts workers for all pods, and for remains of others on disk and at the runtime, which may have come late or before pods were known.
    fn search(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(mut all) = (self.all)() else {
            cx.after(Duration::from_millis(100), Self::search);
            return;
        };
        if self.searched {
            let uids: BTreeSet<&str> = all.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
            self.context.container_manager.retain(|uid| uids.contains(uid) || self.workers.contains_key(uid));
        }
        // Who came first is let in first.
        all.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        for pod in all {
            self.wake(&PodIdentity::of(&pod), false, cx);
        }
        self.searched = true;
        self.allocate(cx);
        let context = self.context.clone();
        let find = async move {
            let (shared, runtime) = (context.clone(), context.runtime.clone());
            let mut found = blocking(move || remains(&shared.root, &shared.log_root, &shared.cgroup_parent)).await;
            // What failed is asked again in the next search.
            let at_runtime = list(&*runtime).await.unwrap_or_default();
            found.extend(at_runtime.into_keys().map(|id| (id.uid.clone(), id)));
            found
        };
        cx.spawn_then(find, |pods, found, cx| {
            for id in found.into_values() {
                if !pods.workers.contains_key(&id.uid) {
                    tracing::info!(uid = id.uid, pod = id.name, "remains of a pod that is gone");
                    pods.start(id, cx);
                }
            }
        });
        cx.after(SEARCH, Self::search);
    }
}

fn guest(pod: &Arc<Pod>) -> Guest {
    Guest { pod: pod.clone(), is_static: is_static(pod) }
}

/// The pods that have directories, logs or cgroups here, by uid. Only logs know names.
fn remains(root: &Path, log_root: &Path, cgroup_parent: &str) -> BTreeMap<String, PodIdentity> {
    let names = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut found: BTreeMap<String, PodIdentity> = BTreeMap::new();
    for directory in names(log_root) {
        if let [namespace, name, uid] = directory.splitn(3, '_').collect::<Vec<_>>()[..]
            && is_uid(uid)
        {
            let id = PodIdentity { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() };
            found.insert(uid.to_owned(), id);
        }
    }
    let uids: BTreeSet<String> = names(&root.join("pods")).into_iter().chain(cgroups::pods(cgroup_parent).unwrap_or_default()).collect();
    for uid in uids.into_iter().filter(|uid| is_uid(uid)) {
        found.entry(uid.clone()).or_insert_with(|| PodIdentity { uid, ..PodIdentity::default() });
    }
    found
}

/// Whether a name can be that of a pod's directory: what is removed with it must lie nowhere else.
fn is_uid(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Unit for Pods {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.search(cx);
        self.watch_devices(cx);
        self.watch_claims(cx);
    }

    fn observe(&self) -> Value {
        json!({"pods": self.workers.len()})
    }
}

impl On<PodChanged> for Pods {
    fn on(&mut self, changed: PodChanged, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        // Before its worker looks at it.
        self.consider(&changed.0, cx);
        self.wake(&changed.0, false, cx);
        Reply::Now(())
    }
}

impl On<RuntimeChanged> for Pods {
    fn on(&mut self, changed: RuntimeChanged, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        for id in &changed.0 {
            self.wake(id, true, cx);
        }
        Reply::Now(())
    }
}

impl On<Evict> for Pods {
    fn on(&mut self, evict: Evict, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some((_, worker)) = self.workers.get(&evict.id.uid) {
            let evicted = Some(Evicted { disruption: evict.disruption, grace: evict.grace, stays: false });
            let failure = PodFailure { reason: eviction::REASON.to_owned(), message: evict.message, rejected: false, evicted };
            cx.reach(worker).wake(FailPod(failure), cx.cause().clone());
        }
        Reply::Now(())
    }
}

impl On<PodGone> for Pods {
    fn on(&mut self, gone: PodGone, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some((_, worker)) = self.workers.remove(&gone.0.uid) {
            cx.system().stop(worker.path());
        }
        self.context.allocations.remove(&gone.0.uid);
        self.context.csi.forget_pod(&gone.0.uid);
        self.resizing.remove(&gone.0.uid);
        self.allocate_soon(cx);
        self.weigh_soon(cx);
        Reply::Now(())
    }
}
