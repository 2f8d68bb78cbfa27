//! Static pods: files in a folder that become pods without an API server, and mirror pods that show them in it.

mod decode;
mod references;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use parking_lot::Mutex;
use troupe_api::{
    client::Client,
    meta::{Cause, FieldSelector},
    service::{DeleteOptions, ListOptions},
};
use troupe_cri::names::PodIdentity;

use self::decode::{HASH, SOURCE};
use super::pods::{PodChanged, Pods};
use crate::{
    pod_phase::is_finished,
    runtime::{
        cache::Cache,
        host::UnitAddr,
        system::{System, TaskHandle},
    },
};

const LOOK: Duration = Duration::from_secs(2);
/// The size of the largest manifest in bytes, as upstream's.
const LONGEST: u64 = 10 << 20;
/// The annotation of a mirror pod: the hash of the manifest it mirrors.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The static pods of a node. Cheap to clone.
#[derive(Clone)]
pub struct Manifests {
    folder: Option<PathBuf>,
    node: Arc<str>,
    /// `None` before the folder was read once.
    pods: Arc<ArcSwapOption<BTreeMap<PodIdentity, Arc<Pod>>>>,
    /// Files that are no pods of this node, with why, as the log has it.
    refused: Arc<Mutex<BTreeMap<PathBuf, String>>>,
}

/// Whether the API shows this pod only on behalf of a manifest.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// A pod of the API, which cannot say by itself that it comes from elsewhere.
pub fn from_api(pod: Arc<Pod>) -> Arc<Pod> {
    let claims = |pod: &Pod| pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(SOURCE));
    if !claims(&pod) {
        return pod;
    }
    let mut pod = Pod::clone(&pod);
    pod.metadata.annotations.get_or_insert_default().insert(SOURCE.into(), "api".into());
    Arc::new(pod)
}

impl Manifests {
    /// The manifests of `folder`, read for the first time right here.
    pub fn new(folder: Option<PathBuf>, node: Arc<str>) -> Self {
        let manifests = Manifests { folder, node, pods: Arc::default(), refused: Arc::default() };
        manifests.reread();
        manifests
    }

    /// All static pods; `None` while the folder cannot be read, which must not look like an empty one.
    pub fn pods(&self) -> Option<Vec<Arc<Pod>>> {
        self.pods.load().as_ref().map(|pods| pods.values().cloned().collect())
    }

    /// The static pods of this name, which a mirror of it shows.
    pub fn named(&self, namespace: &str, name: &str) -> Vec<PodIdentity> {
        let Some(pods) = self.pods.load_full() else { return Vec::new() };
        pods.keys().filter(|id| id.namespace == namespace && id.name == name).cloned().collect()
    }

    /// A static pod, with the status that its mirror in the API carries.
    pub fn pod(&self, id: &PodIdentity, mirror: Option<&Pod>) -> Option<Arc<Pod>> {
        let pod = self.pods.load().as_ref()?.get(id).cloned()?;
        match mirror.filter(|mirror| is_mirror(mirror) && mirror.status.is_some()) {
            Some(mirror) => Some(Arc::new(Pod { status: mirror.status.clone(), ..Pod::clone(&pod) })),
            None => Some(pod),
        }
    }

