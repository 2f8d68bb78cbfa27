//! What the kubelet's server asks: which container, which sandbox, which log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::{self, timeout_at};
use troupe_cri::{
    CriError, Runtime,
    names::{self, PodIdentity},
    proto::{ContainerFilter, PodSandboxFilter},
};

use super::{
    context::NodeContext,
    csi::stats::VolumeUsage,
    pods::AllPods,
    stats::{PodLogs, PodVolume, PodVolumes},
    volumes,
    worker::{
        ephemeral::find_any,
        logs::newest_log,
        observe::observe,
        observed::{ContainerView, Observed, RunState},
    },
};
use crate::{files::blocking, storage::claim_of};

/// Why nothing was found.
#[derive(Debug, Error)]
pub enum LookupError {
    #[error("pod \"{0}\" not found")]
    NoPod(String),
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer { container: String, pod: String },
    /// The container exists in the spec but has not been made, or does not run.
    #[error("{0}")]
    NotRunning(String),
    #[error("{0}")]
    Runtime(#[from] CriError),
}

/// A container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    /// Empty for one that only its log is left of.
    pub container_id: String,
    /// More may be written: follow it.
    pub running: bool,
}

/// The kubelet as its server sees it. Cheap to clone.
#[derive(Clone)]
pub struct KubeletHandle {
    context: Arc<NodeContext>,
    pods: AllPods,
    counted: Arc<Mutex<Counted>>,
}

/// What is known of volumes that no driver makes.
#[derive(Default)]
struct Counted {
    /// What was counted last, by the pods' uids.
    last: BTreeMap<String, (Instant, Vec<VolumeUsage>)>,
    /// Pods whose volumes are being counted. A volume may hang, such as one of a server that is gone: nobody else waits at it then.
    under_way: BTreeSet<String>,
}

impl Counted {
    /// What was counted last, and whether it is to be counted anew: what was begun so has to be ended.
    fn begin(&mut self, uid: &str, now: Instant) -> (Vec<VolumeUsage>, bool) {
        let last = self.last.get(uid);
        let is_fresh = last.is_some_and(|(taken, _)| now.saturating_duration_since(*taken) < FRESH);
        let known = last.map(|(_, usages)| usages.clone()).unwrap_or_default();
        (known, !is_fresh && self.under_way.insert(uid.to_owned()))
    }

    fn end(&mut self, uid: &str, now: Instant, usages: Vec<VolumeUsage>) {
        self.under_way.remove(uid);
        self.last.insert(uid.to_owned(), (now, usages));
    }
}

/// How long what was counted stands for what is; upstream's `volumeStatsAggPeriod`.
const FRESH: Duration = Duration::from_secs(60);
/// Who asks for figures waits no longer until all is counted: what was counted last stands, if anything.
const PATIENCE: Duration = Duration::from_secs(3);

impl KubeletHandle {
    pub fn new(context: Arc<NodeContext>, pods: AllPods) -> Self {
        KubeletHandle { context, pods, counted: Arc::default() }
    }

    /// The cgroup that holds the pods of this node, as who makes cgroups names it.
    pub fn cgroup_parent(&self) -> &str {
        &self.context.cgroup_parent
    }

