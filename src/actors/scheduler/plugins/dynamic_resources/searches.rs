//! Searches for devices that take longer than a decision may: they are put off, made aside, and what came of them is taken when their pod is
//! tried anew. Where they found nothing, that is remembered for as long as nothing changed that may help: whoever is tried again and again
//! is searched for once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::api::resource::Quantity};
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;

use crate::scheduler::framework::Rejection;

/// How often a pod's devices are searched aside in one attempt: what was found may be gone when it is to be taken.
const MOST_ROUNDS: u32 = 3;
/// Of how many pods searches are kept. There are few at a time; those of pods that are gone may be left.
const MOST_PODS: usize = 1_000;
/// For how many pods and nodes together it is remembered that nothing was found.
const MOST_REMEMBERED: usize = 50_000;
/// A search that took too long is tried again after so long though nothing changed: the machine may have been busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of a search for devices on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There are these, by their names.
    Devices(Arc<HashSet<String>>),
    Rejected(Rejection),
    /// Its time was over.
    TimedOut,
    /// It did not begin: other nodes took all the time, or one had what was wanted.
    Skipped,
}

/// What that nothing was found rests upon, beside the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) pod: Option<String>,
    /// UIDs and versions of the pod's claims.
    pub(super) claims: Vec<(Option<String>, Option<String>)>,
    /// See `DeviceCaches::changes`.
    pub(super) changes: u64,
}

/// What came of the searches of a round.
#[derive(Default)]
pub(super) struct Round {
    /// Where nothing that was found is to be remembered it has none.
    pub(super) basis: Option<Basis>,
    pub(super) nodes: Vec<(Arc<Node>, Found)>,
    /// The selector that took most of the time, where one took much.
    pub(super) costliest: Option<String>,
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

/// How far a search aside is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its namespace's turn is still to come.
    Waiting,
    Searching,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Searching => "searching",
        }
    }
}

#[derive(Default)]
struct Searched {
    put_off: Vec<Arc<Node>>,
    /// By the names of nodes.
    found: HashMap<String, Found>,
    rounds: u32,
    /// What goes on aside, if anything.
    stage: Option<Stage>,
    /// See [`Round::costliest`].
    costliest: Option<String>,
}

/// Where nothing was found for a pod.
struct Failed {
    basis: Basis,
    /// By the names of nodes, with the time when that ends to count.
    nodes: HashMap<String, (Arc<Node>, Found, Option<Instant>)>,
    /// See [`Round::costliest`].
    costliest: Option<String>,
}

