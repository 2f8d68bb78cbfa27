//! The pods of this node: one worker each, for every pod the API binds here, every manifest, and everything the
//! runtime or the disk still has of pods that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use actix::Message;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_api::meta::Cause;
use troupe_cri::names::PodIdentity;

use super::{
    cgroups,
    context::NodeContext,
    events::Note,
    worker::shell::{PodSource, PodWorker, Wake, WhenGone},
};
use crate::runtime::{
    envelope::{On, Reply},
    events,
    host::{UnitAddr, UnitContext},
    unit::{Policy, Unit},
};

/// How often the disk is searched for remains of pods that are gone.
const SEARCH: Duration = Duration::from_secs(120);

/// A pod of the API or the manifest folder appeared, changed or vanished.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct PodChanged(pub PodIdentity);

/// Pods changed at the runtime.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RuntimeChanged(pub Vec<PodIdentity>);

/// Nothing is left of a pod.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct PodGone(pub PodIdentity);

/// All pods that should be on this node now; `None` before that is known, when no remains may be touched.
pub type AllPods = Arc<dyn Fn() -> Option<Vec<Arc<Pod>>> + Send + Sync>;

/// The unit that keeps the workers.
pub struct Pods {
    context: Arc<NodeContext>,
    all: AllPods,
    source: PodSource,
    workers: BTreeMap<String, (PodIdentity, UnitAddr<PodWorker>)>,
}

impl Pods {
    pub fn new(context: Arc<NodeContext>, all: AllPods, source: PodSource) -> Self {
        Pods { context, all, source, workers: BTreeMap::new() }
    }

    /// Wakes the pod's worker, or starts one if there is something to do for it.
    fn wake(&mut self, id: &PodIdentity, runtime: bool, cx: &mut UnitContext<'_, Self>) {
        if let Some((_, worker)) = self.workers.get(&id.uid) {
            if !runtime {
                worker.lift_quarantine();
            }
            return cx.reach(worker).wake(Wake { runtime }, cx.cause().clone());
        }
        let known = (self.source)(id).is_some();
        if known || (runtime && (self.all)().is_some()) {
            self.start(id.clone(), cx);
        }
    }

    fn start(&mut self, id: PodIdentity, cx: &mut UnitContext<'_, Self>) {
        let path = format!("{}/{}/{}/{}", cx.path(), id.namespace, id.name, id.uid);
        let (context, source, pods) = (self.context.clone(), self.source.clone(), cx.address());
        let when_gone: WhenGone = Arc::new(move |id: &PodIdentity| pods.wake(PodGone(id.clone()), Cause::default()));
        let (worker_id, policy) = (id.clone(), self.policy(&id));
        let worker = cx.system().spawn(path, policy, move |_| PodWorker::new(context.clone(), worker_id.clone(), source.clone(), when_gone.clone()));
        // What led here goes along, for the trace.
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

    /// Starts workers for all pods, and for remains of others on disk.
    fn search(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(all) = (self.all)() else {
            cx.after(Duration::from_millis(100), Self::search);
            return;
        };
        for pod in all {
            self.wake(&PodIdentity::of(&pod), false, cx);
        }
        let context = self.context.clone();
        let find = async move {
            let found = tokio::task::spawn_blocking(move || remains(&context.root, &context.log_root, &context.cgroup_root));
            found.await.unwrap_or_default()
        };
        cx.spawn_then(find, |pods, found, cx| {
            for id in found {
                if !pods.workers.contains_key(&id.uid) {
                    tracing::info!(uid = id.uid, pod = id.name, "remains of a pod that is gone");
                    pods.start(id, cx);
                }
            }
        });
        cx.after(SEARCH, Self::search);
    }
}

/// The pods that have directories, logs or cgroups here. Only logs know names.
fn remains(root: &Path, log_root: &Path, cgroup_root: &str) -> Vec<PodIdentity> {
    let names = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut found: BTreeMap<String, PodIdentity> = BTreeMap::new();
    for directory in names(log_root) {
        if let [namespace, name, uid] = directory.splitn(3, '_').collect::<Vec<_>>()[..] {
            let id = PodIdentity { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() };
            found.insert(uid.to_owned(), id);
        }
    }
    let uids: BTreeSet<String> = names(&root.join("pods")).into_iter().chain(cgroups::pods(cgroup_root).unwrap_or_default()).collect();
    for uid in uids {
        found.entry(uid.clone()).or_insert_with(|| PodIdentity { uid, ..PodIdentity::default() });
    }
    found.into_values().collect()
}

impl Unit for Pods {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.search(cx);
    }

    fn observe(&self) -> Value {
        json!({"pods": self.workers.len()})
    }
}

impl On<PodChanged> for Pods {
    fn on(&mut self, changed: PodChanged, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
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

impl On<PodGone> for Pods {
    fn on(&mut self, gone: PodGone, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some((_, worker)) = self.workers.remove(&gone.0.uid) {
            cx.system().stop(worker.path());
        }
        Reply::Now(())
    }
}