    /// The container runtime, for exec, attach and port-forward.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.context.runtime
    }

    /// The pods of this node.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        (self.pods)().unwrap_or_default()
    }

    /// How full the volumes of a pod are that no driver makes, as of a minute ago at most if that can be told in time.
    async fn counted(&self, uid: &str, pod: &Arc<Pod>, until: time::Instant) -> Vec<VolumeUsage> {
        let (known, is_due) = self.counted.lock().begin(uid, Instant::now());
        if !is_due {
            return known;
        }
        let (counted, paths, pod, of) = (self.counted.clone(), self.context.paths(uid), pod.clone(), uid.to_owned());
        // It goes on when nobody waits any more.
        let counting = tokio::spawn(async move {
            let usages = volumes::stats::of_pod(&paths, &pod).await;
            counted.lock().end(&of, Instant::now(), usages.clone());
            usages
        });
        match timeout_at(until, counting).await {
            Ok(Ok(usages)) => usages,
            Ok(Err(_)) | Err(_) => known,
        }
    }

    /// How full their volumes are, by the pods' uids, as far as drivers tell of those that are theirs.
    pub async fn volumes(&self) -> PodVolumes {
        let mut told = self.context.csi.stats().await;
        let mut all = PodVolumes::new();
        let pods = self.pods();
        self.counted.lock().last.retain(|uid, _| pods.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid.as_str())));
        let until = time::Instant::now() + PATIENCE;
        for pod in pods {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let mut usages = told.remove(&uid).unwrap_or_default();
            usages.extend(self.counted(&uid, &pod, until).await);
            if usages.is_empty() {
                continue;
            }
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let claim = |name: &str| claim_of(&pod, volumes::volumes(&pod).iter().find(|volume| volume.name == name)?);
            let of = |name: &str| claim(name).map(|claim| (namespace.clone(), claim.name));
            let known = usages.into_iter().map(|usage| PodVolume { claim: of(&usage.volume), usage });
            all.insert(uid, known.collect());
        }
        all
    }

    /// What the logs of their containers take.
    pub async fn logs(&self) -> PodLogs {
        let root = self.context.log_root.clone();
        let ids: Vec<PodIdentity> = self.pods().iter().map(|pod| PodIdentity::of(pod)).collect();
        blocking(move || ids.into_iter().map(|id| (id.uid.clone(), logs_below(&id.log_directory(&root)))).collect()).await
    }

    /// A pod by name, and by uid where one is given.
    pub fn pod(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        let is = |pod: &Arc<Pod>| {
            let id = PodIdentity::of(pod);
            id.namespace == namespace && id.name == name && uid.is_none_or(|uid| uid == id.uid)
        };
        self.pods().into_iter().find(is)
    }

    async fn observed(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<(Option<Arc<Pod>>, PodIdentity, Observed), LookupError> {
        let missing = || LookupError::NoPod(format!("{name}_{namespace}"));
        let pod = self.pod(namespace, name, uid);
        let id = match &pod {
            Some(pod) => PodIdentity::of(pod),
            None => self.remembered(namespace, name, uid).await?.ok_or_else(missing)?,
        };
        let observed = observe(&*self.context.runtime, &id.uid, None).await?;
        Ok((pod, id, observed))
    }

    /// A pod that only the runtime knows any more.
    async fn remembered(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<Option<PodIdentity>, LookupError> {
        let selector = HashMap::from([(names::POD_NAMESPACE.to_owned(), namespace.to_owned()), (names::POD_NAME.to_owned(), name.to_owned())]);
        let filter = ContainerFilter { label_selector: selector.clone(), ..Default::default() };
        let containers = self.context.runtime.list_containers(filter).await?;
        let sandboxes = self.context.runtime.list_pod_sandboxes(PodSandboxFilter { label_selector: selector, ..Default::default() }).await?;
        let labels = containers.into_iter().map(|c| c.labels).chain(sandboxes.into_iter().map(|s| s.labels));
        let mut ids = labels.filter_map(|labels| PodIdentity::from_labels(|name| labels.get(name)));
        Ok(ids.find(|id| uid.is_none_or(|uid| uid == id.uid)))
    }

    /// The id of a running container. An empty name means the pod's only, or first, container.
    pub async fn container(&self, namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> Result<String, LookupError> {
        let (spec, _, observed) = self.observed(namespace, pod, uid).await?;
        let name = chosen(spec.as_deref(), container, pod)?;
        let running = observed.newest(&name).filter(|seen| seen.state == RunState::Running);
        running.map(|seen| seen.id.clone()).ok_or_else(|| LookupError::NotRunning(format!("container not found (\"{name}\")")))
    }

    /// The id of a pod's running sandbox, for port-forward.
    pub async fn sandbox(&self, namespace: &str, pod: &str, uid: Option<&str>) -> Result<String, LookupError> {
        let (_, id, observed) = self.observed(namespace, pod, uid).await?;
        let ready = observed.ready_sandbox().map(|sandbox| sandbox.id.clone());
        ready.ok_or_else(|| LookupError::NotRunning(format!("no running sandbox of pod \"{}_{}\"", id.name, id.namespace)))
    }

    /// The log of a container, or with `previous` of the one before the newest.
    pub async fn log(&self, namespace: &str, pod: &str, uid: Option<&str>, container: &str, previous: bool) -> Result<LogFile, LookupError> {
        let (spec, id, observed) = self.observed(namespace, pod, uid).await?;
        let name = chosen(spec.as_deref(), container, pod)?;
        let newest = observed.newest(&name);
        let seen: Option<&ContainerView> = match (newest, previous) {
            (newest, false) => newest,
            (Some(newest), true) if newest.attempt == 0 => None,
            (_, true) => observed.previous(&name),
        };
        if let Some(seen) = seen {
            return Ok(LogFile {
                path: id.log_file(&self.context.log_root, &name, seen.attempt),
                container_id: seen.id.clone(),
                running: seen.state == RunState::Running,
            });
        }
        let status = status_of(spec.as_deref(), &name);
        let none = || match previous {
            true => LookupError::NotRunning(format!("previous terminated container \"{name}\" in pod \"{pod}\" not found")),
            false => LookupError::NotRunning(no_log(status, &name, pod)),
        };
        if !previous && (newest.is_some() || status.and_then(|status| ended(status.state.as_ref())).is_none()) {
            return Err(none());
        }
        // The runtime has forgotten it, as when the node was taken down since. Its log may be there.
        let (directory, before) = (id.log_directory(&self.context.log_root), newest.map(|newest| newest.attempt));
        let found = {
            let name = name.clone();
            blocking(move || newest_log(&directory, &name, before)).await
        };
        let attempt = found.ok_or_else(none)?;
        Ok(LogFile { path: id.log_file(&self.context.log_root, &name, attempt), container_id: String::new(), running: false })
    }

    /// Whether a container still runs: a follower of its log ends when it does not.
    pub async fn is_running(&self, container_id: &str) -> bool {
        let status = self.context.runtime.container_status(container_id).await;
        status.is_ok_and(|status| status.state() == troupe_cri::proto::ContainerState::ContainerRunning)
    }
}

/// Bytes and inodes of logs in a pod's directory, by container.
fn logs_below(directory: &Path) -> BTreeMap<String, (u64, u64)> {
    let mut all = BTreeMap::new();
    for container in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = container.file_name().into_string() else { continue };
        let files = fs::read_dir(container.path()).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512));
        all.insert(name, sizes.fold((0, 0), |(bytes, inodes), size| (bytes + size, inodes + 1)));
    }
    all
}

