//! Searches for devices that take longer than a decision may: they are put off, made aside, and what came of them is taken when their pod is
//! tried anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use troupe_api::meta::ObjectKey;

use crate::scheduler::framework::Rejection;

/// How often a pod's devices are searched aside in one attempt: what was found may be gone when it is to be taken.
const MOST_ROUNDS: u32 = 3;
/// Of how many pods searches are kept. There are few at a time; those of pods that are gone may be left.
const MOST_PODS: usize = 1_000;

/// What came of a search for devices on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There are these, by their names.
    Devices(Arc<HashSet<String>>),
    Rejected(Rejection),
    /// Its time was over.
    TimedOut,
}

/// What is done for a pod that fits nowhere.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Devices are searched on these nodes.
    Search(Vec<Arc<Node>>),
    /// The search on this node, and maybe others, took too long.
    TimedOut(String),
    /// All searches came to an end.
    Nothing,
}

#[derive(Default)]
struct Searched {
    put_off: Vec<Arc<Node>>,
    /// By the names of nodes.
    found: HashMap<String, Found>,
    rounds: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Searches(Mutex<HashMap<ObjectKey, Searched>>);

pub(super) fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl Searches {
    /// What came of a search for a pod's devices on a node, if there was one.
    pub(super) fn found(&self, pod: &ObjectKey, node: &Node) -> Option<Found> {
        self.0.lock().get(pod)?.found.get(name_of(node)).cloned()
    }

    /// A pod is looked at: what is put off from now on is what counts.
    pub(super) fn begin(&self, pod: &ObjectKey) {
        if let Some(searched) = self.0.lock().get_mut(pod) {
            searched.put_off.clear();
        }
    }

    /// The search on a node takes too long here.
    pub(super) fn put_off(&self, pod: &ObjectKey, node: &Arc<Node>) {
        let mut all = self.0.lock();
        if all.len() >= MOST_PODS && !all.contains_key(pod) {
            all.clear();
        }
        let searched = all.entry(pod.clone()).or_default();
        if !searched.put_off.iter().any(|other| name_of(other) == name_of(node)) {
            searched.put_off.push(node.clone());
        }
    }

    /// Whether something was put off for a pod.
    pub(super) fn is_put_off(&self, pod: &ObjectKey) -> bool {
        self.0.lock().get(pod).is_some_and(|searched| !searched.put_off.is_empty())
    }

    /// What is done for a pod that fits nowhere. Where nothing is searched its attempt is over.
    pub(super) fn next(&self, pod: &ObjectKey) -> Next {
        let mut all = self.0.lock();
        if let Some(searched) = all.get_mut(pod).filter(|searched| !searched.put_off.is_empty() && searched.rounds < MOST_ROUNDS) {
            searched.rounds += 1;
            return Next::Search(std::mem::take(&mut searched.put_off));
        }
        let Some(searched) = all.remove(pod) else { return Next::Nothing };
        let late = searched.found.iter().filter(|(_, found)| **found == Found::TimedOut).map(|(node, _)| node.as_str());
        match late.chain(searched.put_off.iter().map(|node| name_of(node))).min() {
            Some(node) => Next::TimedOut(node.to_owned()),
            None => Next::Nothing,
        }
    }

    /// Searches for a pod's devices came to an end; unless nobody waits for that any more.
    pub(super) fn tell(&self, pod: &ObjectKey, found: Vec<(String, Found)>) {
        if let Some(searched) = self.0.lock().get_mut(pod) {
            searched.found.extend(found);
        }
    }

    /// The attempt on a pod is over.
    pub(super) fn forget(&self, pod: &ObjectKey) {
        self.0.lock().remove(pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        Arc::new(node)
    }

    #[test]
    fn what_is_put_off_is_searched_and_told_once() {
        let (searches, pod) = (Searches::default(), ObjectKey::new("n", "p"));
        assert_eq!(searches.next(&pod), Next::Nothing);
        searches.put_off(&pod, &node("a"));
        searches.put_off(&pod, &node("a"));
        searches.put_off(&pod, &node("b"));
        assert!(searches.is_put_off(&pod));
        assert_eq!(searches.next(&pod), Next::Search(vec![node("a"), node("b")]));
        let rejected = Found::Rejected(Rejection::unresolvable("no"));
        searches.tell(&pod, vec![("a".into(), rejected.clone()), ("b".into(), Found::TimedOut)]);
        assert_eq!((searches.found(&pod, &node("a")), searches.found(&pod, &node("b"))), (Some(rejected), Some(Found::TimedOut)));
        assert_eq!(searches.next(&pod), Next::TimedOut("b".into()), "it is tried again later");
        assert_eq!((searches.found(&pod, &node("a")), searches.next(&pod)), (None, Next::Nothing));
        searches.tell(&pod, vec![("a".into(), Found::TimedOut)]);
        assert_eq!(searches.found(&pod, &node("a")), None, "nobody waits for it");
    }

    #[test]
    fn searches_of_a_pod_end_though_what_they_find_is_always_gone() {
        let (searches, pod) = (Searches::default(), ObjectKey::new("n", "p"));
        for _ in 0..MOST_ROUNDS {
            searches.put_off(&pod, &node("a"));
            assert_eq!(searches.next(&pod), Next::Search(vec![node("a")]));
        }
        searches.put_off(&pod, &node("a"));
        assert_eq!(searches.next(&pod), Next::TimedOut("a".into()));
    }

    #[test]
    fn what_an_earlier_look_put_off_counts_no_more() {
        let (searches, pod) = (Searches::default(), ObjectKey::new("n", "p"));
        searches.put_off(&pod, &node("a"));
        searches.begin(&pod);
        assert!(!searches.is_put_off(&pod));
        assert_eq!(searches.next(&pod), Next::Nothing);
    }
}
