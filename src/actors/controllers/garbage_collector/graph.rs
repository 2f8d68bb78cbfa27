//! The graph of owners and dependents, by UID, over the metadata of all objects. Pure.
//!
//! It follows watches and so may lag: it only says which objects deserve a look. What happens to them is decided from
//! live reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use troupe_api::{
    meta::{ObjectKey, Uid},
    projection::{MetaProjection, OwnerProjection},
};

use crate::runtime::queue::{InTurn, of_nobody};

/// Set on an object that may go only after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Set on an object whose dependents are to be freed.
pub const ORPHAN: &str = "orphan";

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    pub key: ObjectKey,
}

/// How far its deletion is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// It has a deletionTimestamp.
    pub begun: bool,
    /// … and waits for its dependents.
    pub foreground: bool,
    /// … and frees its dependents first.
    pub orphan: bool,
}

impl Deletion {
    pub fn of(meta: &MetaProjection) -> Self {
        let begun = meta.deletion_timestamp.is_some();
        let has = |name: &str| begun && meta.finalizers.iter().any(|finalizer| &**finalizer == name);
        Deletion { begun, foreground: has(FOREGROUND), orphan: has(ORPHAN) }
    }
}

/// An object as a watch showed it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub uid: Uid,
    pub place: Place,
    pub owners: Arc<[OwnerProjection]>,
    pub deletion: Deletion,
}

/// What should be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Whether an object still has a reason to exist, or may go at last.
    Collect(Uid),
    /// Frees the dependents of an object.
    Orphan(Uid),
    /// Tells people that an owner reference points into another namespace.
    Report { dependent: Uid, owner: Uid },
}

impl InTurn for Work {
    fn turn(&self) -> &Arc<str> {
        of_nobody()
    }
}

/// One object. It is virtual while only owner references speak of it.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub owners: Arc<[OwnerProjection]>,
    pub deletion: Deletion,
    pub dependents: BTreeSet<Uid>,
    pub observed: bool,
    /// Where it was looked for and is not. UIDs are given once, so what is absent never comes (back), unless from a backup.
    absent: BTreeSet<Place>,
}

/// What is known of an owner where a reference says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    Absent,
    /// It is there, and not about to go with its dependents; only a little while ago perhaps.
    Solid,
}

/// More wrong places of one UID than this are not remembered; no object has so many references.
const MOST_PLACES: usize = 20_000;

/// All objects by UID.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<Uid, Node>,
}