fn chosen(pod: Option<&Pod>, container: &str, pod_name: &str) -> Result<String, LookupError> {
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    let missing = || LookupError::NoContainer { container: container.to_owned(), pod: pod_name.to_owned() };
    match spec {
        Some(spec) if container.is_empty() => spec.containers.first().map(|first| first.name.clone()).ok_or_else(missing),
        Some(spec) => find_any(spec, container).map(|found| found.name.clone()).ok_or_else(missing),
        None => Ok(container.to_owned()),
    }
}

/// What the API tells of a container.
fn status_of<'a>(pod: Option<&'a Pod>, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod?.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

fn ended(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state?.terminated.as_ref()
}

/// Why there is no log of a container, in upstream's words: it ended and is removed, or it never began.
fn no_log(status: Option<&ContainerStatus>, name: &str, pod: &str) -> String {
    let states = status.into_iter().flat_map(|status| [status.state.as_ref(), status.last_state.as_ref()]);
    let ends: Vec<_> = states.filter_map(ended).map(|end| end.container_id.as_deref().unwrap_or_default()).collect();
    if let Some(id) = ends.iter().find(|id| !id.is_empty()) {
        return format!("unable to retrieve container logs for {id}");
    }
    if !ends.is_empty() {
        return format!("container \"{name}\" in pod \"{pod}\" is terminated");
    }
    let reason = status.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    let why = match reason.unwrap_or("ContainerCreating") {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    };
    format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {why}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_waits_at_a_volume_that_another_one_waits_at() {
        let (mut counted, now) = (Counted::default(), Instant::now());
        assert_eq!(counted.begin("u", now), (Vec::new(), true));
        assert_eq!(counted.begin("u", now), (Vec::new(), false), "it is under way");
        let usages = vec![VolumeUsage { volume: "data".into(), ..VolumeUsage::default() }];
        counted.end("u", now, usages.clone());
        assert_eq!(counted.begin("u", now + FRESH / 2), (usages.clone(), false), "it is fresh");
        assert_eq!(counted.begin("u", now + FRESH), (usages.clone(), true));
        assert_eq!(counted.begin("u", now + FRESH * 2), (usages, false), "of one that hangs what was told last stands");
    }

    #[test]
    fn who_asks_for_a_log_that_is_not_there_is_told_why() {
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
        let lost = json!({"terminated": {"exitCode": 137}});
        for (status, why) in [
            (waiting("CreateContainerConfigError"), "container \"c\" in pod \"p\" is waiting to start: CreateContainerConfigError"),
            (waiting("ErrImagePull"), "container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
            (waiting("ImagePullBackOff"), "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"),
            (json!({"state": lost}), "container \"c\" in pod \"p\" is terminated"),
            (json!({"state": {"terminated": {"exitCode": 1, "containerID": "a://1"}}}), "unable to retrieve container logs for a://1"),
            (
                json!({"state": lost, "lastState": {"terminated": {"exitCode": 1, "containerID": "a://0"}}}),
                "unable to retrieve container logs for a://0",
            ),
        ] {
            let mut status = status;
            for (field, value) in
                [("name", json!("c")), ("image", json!("")), ("imageID", json!("")), ("ready", json!(false)), ("restartCount", json!(0))]
            {
                status[field] = value;
            }
            let status: ContainerStatus = serde_json::from_value(status).expect("a status");
            assert_eq!(no_log(Some(&status), "c", "p"), why);
        }
        assert_eq!(no_log(None, "c", "p"), "container \"c\" in pod \"p\" is waiting to start: ContainerCreating");
    }
}
