//! Static pods: files in a folder, or what a server has, that become pods without an API server, and mirror pods that show them in it.

mod decode;
mod references;
mod url;

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
    meta::{Cause, FieldSelector},
    service::{DeleteOptions, ListOptions},
};
use troupe_api_client::Client;
use troupe_cri::names::PodIdentity;

use self::decode::{HASH, SOURCE};
pub use self::url::PodUrl;
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

/// The pods that one source has.
type Source = Arc<ArcSwapOption<BTreeMap<PodIdentity, Arc<Pod>>>>;

/// The static pods of a node. Cheap to clone.
#[derive(Clone)]
pub struct Manifests {
    folder: Option<PathBuf>,
    url: Option<PodUrl>,
    node: Arc<str>,
    /// `None` before the folder was read once.
    pods: Source,
    /// `None` before the server of the URL has answered once.
    remote: Source,
    /// Files that are no pods of this node, with why, as the log has it.
    refused: Arc<Mutex<BTreeMap<PathBuf, String>>>,
}

/// Whether the API shows this pod only on behalf of a manifest.
pub fn is_mirror(pod: &Pod) -> bool {
    mirrored(pod).is_some()
}

/// The hash of the manifest that a mirror pod shows.
fn mirrored(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(MIRROR)
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
    /// The manifests of `folder`, read for the first time right here, and those at a URL.
    pub fn new(folder: Option<PathBuf>, url: Option<PodUrl>, node: Arc<str>) -> Self {
        let manifests = Manifests { folder, url, node, pods: Source::default(), remote: Source::default(), refused: Arc::default() };
        if manifests.url.is_none() {
            replace(&manifests.remote, BTreeMap::new());
        }
        manifests.reread();
        manifests
    }

    /// All static pods; `None` while the folder cannot be read or the server does not answer, which must not look as if they had none.
    pub fn pods(&self) -> Option<Vec<Arc<Pod>>> {
        let (files, remote) = (self.pods.load_full()?, self.remote.load_full()?);
        Some(files.values().chain(remote.values()).cloned().collect())
    }

    /// Those that are known, although there may be others.
    fn known(&self) -> Vec<Arc<Pod>> {
        let known = [&self.pods, &self.remote].into_iter().filter_map(|source| source.load_full());
        known.flat_map(|pods| pods.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// The static pods of this name, which a mirror of it shows.
    pub fn named(&self, namespace: &str, name: &str) -> Vec<PodIdentity> {
        let known = self.known().into_iter().map(|pod| PodIdentity::of(&pod));
        known.filter(|id| id.namespace == namespace && id.name == name).collect()
    }

    /// A static pod, with the status that its mirror in the API carries. That of what the manifest was before is another pod's.
    pub fn pod(&self, id: &PodIdentity, mirror: Option<&Pod>) -> Option<Arc<Pod>> {
        let pod = [&self.pods, &self.remote].into_iter().find_map(|source| source.load().as_ref()?.get(id).cloned())?;
        match mirror.filter(|mirror| mirrored(mirror) == Some(&id.uid) && mirror.status.is_some()) {
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
        replace(&self.pods, found)
    }

    /// Asks the server again, and gives the same; `last` is the document that it had, if it could be read. An empty one stands for no pods.
    ///
    /// # Errors
    /// When there is no document, or it is not understood; then all stays as it is.
    async fn fetch(&self, url: &PodUrl, last: &mut Option<Vec<u8>>) -> Result<Vec<PodIdentity>, String> {
        let document = url.get(usize::try_from(LONGEST).unwrap_or(usize::MAX)).await?;
        if last.as_ref() == Some(&document) {
            return Ok(Vec::new());
        }
        let pods = if document.is_empty() { Vec::new() } else { decode::pods_of_url(&document, url.given(), &self.node)? };
        *last = Some(document);
        Ok(replace(&self.remote, pods.into_iter().map(|pod| (PodIdentity::of(&pod), Arc::new(pod))).collect()))
    }

    /// Says once of each file why it is not run.
    fn tell(&self, refused: BTreeMap<PathBuf, String>) {
        let mut told = self.refused.lock();
        for (file, why) in refused.iter().filter(|(file, why)| told.get(*file) != Some(*why)) {
            tracing::warn!(file = %file.display(), why, "this manifest is not run");
        }
        *told = refused;
    }

    /// Follows the folder and the server from now on, and keeps mirror pods where there is an API server.
    pub fn follow(&self, system: &System, pods: UnitAddr<Pods>, client: Option<Client>, shown: Option<Cache<Pod>>, tasks: &mut Vec<TaskHandle>) {
        if let Some(url) = self.url.clone() {
            let (manifests, pods) = (self.clone(), pods.clone());
            tasks.push(system.spawn_task("kubelet/manifest-url", move || follow_url(manifests.clone(), url.clone(), pods.clone())));
        } else if self.folder.is_none() {
            return;
        }
        let manifests = self.clone();
        tasks.push(system.spawn_task("kubelet/manifests", move || {
            let (manifests, pods, client, shown) = (manifests.clone(), pods.clone(), client.clone(), shown.clone());
            async move {
                // Those read at the start run whether or not the API server ever answers.
                for pod in manifests.known() {
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
        for pod in self.known() {
            if let Err(error) = self.mirror_one(client, &pod).await {
                tracing::warn!(%error, pod = pod.metadata.name, "mirror pod not kept");
            }
        }
    }

    /// Removes mirror pods of which there is no manifest, whoever made them. Those that `had` one while this process runs may
    /// show a pod that is still ending.
    async fn remove_orphans(&self, client: &Client, shown: Option<&Cache<Pod>>, had: &mut BTreeSet<(String, String)>) {
        let (Some(shown), Some(own)) = (shown.filter(|shown| shown.is_synced()), self.pods()) else { return };
        let own: BTreeSet<_> = own.iter().map(|pod| PodIdentity::of(pod)).map(|id| (id.namespace, id.name)).collect();
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

/// Puts what a source has by now into its place; gives the pods that appeared, changed or vanished.
fn replace(source: &Source, found: BTreeMap<PodIdentity, Arc<Pod>>) -> Vec<PodIdentity> {
    let before = source.swap(Some(Arc::new(found.clone()))).unwrap_or_default();
    let differs = |id: &&PodIdentity| before.get(*id) != found.get(*id);
    let all: BTreeSet<_> = before.keys().chain(found.keys()).collect();
    all.into_iter().filter(differs).cloned().collect()
}

/// Asks a server for its pods for ever. Why it has none is told once, until that is another reason.
async fn follow_url(manifests: Manifests, url: PodUrl, pods: UnitAddr<Pods>) {
    let (mut last, mut told) = (None, None);
    loop {
        match manifests.fetch(&url, &mut last).await {
            Ok(changed) => {
                for id in changed {
                    pods.wake(PodChanged(id), Cause::root());
                }
                if told.take().is_some() {
                    tracing::info!(%url, "pods read from the URL");
                }
            }
            Err(why) if told.as_ref() != Some(&why) => {
                tracing::warn!(%url, why, "failed to read pods from the URL");
                told = Some(why);
            }
            Err(_) => {}
        }
        tokio::time::sleep(url.period).await;
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
    use k8s_openapi::api::core::v1::PodStatus;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    #[test]
    fn changes_of_the_folder_are_told_once() {
        let place = tempfile::tempdir().expect("a directory");
        let manifests = Manifests::new(Some(place.path().to_owned()), None, "n".into());
        assert_eq!(manifests.pods(), Some(Vec::new()));
        fs::write(place.path().join("web.yaml"), WEB).expect("writes");
        assert_eq!(manifests.reread().len(), 1);
        assert_eq!(manifests.reread().len(), 0);
        fs::write(place.path().join("web.yaml"), WEB.replace("image: i", "image: j")).expect("writes");
        assert_eq!(manifests.reread().len(), 2, "the old pod goes, a new one comes");
    }

    #[test]
    fn a_changed_manifest_is_a_pod_that_never_ran() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("web.yaml");
        fs::write(&file, WEB).expect("writes");
        let manifests = Manifests::new(Some(place.path().to_owned()), None, "n".into());
        let id = || manifests.named("default", "web-n").pop().expect("a pod");
        let mut mirror = Pod { status: Some(PodStatus::default()), ..Pod::default() };
        mirror.metadata.annotations = Some(BTreeMap::from([(MIRROR.to_owned(), id().uid)]));
        let status = || manifests.pod(&id(), Some(&mirror)).expect("it is there").status.clone();
        assert_eq!(status(), mirror.status);
        fs::write(&file, WEB.replace("image: i", "image: j")).expect("writes");
        manifests.reread();
        assert_eq!(status(), None, "the mirror is still that of the pod before");
    }

    #[test]
    fn a_file_that_is_refused_is_told_of_and_others_run() {
        let place = tempfile::tempdir().expect("a directory");
        let needy = place.path().join("needy.yaml");
        fs::write(&needy, WEB.replace("spec: {", "spec: {imagePullSecrets: [{name: s}], ")).expect("writes");
        fs::write(place.path().join("web.yaml"), WEB.replace("name: web", "name: other")).expect("writes");
        let manifests = Manifests::new(Some(place.path().to_owned()), None, "n".into());
        let names = || manifests.pods().expect("was read").iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(), ["other-n"]);
        let refused = BTreeMap::from([(needy.clone(), "static pods may not reference secrets".to_owned())]);
        assert_eq!(*manifests.refused.lock(), refused);
        fs::write(&needy, WEB).expect("writes");
        assert_eq!(manifests.reread().len(), 1);
        assert_eq!((names(), manifests.refused.lock().len()), (vec!["other-n".to_owned(), "web-n".to_owned()], 0));
    }

    #[tokio::test]
    async fn what_a_server_has_runs_beside_the_files() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let at = listener.local_addr().expect("an address");
        let documents = Arc::new(Mutex::new(vec![String::new(), WEB.replace("spec: {", "spec: {serviceAccountName: s, "), WEB.into(), WEB.into()]));
        let has = documents.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let asks = String::from_utf8_lossy(&head[..read]).to_lowercase();
                let document = if asks.contains("x-key: secret") { has.lock().pop() } else { None };
                let said = match document {
                    Some(text) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
                    None => "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                drop(stream.write_all(said.as_bytes()).await);
            }
        });
        let headers = BTreeMap::from([("X-Key".to_owned(), "secret".to_owned())]);
        let url = PodUrl::parse(&format!("http://{at}/pods"), headers, LOOK).expect("a URL");
        assert!(!format!("{url:?}").contains("secret"));
        let manifests = Manifests::new(None, Some(url.clone()), "n".into());
        assert_eq!((manifests.pods(), manifests.known().len()), (None, 0), "nobody knows yet");
        let mut last = None;
        let changed = manifests.fetch(&url, &mut last).await.expect("a pod");
        assert_eq!(changed.iter().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["web-n"]);
        assert!(manifests.pod(&changed[0], None).is_some());
        assert_eq!(manifests.named("default", "web-n"), changed);
        assert_eq!(manifests.fetch(&url, &mut last).await, Ok(Vec::new()), "it is the same");
        assert_eq!(manifests.fetch(&url, &mut last).await, Err("static pods may not reference serviceaccounts".to_owned()));
        assert_eq!(manifests.pods().map(|pods| pods.len()), Some(1), "what runs runs on");
        assert_eq!(manifests.fetch(&url, &mut last).await, Ok(changed), "it has none any more");
        assert_eq!(manifests.fetch(&url, &mut last).await, Err(format!("http://{at}/pods: 403 Forbidden")));
        assert_eq!(manifests.pods(), Some(Vec::new()));
    }
}