#[derive(Default)]
struct Known {
    pods: HashMap<ObjectKey, Searched>,
    failed: HashMap<ObjectKey, Failed>,
    /// Nodes of all that failed.
    remembered: usize,
    /// Pods whose searches take longer than a decision may.
    slow: HashSet<ObjectKey>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Searches(Mutex<Known>);

pub(super) fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl Searches {
    /// What came of a search for a pod's devices on a node, if there was one.
    pub(super) fn found(&self, pod: &ObjectKey, node: &Node) -> Option<Found> {
        self.0.lock().pods.get(pod)?.found.get(name_of(node)).cloned()
    }

    /// That nothing was found on a node before, if that still counts.
    pub(super) fn failed(&self, pod: &ObjectKey, basis: &Basis, node: &Arc<Node>, now: Instant) -> Option<Found> {
        let known = self.0.lock();
        let failed = known.failed.get(pod).filter(|failed| failed.basis == *basis)?;
        let (searched, found, until) = failed.nodes.get(name_of(node))?;
        (is_same_to_searches(searched, node) && until.is_none_or(|until| now < until)).then(|| found.clone())
    }

    /// A pod is looked at: what is put off from now on is what counts.
    pub(super) fn begin(&self, pod: &ObjectKey) {
        if let Some(searched) = self.0.lock().pods.get_mut(pod) {
            searched.put_off.clear();
            searched.stage = None;
        }
    }

    /// How far the search aside for a pod's devices is.
    pub(super) fn set_stage(&self, pod: &ObjectKey, stage: Stage) {
        if let Some(searched) = self.0.lock().pods.get_mut(pod) {
            searched.stage = Some(stage);
        }
    }

    /// A selector took much of the time of a search for a pod's devices.
    pub(super) fn note_costliest(&self, pod: &ObjectKey, costliest: Option<String>) {
        if let Some(searched) = self.0.lock().pods.get_mut(pod).filter(|_| costliest.is_some()) {
            searched.costliest = costliest;
        }
    }

    /// For people: the pods that are searched for aside, and those for which a search took too long, which counts until it is forgotten.
    pub(super) fn list(&self, now: Instant) -> Vec<Value> {
        let known = self.0.lock();
        let mut told: BTreeMap<String, Value> = BTreeMap::new();
        for (pod, failed) in &known.failed {
            let late = failed.nodes.values().filter(|(_, found, until)| *found == Found::TimedOut && until.is_none_or(|until| now < until)).count();
            if late > 0 && told.len() < MOST_PODS {
                told.insert(pod.to_string(), json!({"pod": pod.to_string(), "state": "timedOut", "nodes": late, "selector": failed.costliest}));
            }
        }
        for (pod, searched) in &known.pods {
            if let Some(stage) = searched.stage {
                told.insert(pod.to_string(), json!({"pod": pod.to_string(), "state": stage.name(), "selector": searched.costliest}));
            }
        }
        told.into_values().collect()
    }

    /// Whether a pod's devices took too long before.
    pub(super) fn is_slow(&self, pod: &ObjectKey) -> bool {
        self.0.lock().slow.contains(pod)
    }

    /// Searches for a pod's devices take too long for decisions.
    pub(super) fn set_slow(&self, pod: &ObjectKey) {
        let mut known = self.0.lock();
        // Those that still are will be found out again.
        if known.slow.len() >= MOST_PODS {
            known.slow.clear();
        }
        known.slow.insert(pod.clone());
    }

    /// The search on a node takes too long here.
    pub(super) fn put_off(&self, pod: &ObjectKey, node: &Arc<Node>) {
        let mut known = self.0.lock();
        if known.pods.len() >= MOST_PODS && !known.pods.contains_key(pod) {
            known.pods.clear();
        }
        let searched = known.pods.entry(pod.clone()).or_default();
        if !searched.put_off.iter().any(|other| name_of(other) == name_of(node)) {
            searched.put_off.push(node.clone());
        }
    }

    /// Whether something was put off for a pod.
    pub(super) fn is_put_off(&self, pod: &ObjectKey) -> bool {
        self.0.lock().pods.get(pod).is_some_and(|searched| !searched.put_off.is_empty())
    }

    /// What is done for a pod that fits nowhere. Where nothing is searched its attempt is over.
    pub(super) fn next(&self, pod: &ObjectKey) -> Next {
        let mut known = self.0.lock();
        let all = &mut known.pods;
        if let Some(searched) = all.get_mut(pod).filter(|searched| !searched.put_off.is_empty() && searched.rounds < MOST_ROUNDS) {
            searched.rounds += 1;
            return Next::Search(std::mem::take(&mut searched.put_off));
        }
        let Some(searched) = all.remove(pod) else { return Next::Nothing };
        let is_late = |found: &Found| matches!(found, Found::TimedOut | Found::Skipped);
        let late = searched.found.iter().filter(|(_, found)| is_late(found)).map(|(node, _)| node.as_str());
        match late.chain(searched.put_off.iter().map(|node| name_of(node))).min() {
            Some(node) => Next::TimedOut(node.to_owned()),
            None => Next::Nothing,
        }
    }

    /// Searches for a pod's devices came to an end; unless nobody waits for that any more.
    pub(super) fn tell(&self, pod: &ObjectKey, round: Round, now: Instant) {
        let mut known = self.0.lock();
        let Some(searched) = known.pods.get_mut(pod) else { return };
        searched.found.extend(round.nodes.iter().map(|(node, found)| (name_of(node).to_owned(), found.clone())));
        searched.stage = None;
        let Some(basis) = round.basis else { return };
        let costliest = round.costliest;
        for (node, found) in round.nodes {
            let until = match &found {
                Found::Rejected(_) => None,
                Found::TimedOut => Some(now + PATIENCE),
                Found::Devices(_) | Found::Skipped => continue,
            };
            known.remember(pod, &basis, node, (found, until));
        }
        if let Some(failed) = known.failed.get_mut(pod).filter(|_| costliest.is_some()) {
            failed.costliest = costliest;
        }
    }

    /// The attempt on a pod is over, and it has what it wants.
    pub(super) fn forget(&self, pod: &ObjectKey) {
        let mut known = self.0.lock();
        known.pods.remove(pod);
        known.slow.remove(pod);
        known.forget_failed(pod);
    }
}

impl Known {
    fn remember(&mut self, pod: &ObjectKey, basis: &Basis, node: Arc<Node>, (found, until): (Found, Option<Instant>)) {
        if self.remembered >= MOST_REMEMBERED {
            self.failed.clear();
            self.remembered = 0;
        }
        if self.failed.get(pod).is_some_and(|failed| failed.basis != *basis) {
            self.forget_failed(pod);
        }
        let failed = self.failed.entry(pod.clone()).or_insert_with(|| Failed { basis: basis.clone(), nodes: HashMap::new(), costliest: None });
        if failed.nodes.insert(name_of(&node).to_owned(), (node, found, until)).is_none() {
            self.remembered += 1;
        }
    }

    fn forget_failed(&mut self, pod: &ObjectKey) {
        let nodes = self.failed.remove(pod).map_or(0, |failed| failed.nodes.len());
        self.remembered = self.remembered.saturating_sub(nodes);
    }
}

/// Whether nothing differs that decides about devices: which ones a node reaches, and what it offers by itself.
fn is_same_to_searches(one: &Arc<Node>, other: &Arc<Node>) -> bool {
    if Arc::ptr_eq(one, other) {
        return true;
    }
    let (now, then) = (allocatable(one), allocatable(other));
    one.metadata.uid == other.metadata.uid && one.metadata.labels == other.metadata.labels && now == then
}

fn allocatable(node: &Node) -> Option<&BTreeMap<String, Quantity>> {
    node.status.as_ref()?.allocatable.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        Arc::new(node)
    }