impl Graph {
    pub fn node(&self, uid: &Uid) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The dependents of an object with the reference that makes them so.
    pub fn dependents(&self, uid: &Uid) -> Vec<(Uid, &Node, &OwnerProjection)> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let known = node.dependents.iter().filter_map(|dependent| Some((dependent.clone(), self.nodes.get(dependent)?)));
        known.filter_map(|(dependent, node)| Some((dependent, node, node.owners.iter().find(|owner| owner.uid == uid.0)?))).collect()
    }

    /// An object was added or changed.
    pub fn observe(&mut self, seen: Seen) -> Vec<Work> {
        let mut work = Vec::new();
        let before = self.nodes.get(&seen.uid).filter(|node| node.observed).map(|node| (node.owners.clone(), node.deletion));
        let (owners_before, deletion_before) = before.clone().unwrap_or_default();
        if before.is_none() {
            work.extend(self.mistaken(&seen));
        }
        // Most changes leave the owners alone, of which there may be thousands.
        let same = before.is_some() && owners_before == seen.owners;
        if !same {
            self.unlink(&seen.uid, &owners_before, &seen.owners);
        }
        let node = self.nodes.entry(seen.uid.clone()).or_insert_with(|| virtual_node(seen.place.clone()));
        node.place = seen.place.clone();
        node.owners.clone_from(&seen.owners);
        node.deletion = seen.deletion;
        node.observed = true;
        node.absent.remove(&seen.place);
        if !same {
            work.extend(self.link(&seen));
        }
        let changed = before.is_some() && !same && !same_owners(&owners_before, &seen.owners);
        // Losing an owner, or no longer blocking one, may end that owner's wait.
        for owner in owners_before.iter().filter(|_| changed) {
            let uid = Uid(owner.uid.clone());
            if self.nodes.get(&uid).is_some_and(|owner| owner.deletion.foreground) {
                work.push(Work::Collect(uid));
            }
        }
        if seen.deletion.orphan && !deletion_before.orphan {
            work.push(Work::Orphan(seen.uid.clone()));
        }
        if seen.deletion.foreground && !deletion_before.foreground {
            work.extend(self.nodes[&seen.uid].dependents.iter().cloned().map(Work::Collect));
            work.push(Work::Collect(seen.uid.clone()));
        }
        if (before.is_none() || changed) && !seen.owners.is_empty() && !seen.deletion.begun && self.is_suspect(&seen) {
            work.push(Work::Collect(seen.uid));
        }
        work
    }

    /// An object is gone: its dependents may have lost their last owner, its owners may have waited for it.
    pub fn forget(&mut self, uid: &Uid) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Collect).collect();
        self.unlink(uid, &node.owners, &[]);
        for owner in node.owners.iter() {
            let owner = Uid(owner.uid.clone());
            if self.nodes.get(&owner).is_some_and(|owner| owner.deletion.foreground) {
                work.push(Work::Collect(owner));
            }
        }
        // Whoever refers to it still does.
        if !node.dependents.is_empty() {
            let place = node.place.clone();
            let ghost = Node { observed: false, owners: Arc::default(), deletion: Deletion::default(), ..node };
            self.nodes.insert(uid.clone(), ghost);
            self.note_absent(uid, place);
        }
        work
    }

    /// A live read did not find an object where a reference says it is.
    pub fn note_absent(&mut self, uid: &Uid, place: Place) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        if node.absent.len() >= MOST_PLACES {
            node.absent.clear();
        }
        node.absent.insert(place);
    }

    /// What is known of the owner that a reference names, in an object of this namespace.
    pub fn belief(&self, owner: &OwnerProjection, namespace: &Arc<str>) -> Option<Belief> {
        let node = self.nodes.get(&Uid(owner.uid.clone()))?;
        let place = place_of(owner, namespace);
        let clusterwide = || Place { key: ObjectKey::cluster(owner.name.clone()), ..place.clone() };
        if node.absent.contains(&place) || node.absent.contains(&clusterwide()) {
            return Some(Belief::Absent);
        }
        self.is_sound(owner, namespace).then_some(Belief::Solid)
    }

    /// UIDs of the objects that watches showed for one resource, for comparing with a new list.
    pub fn observed_of(&self, api_version: &str, kind: &str) -> Vec<Uid> {
        let ours = self.nodes.iter().filter(|(_, node)| node.observed && &*node.place.api_version == api_version && &*node.place.kind == kind);
        ours.map(|(uid, _)| uid.clone()).collect()
    }

    fn link(&mut self, seen: &Seen) -> Vec<Work> {
        let mut work = Vec::new();
        for owner in seen.owners.iter() {
            let uid = Uid(owner.uid.clone());
            let node = self.nodes.entry(uid.clone()).or_insert_with(|| virtual_node(place_of(owner, &seen.place.key.namespace)));
            node.dependents.insert(seen.uid.clone());
            let foreign = node.observed && !node.place.key.namespace.is_empty() && node.place.key.namespace != seen.place.key.namespace;
            if foreign {
                work.push(Work::Report { dependent: seen.uid.clone(), owner: uid });
            }
        }
        work
    }

    fn unlink(&mut self, uid: &Uid, before: &[OwnerProjection], after: &[OwnerProjection]) {
        let kept: BTreeSet<&Arc<str>> = after.iter().map(|owner| &owner.uid).collect();
        for owner in before.iter().filter(|owner| !kept.contains(&owner.uid)) {
            let owner = Uid(owner.uid.clone());
            let Some(node) = self.nodes.get_mut(&owner) else { continue };
            node.dependents.remove(uid);
            if !node.observed && node.dependents.is_empty() {
                self.nodes.remove(&owner);
            }
        }
    }

    /// The owner turned up: dependents that spoke of it as something else, or from elsewhere, deserve a look.
    fn mistaken(&self, seen: &Seen) -> Vec<Work> {
        let namespace = &seen.place.key.namespace;
        let mut work = Vec::new();
        for (uid, dependent, reference) in self.dependents(&seen.uid) {
            let foreign = !namespace.is_empty() && dependent.place.key.namespace != *namespace;
            if foreign {
                work.push(Work::Report { dependent: uid.clone(), owner: seen.uid.clone() });
            }
            if foreign || !names(reference, &seen.place) {
                work.push(Work::Collect(uid));
            }
        }
        work
    }

    /// One of its owners is unknown, waits for its dependents, or is not what the reference says.
    fn is_suspect(&self, seen: &Seen) -> bool {
        seen.owners.iter().any(|owner| !self.is_sound(owner, &seen.place.key.namespace))
    }

    /// The owner is there, does not wait for its dependents, and is what the reference says.
    fn is_sound(&self, owner: &OwnerProjection, namespace: &Arc<str>) -> bool {
        self.nodes.get(&Uid(owner.uid.clone())).is_some_and(|node| {
            let foreign = !node.place.key.namespace.is_empty() && node.place.key.namespace != *namespace;
            node.observed && !node.deletion.foreground && !foreign && names(owner, &node.place)
        })
    }
}

fn same_owners(a: &[OwnerProjection], b: &[OwnerProjection]) -> bool {
    let facts = |owners: &[OwnerProjection]| -> BTreeSet<(Arc<str>, bool)> {
        owners.iter().map(|owner| (owner.uid.clone(), owner.block_owner_deletion)).collect()
    };
    facts(a) == facts(b)
}

fn names(reference: &OwnerProjection, place: &Place) -> bool {
    reference.api_version == place.api_version && reference.kind == place.kind && reference.name == place.key.name
}

/// Where a reference in an object of this namespace looks for the owner.
pub fn place_of(owner: &OwnerProjection, namespace: &Arc<str>) -> Place {
    Place { api_version: owner.api_version.clone(), kind: owner.kind.clone(), key: ObjectKey::new(namespace.clone(), owner.name.clone()) }
}

fn virtual_node(place: Place) -> Node {
    Node { place, owners: Arc::default(), deletion: Deletion::default(), dependents: BTreeSet::new(), observed: false, absent: BTreeSet::new() }
}