    /// Reads the folder again; gives the pods that appeared, changed or vanished.
    fn reread(&self) -> Vec<PodIdentity> {
        let found = match &self.folder {
            None => BTreeMap::new(),
            Some(folder) => match read_folder(folder, &self.node) {
                Ok((found, refused)) => {
                    self.tell(refused);
                    found
                }
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "manifests not read");
                    return Vec::new();
                }
            },
        };
        let before = self.pods.swap(Some(Arc::new(found.clone()))).unwrap_or_default();
        let differs = |id: &&PodIdentity| before.get(*id) != found.get(*id);
        let all: BTreeSet<_> = before.keys().chain(found.keys()).collect();
        all.into_iter().filter(differs).cloned().collect()
    }

    /// Says once of each file why it is not run.
    fn tell(&self, refused: BTreeMap<PathBuf, String>) {
        let mut told = self.refused.lock();
        for (file, why) in refused.iter().filter(|(file, why)| told.get(*file) != Some(*why)) {
            tracing::warn!(file = %file.display(), why, "this manifest is not run");
        }
        *told = refused;
    }

    /// Follows the folder from now on, and keeps mirror pods where there is an API server.
    pub fn follow(&self, system: &System, pods: UnitAddr<Pods>, client: Option<Client>, shown: Option<Cache<Pod>>, tasks: &mut Vec<TaskHandle>) {
        if self.folder.is_none() {
            return;
        }
        let manifests = self.clone();
        tasks.push(system.spawn_task("kubelet/manifests", move || {
            let (manifests, pods, client, shown) = (manifests.clone(), pods.clone(), client.clone(), shown.clone());
            async move {
                // Those read at the start run whether or not the API server ever answers.
                for pod in manifests.pods().unwrap_or_default() {
                    pods.wake(PodChanged(PodIdentity::of(&pod)), Cause::root());
                }
                let mut had = BTreeSet::new();
                loop {
                    for changed in manifests.reread() {
                        pods.wake(PodChanged(changed), Cause::root());
                    }
                    if let Some(client) = &client {
                        manifests.mirror(client).await;
                        manifests.remove_orphans(client, shown.as_ref(), &mut had).await;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }));
    }

    /// Makes missing mirror pods and removes those whose manifest changed or went.
    async fn mirror(&self, client: &Client) {
        for pod in self.pods().unwrap_or_default() {
            if let Err(error) = self.mirror_one(client, &pod).await {
                tracing::warn!(%error, pod = pod.metadata.name, "mirror pod not kept");
            }
        }
    }

    /// Removes mirror pods of which there is no manifest, whoever made them. Those that `had` one while this process runs may
    /// show a pod that is still ending.
    async fn remove_orphans(&self, client: &Client, shown: Option<&Cache<Pod>>, had: &mut BTreeSet<(String, String)>) {
        let (Some(shown), Some(own)) = (shown.filter(|shown| shown.is_synced()), self.pods.load_full()) else { return };
        let own: BTreeSet<_> = own.keys().map(|id| (id.namespace.clone(), id.name.clone())).collect();
        had.extend(own.iter().cloned());
        for pod in shown.list("").into_iter().filter(|pod| is_mirror(pod)) {
            let orphan = PodIdentity::of(&pod);
            let name = (orphan.namespace.clone(), orphan.name.clone());
            if own.contains(&name) || (had.contains(&name) && !is_finished(&pod)) {
                continue;
            }
            let options = DeleteOptions { grace_period_seconds: Some(0), precondition_uid: Some(orphan.uid.clone()), ..DeleteOptions::default() };
            if let Err(error) = client.namespaced::<Pod>(orphan.namespace.as_str()).delete(&orphan.name, options).await {
                tracing::debug!(%error, pod = orphan.name, "orphaned mirror pod not removed");
            }
        }
    }

    async fn mirror_one(&self, client: &Client, pod: &Pod) -> Result<(), troupe_api::Status> {
        let id = PodIdentity::of(pod);
        let api = client.namespaced::<Pod>(id.namespace.as_str());
        let hash =
            |pod: &Pod| pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MIRROR).or_else(|| annotations.get(HASH)).cloned());
        // A list of what is on this node is what a node may read, also while the pod does not exist.
        let own = FieldSelector::parse(&format!("metadata.name={},spec.nodeName={}", id.name, self.node)).map_err(troupe_api::Status::internal)?;
        let known = api.list(ListOptions { fields: own, ..ListOptions::default() }).await?.items;
        if let Some(known) = known.first() {
            if hash(known) == hash(pod) && known.metadata.deletion_timestamp.is_none() {
                return Ok(());
            }
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            api.delete(&id.name, options).await?;
        }
        let node = client.all::<Node>().get(&self.node).await?;
        let mut mirror = pod.clone();
        mirror.metadata.uid = None;
        mirror.status = None;
        let annotations = mirror.metadata.annotations.get_or_insert_default();
        annotations.insert(MIRROR.into(), id.uid.clone());
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.node.to_string(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        api.create(&mirror).await.map(drop)
    }
}

/// The pods of a folder's files, and the files that are none, with why. One bad file keeps no other from running.
type Found = (BTreeMap<PodIdentity, Arc<Pod>>, BTreeMap<PathBuf, String>);

fn read_folder(folder: &Path, node: &str) -> std::io::Result<Found> {
    let (mut found, mut refused) = Found::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        if hidden || !path.is_file() {
            continue;
        }
        let pod = match read_manifest(&path)? {
            Some(text) => decode::pod_of_file(&text, node),
            None => Err(format!("it is larger than {LONGEST} bytes")),
        };
        match pod {
            Ok(pod) => drop(found.insert(PodIdentity::of(&pod), Arc::new(pod))),
            Err(why) => drop(refused.insert(path, why)),
        }
    }
    Ok((found, refused))
}

/// The text of a manifest; `None` for one that is too large. What is a pipe by now must not stop us.
fn read_manifest(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(LONGEST + 1).read_to_end(&mut text)?;
    Ok(Some(text).filter(|text| text.len() as u64 <= LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    #[test]
    fn changes_of_the_folder_are_told_once() {
        let place = tempfile::tempdir().expect("a directory");
        let manifests = Manifests::new(Some(place.path().to_owned()), "n".into());
        assert_eq!(manifests.pods(), Some(Vec::new()));
        fs::write(place.path().join("web.yaml"), WEB).expect("writes");
        assert_eq!(manifests.reread().len(), 1);
        assert_eq!(manifests.reread().len(), 0);
        fs::write(place.path().join("web.yaml"), WEB.replace("image: i", "image: j")).expect("writes");
        assert_eq!(manifests.reread().len(), 2, "the old pod goes, a new one comes");
    }

    #[test]
    fn a_file_that_is_refused_is_told_of_and_others_run() {
        let place = tempfile::tempdir().expect("a directory");
        let needy = place.path().join("needy.yaml");
        fs::write(&needy, WEB.replace("spec: {", "spec: {imagePullSecrets: [{name: s}], ")).expect("writes");
        fs::write(place.path().join("web.yaml"), WEB.replace("name: web", "name: other")).expect("writes");
        let manifests = Manifests::new(Some(place.path().to_owned()), "n".into());
        let names = || manifests.pods().expect("was read").iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(), ["other-n"]);
        let refused = BTreeMap::from([(needy.clone(), "static pods may not reference secrets".to_owned())]);
        assert_eq!(*manifests.refused.lock(), refused);
        fs::write(&needy, WEB).expect("writes");
        assert_eq!(manifests.reread().len(), 1);
        assert_eq!((names(), manifests.refused.lock().len()), (vec!["other-n".to_owned(), "web-n".to_owned()], 0));
    }
}
