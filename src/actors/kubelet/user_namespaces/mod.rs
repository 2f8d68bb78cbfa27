//! Ids of this node for users of pods that have some of their own (`hostUsers: false`, KEP-127): each pod has a range for itself, which is in its
//! directory, as upstream writes it (`userns`), before its sandbox is made, and free again once the pod is gone. The runtime maps users, and the
//! files of volumes with them.

pub mod ids;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use troupe_cri::security::IdRange;

pub use self::ids::NodeIds;
use crate::files::blocking;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UserNamespaces {
    /// Where pods' directories are.
    pods: PathBuf,
    state: Arc<Mutex<Given>>,
}

/// Who has which range, by its place among all.
#[derive(Debug)]
struct Given {
    ids: NodeIds,
    by_pod: BTreeMap<String, u32>,
    used: BTreeSet<u32>,
    /// Where the search for a free one begins: what was given back is not given out at once.
    next: u32,
}

impl UserNamespaces {
    /// Goes on with what pods on disk have. Blocking.
    ///
    /// # Errors
    /// When a pod has what it cannot have, or two have the same.
    pub fn start(root: &Path, ids: NodeIds) -> Result<Self, String> {
        let mut given = Given { ids, by_pod: BTreeMap::new(), used: BTreeSet::new(), next: 0 };
        let directory = root.join("pods");
        for pod in pods(&directory).map_err(|error| format!("read pods from disk: {error}"))? {
            let found = record::read(&directory.join(&pod));
            let taken = found.and_then(|range| range.map_or(Ok(()), |range| given.take(&pod, range)));
            taken.map_err(|why| format!("record pod mappings for existing pod {pod:?}: {why}"))?;
        }
        Ok(UserNamespaces { pods: directory, state: Arc::new(Mutex::new(given)) })
    }

    /// What a pod has; `None` for one that has the node's users.
    pub fn of(&self, pod: &str) -> Option<IdRange> {
        let given = self.state.lock();
        given.by_pod.get(pod).map(|place| given.ids.range(*place))
    }

    /// Gives a pod ids of its own, unless it has some.
    ///
    /// # Errors
    /// When all are taken, or the disk does not take it: then it has none.
    pub async fn give(&self, pod: &str) -> Result<IdRange, String> {
        if let Some(range) = self.of(pod) {
            return Ok(range);
        }
        let (namespaces, pod) = (self.clone(), pod.to_owned());
        blocking(move || namespaces.give_blocking(&pod)).await.map_err(|why| format!("create user namespace: {why}"))
    }

    fn give_blocking(&self, pod: &str) -> Result<IdRange, String> {
        let range = self.state.lock().next_free(pod)?;
        let written = record::write(&self.pods.join(pod), range);
        written.map_err(|error| {
            self.state.lock().free(pod);
            error.to_string()
        })?;
        Ok(range)
    }

    /// A pod is gone, and its directory with it.
    pub fn release(&self, pod: &str) {
        self.state.lock().free(pod);
    }
}

impl Given {
    /// What a process before this one gave.
    fn take(&mut self, pod: &str, range: IdRange) -> Result<(), String> {
        let place = self.ids.place(range)?;
        if !self.used.insert(place) {
            return Err(format!("range picked for pod {pod:?} already taken"));
        }
        self.by_pod.insert(pod.to_owned(), place);
        Ok(())
    }

    fn next_free(&mut self, pod: &str) -> Result<IdRange, String> {
        let all = self.ids.count();
        let free = (self.next..all).chain(0..self.next.min(all)).find(|place| !self.used.contains(place));
        let place = free.ok_or("could not find an empty slot to allocate a user namespace")?;
        self.next = place + 1;
        self.used.insert(place);
        self.by_pod.insert(pod.to_owned(), place);
        Ok(self.ids.range(place))
    }

    fn free(&mut self, pod: &str) {
        if let Some(place) = self.by_pod.remove(pod) {
            self.used.remove(&place);
        }
    }
}

/// The uids of pods that have a directory.
fn pods(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for three pods.
    fn ids() -> NodeIds {
        NodeIds::new(65_536, 3 * 65_536, 65_536, 3).expect("as many as pods")
    }

    fn pod(root: &Path, uid: &str) {
        fs::create_dir_all(root.join("pods").join(uid)).expect("makes");
    }

    fn first(range: Result<IdRange, String>) -> Result<u32, String> {
        range.map(|range| range.first / 65_536)
    }

    #[tokio::test]
    async fn each_pod_has_ids_of_its_own_also_after_a_restart() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path();
        ["a", "b", "c", "d"].iter().for_each(|uid| pod(root, uid));
        let given = UserNamespaces::start(root, ids()).expect("starts");
        assert_eq!((given.of("a"), first(given.give("a").await)), (None, Ok(1)));
        assert_eq!((first(given.give("b").await), first(given.give("a").await)), (Ok(2), Ok(1)), "what it has it keeps");
        let given = UserNamespaces::start(root, ids()).expect("goes on");
        assert_eq!(given.of("b"), Some(IdRange { first: 2 * 65_536, length: 65_536 }));
        assert_eq!(first(given.give("c").await), Ok(3));
        assert_eq!(first(given.give("d").await), Err("create user namespace: could not find an empty slot to allocate a user namespace".into()));
        given.release("b");
        assert_eq!((given.of("b"), first(given.give("d").await)), (None, Ok(2)));
    }

    #[tokio::test]
    async fn what_was_given_back_is_given_out_last() {
        let place = tempfile::tempdir().expect("a directory");
        ["a", "b"].iter().for_each(|uid| pod(place.path(), uid));
        let given = UserNamespaces::start(place.path(), ids()).expect("starts");
        assert_eq!(first(given.give("a").await), Ok(1));
        given.release("a");
        assert_eq!(first(given.give("b").await), Ok(2));
    }

    #[tokio::test]
    async fn ids_that_are_not_on_disk_are_nobodys() {
        let place = tempfile::tempdir().expect("a directory");
        let given = UserNamespaces::start(place.path(), ids()).expect("starts");
        assert!(given.give("nowhere").await.expect_err("it has no directory").starts_with("create user namespace: "));
        assert_eq!(given.of("nowhere"), None);
    }

    #[test]
    fn what_does_not_fit_is_told_at_the_start() {
        let place = tempfile::tempdir().expect("a directory");
        pod(place.path(), "a");
        pod(place.path(), "b");
        for uid in ["a", "b"] {
            record::write(&place.path().join("pods").join(uid), ids().range(1)).expect("writes");
        }
        let why = |ids: NodeIds| UserNamespaces::start(place.path(), ids).map(drop).expect_err("refused");
        assert_eq!(why(ids()), "record pod mappings for existing pod \"b\": range picked for pod \"b\" already taken");
        let longer = NodeIds::new(131_072, 3 * 131_072, 131_072, 3).expect("as many as pods");
        assert_eq!(why(longer), "record pod mappings for existing pod \"a\": wrong user namespace length 65536");
    }
}