    fn round(basis: Option<Basis>, found: &[(&str, Found)]) -> Round {
        let nodes = found.iter().map(|(name, found)| (node(name), found.clone())).collect();
        Round { basis, nodes, costliest: Some("claim n/c, request r, claim n/c: selector #0".into()) }
    }

    #[test]
    fn what_is_put_off_is_searched_and_told_once() {
        let (searches, pod, now) = (Searches::default(), ObjectKey::new("n", "p"), Instant::now());
        assert_eq!(searches.next(&pod), Next::Nothing);
        searches.put_off(&pod, &node("a"));
        searches.put_off(&pod, &node("a"));
        searches.put_off(&pod, &node("b"));
        assert!(searches.is_put_off(&pod));
        assert_eq!(searches.next(&pod), Next::Search(vec![node("a"), node("b")]));
        let rejected = Found::Rejected(Rejection::unresolvable("no"));
        searches.tell(&pod, round(None, &[("a", rejected.clone()), ("b", Found::TimedOut)]), now);
        assert_eq!((searches.found(&pod, &node("a")), searches.found(&pod, &node("b"))), (Some(rejected), Some(Found::TimedOut)));
        assert_eq!(searches.next(&pod), Next::TimedOut("b".into()), "it is tried again later");
        assert_eq!((searches.found(&pod, &node("a")), searches.next(&pod)), (None, Next::Nothing));
        searches.tell(&pod, round(None, &[("a", Found::TimedOut)]), now);
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

    #[test]
    fn that_nothing_was_found_is_remembered_until_something_changes() {
        let (searches, pod, now) = (Searches::default(), ObjectKey::new("n", "p"), Instant::now());
        let basis = Basis { pod: Some("u".into()), claims: vec![(Some("c".into()), Some("1".into()))], changes: 7 };
        let rejected = Found::Rejected(Rejection::unresolvable("no"));
        for name in ["a", "b", "c"] {
            searches.put_off(&pod, &node(name));
        }
        assert!(matches!(searches.next(&pod), Next::Search(_)));
        searches.tell(&pod, round(Some(basis.clone()), &[("a", rejected.clone()), ("b", Found::TimedOut), ("c", Found::Skipped)]), now);
        assert_eq!(searches.next(&pod), Next::TimedOut("b".into()));
        let failed = |basis: &Basis, name: &str, later: u64| searches.failed(&pod, basis, &node(name), now + Duration::from_secs(later));
        assert_eq!((failed(&basis, "a", 0), failed(&basis, "b", 0)), (Some(rejected.clone()), Some(Found::TimedOut)));
        assert_eq!(failed(&basis, "c", 0), None, "nobody searched there");
        assert_eq!((failed(&basis, "a", 301), failed(&basis, "b", 301)), (Some(rejected), None));
        assert_eq!(failed(&Basis { changes: 8, ..basis.clone() }, "a", 0), None, "there may be devices now");
        assert_eq!(failed(&Basis { pod: Some("v".into()), ..basis.clone() }, "a", 0), None, "that is another pod");
        let mut labelled = Node::clone(&node("a"));
        labelled.metadata.labels = Some([("zone".to_owned(), "b".to_owned())].into());
        assert_eq!(searches.failed(&pod, &basis, &Arc::new(labelled), now), None);
        searches.set_slow(&pod);
        searches.forget(&pod);
        assert!(failed(&basis, "a", 0).is_none() && !searches.is_slow(&pod) && searches.0.lock().remembered == 0);
    }

    #[test]
    fn people_are_told_what_goes_on_aside_and_what_took_too_long() {
        let (searches, pod, now) = (Searches::default(), ObjectKey::new("n", "p"), Instant::now());
        searches.put_off(&pod, &node("a"));
        searches.note_costliest(&pod, Some("claim n/c, request r, class gpu: selector #1".into()));
        searches.note_costliest(&pod, None);
        assert!(searches.list(now).is_empty(), "nothing goes on");
        searches.set_stage(&pod, Stage::Waiting);
        let told = json!({"pod": "n/p", "state": "waiting", "selector": "claim n/c, request r, class gpu: selector #1"});
        assert_eq!(searches.list(now), [told]);
        searches.set_stage(&pod, Stage::Searching);
        assert_eq!(searches.list(now)[0]["state"], "searching");
        searches.tell(&pod, round(Some(Basis::default()), &[("a", Found::TimedOut), ("b", Found::Skipped)]), now);
        let told = json!({"pod": "n/p", "state": "timedOut", "nodes": 1, "selector": "claim n/c, request r, claim n/c: selector #0"});
        assert_eq!(searches.list(now), [told]);
        assert!(searches.list(now + PATIENCE).is_empty(), "it is tried again");
        searches.forget(&pod);
        assert!(searches.list(now).is_empty());
    }
}
