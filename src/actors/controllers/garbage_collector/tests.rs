use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use troupe_api::{
    meta::{ObjectKey, Uid},
    projection::OwnerProjection,
    service::Propagation,
};

use super::{
    graph::{Deletion, FOREGROUND, Graph, ORPHAN, Place, Seen, Work},
    plan::{Action, Dependent, Facts, Owner, collect, orphan},
};

fn uid(name: &str) -> Uid {
    Uid(name.into())
}

fn place(namespace: &str, name: &str) -> Place {
    Place { api_version: "v1".into(), kind: "ConfigMap".into(), key: ObjectKey::new(namespace, name) }
}

fn reference(owner: &str) -> OwnerProjection {
    OwnerProjection {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.into(),
        uid: owner.into(),
        controller: false,
        block_owner_deletion: true,
    }
}

fn seen(name: &str, owners: &[&str]) -> Seen {
    let owners = owners.iter().map(|owner| reference(owner)).collect();
    Seen { uid: uid(name), place: place("n", name), owners, deletion: Deletion::default() }
}

#[test]
fn a_dependent_of_an_unknown_owner_is_looked_at_and_one_of_a_known_owner_is_not() {
    let mut graph = Graph::default();
    assert_eq!(graph.observe(seen("child", &["owner"])), [Work::Collect(uid("child"))]);
    let mut graph = Graph::default();
    assert_eq!(graph.observe(seen("owner", &[])), []);
    assert_eq!(graph.observe(seen("child", &["owner"])), []);
    assert_eq!(graph.forget(&uid("owner")), [Work::Collect(uid("child"))]);
}

#[test]
fn an_owner_in_another_namespace_is_reported() {
    let mut graph = Graph::default();
    graph.observe(Seen { place: place("other", "owner"), ..seen("owner", &[]) });
    let work = graph.observe(seen("child", &["owner"]));
    assert_eq!(work, [Work::Report { dependent: uid("child"), owner: uid("owner") }, Work::Collect(uid("child"))]);
    let mut graph = Graph::default();
    graph.observe(seen("child", &["owner"]));
    let work = graph.observe(Seen { place: place("other", "owner"), ..seen("owner", &[]) });
    assert_eq!(work, [Work::Report { dependent: uid("child"), owner: uid("owner") }, Work::Collect(uid("child"))]);
}

#[test]
fn a_foreground_deletion_looks_at_dependents_and_ends_when_they_are_gone() {
    let mut graph = Graph::default();
    graph.observe(seen("owner", &[]));
    graph.observe(seen("child", &["owner"]));
    let deletion = Deletion { begun: true, foreground: true, orphan: false };
    let work = graph.observe(Seen { deletion, ..seen("owner", &[]) });
    assert_eq!(work, [Work::Collect(uid("child")), Work::Collect(uid("owner"))]);
    assert_eq!(graph.forget(&uid("child")), [Work::Collect(uid("owner"))]);
}

#[test]
fn nothing_virtual_stays_when_the_last_reference_to_it_goes() {
    let mut graph = Graph::default();
    graph.observe(seen("child", &["ghost"]));
    assert_eq!(graph.len(), 2);
    graph.observe(seen("child", &[]));
    assert_eq!(graph.len(), 1);
    graph.forget(&uid("child"));
    assert!(graph.is_empty());
}

fn facts(owners: &[Owner]) -> Facts {
    let owners = owners.iter().enumerate().map(|(at, owner)| (uid(&at.to_string()), *owner)).collect();
    Facts { deletion: Deletion::default(), finalizers: Vec::new(), owners, dependents: Vec::new() }
}

#[test]
fn one_solid_owner_keeps_an_object_and_useless_references_go() {
    assert_eq!(collect(&facts(&[Owner::Solid])), []);
    assert_eq!(collect(&facts(&[Owner::Solid, Owner::Absent, Owner::Waiting])), [Action::DropOwners(vec![uid("1"), uid("2")])]);
    assert_eq!(collect(&facts(&[Owner::Absent])), [Action::Delete(Propagation::Background)]);
    assert_eq!(collect(&facts(&[Owner::Absent, Owner::Impossible])), []);
    let kept = Facts { finalizers: vec![ORPHAN.into()], ..facts(&[Owner::Absent]) };
    assert_eq!(collect(&kept), [Action::Delete(Propagation::Orphan)]);
}

#[test]
fn a_circle_of_foreground_deletions_is_broken() {
    let waiting = Deletion { begun: true, foreground: true, orphan: false };
    let dependents = vec![Dependent { uid: uid("d"), blocking: true, deletion: waiting }];
    let in_circle = Facts { dependents, ..facts(&[Owner::Waiting]) };
    assert_eq!(collect(&in_circle), [Action::Unblock, Action::Delete(Propagation::Foreground)]);
}

/// An object in a model of the API.
#[derive(Clone, Debug)]
struct Object {
    owners: Vec<OwnerProjection>,
    finalizers: BTreeSet<&'static str>,
    deleted: bool,
}

/// A model of the API that feeds the graph.
#[derive(Default)]
struct Model {
    objects: BTreeMap<Uid, Object>,
    graph: Graph,
    work: BTreeSet<Work>,
    removed: Vec<Uid>,
    writes: usize,
}

impl Model {
    fn deletion(object: &Object) -> Deletion {
        let has = |name: &str| object.deleted && object.finalizers.contains(name);
        Deletion { begun: object.deleted, foreground: has(FOREGROUND), orphan: has(ORPHAN) }
    }

    fn write(&mut self, uid: &Uid, object: Object) {
        self.writes += 1;
        if object.deleted && object.finalizers.is_empty() {
            self.objects.remove(uid);
            self.removed.push(uid.clone());
            self.work.extend(self.graph.forget(uid));
            return;
        }
        let deletion = Model::deletion(&object);
        let seen = Seen { uid: uid.clone(), place: place("n", &uid.0), owners: object.owners.clone().into(), deletion };
        self.objects.insert(uid.clone(), object);
        self.work.extend(self.graph.observe(seen));
    }

    fn delete(&mut self, uid: &Uid, policy: Propagation) {
        let Some(mut object) = self.objects.get(uid).cloned() else { return };
        object.deleted = true;
        object.finalizers.remove(FOREGROUND);
        object.finalizers.remove(ORPHAN);
        match policy {
            Propagation::Foreground => object.finalizers.extend([FOREGROUND]),
            Propagation::Orphan => object.finalizers.extend([ORPHAN]),
            Propagation::Background => {}
        }
        self.write(uid, object);
    }

    fn facts(&self, uid: &Uid) -> Option<Facts> {
        let object = self.objects.get(uid)?;
        let owners = object.owners.iter().map(|owner| {
            let owner = Uid(owner.uid.clone());
            let state = match self.objects.get(&owner) {
                None => Owner::Absent,
                Some(live) if Model::deletion(live).foreground => Owner::Waiting,
                Some(_) => Owner::Solid,
            };
            (owner, state)
        });
        let dependents = self.graph.dependents(uid).into_iter().map(|(uid, node, reference)| Dependent {
            uid,
            blocking: reference.block_owner_deletion,
            deletion: node.deletion,
        });
        Some(Facts {
            deletion: Model::deletion(object),
            finalizers: object.finalizers.iter().map(|name| Arc::from(*name)).collect(),
            owners: owners.collect(),
            dependents: dependents.collect(),
        })
    }

    fn change(&mut self, uid: &Uid, change: impl FnOnce(&mut Object)) {
        if let Some(mut object) = self.objects.get(uid).cloned() {
            change(&mut object);
            self.write(uid, object);
        }
    }

    fn apply(&mut self, uid: &Uid, action: Action) {
        match action {
            Action::DropOwners(dropped) => self.change(uid, |object| object.owners.retain(|owner| !dropped.iter().any(|uid| uid.0 == owner.uid))),
            Action::Unblock => self.change(uid, |object| object.owners.iter_mut().for_each(|owner| owner.block_owner_deletion = false)),
            Action::Delete(policy) => self.delete(uid, policy),
            Action::Look(uid) => self.work.extend([Work::Collect(uid)]),
            Action::Free(dependent) => self.change(&dependent, |object| object.owners.retain(|owner| owner.uid != uid.0)),
            Action::RemoveFinalizer(finalizer) => self.change(uid, |object| object.finalizers.retain(|name| *name != finalizer)),
        }
    }

    /// Works until nothing is left to do; `pick` chooses what comes next.
    fn settle(&mut self, mut pick: impl FnMut(usize) -> usize) {
        let mut steps = 0;
        while !self.work.is_empty() {
            steps += 1;
            assert!(steps < 10_000, "the collector never rests");
            let at = pick(self.work.len());
            let work = self.work.iter().nth(at).cloned().expect("below the length");
            self.work.remove(&work);
            let (Work::Collect(uid) | Work::Orphan(uid) | Work::Report { dependent: uid, .. }) = &work;
            let Some(facts) = self.facts(uid) else {
                self.work.extend(self.graph.forget(uid));
                continue;
            };
            let actions = if matches!(work, Work::Orphan(_)) { orphan(&facts) } else { collect(&facts) };
            actions.into_iter().for_each(|action| self.apply(uid, action));
        }
    }
}

proptest! {
    #[test]
    fn the_collector_rests_and_leaves_nothing_without_an_owner(
        edges in prop::collection::vec((0usize..8, 0usize..8), 0..14),
        deletions in prop::collection::vec((0usize..8, 0usize..3), 1..4),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..64),
    ) {
        let mut model = Model::default();
        for child in 0..8 {
            // Owners come first, so the graph has no circles; circles have a test of their own.
            let owners = edges.iter().filter(|(owner, dependent)| *dependent == child && owner < dependent).map(|(owner, _)| owner.to_string());
            let owners: BTreeSet<String> = owners.collect();
            let owners = owners.iter().map(|owner| reference(owner)).collect();
            model.write(&uid(&child.to_string()), Object { owners, finalizers: BTreeSet::new(), deleted: false });
        }
        let mut next = 0;
        let mut pick = |len: usize| { next += 1; picks[next % picks.len()].index(len) };
        model.settle(&mut pick);
        prop_assert_eq!(model.objects.len(), 8, "nothing goes while every owner is there");
        for (at, policy) in &deletions {
            let policy = [Propagation::Background, Propagation::Foreground, Propagation::Orphan][*policy];
            model.delete(&uid(&at.to_string()), policy);
            model.settle(&mut pick);
        }
        for (name, object) in &model.objects {
            prop_assert!(!object.deleted, "{name} hangs in its deletion");
            for owner in &object.owners {
                prop_assert!(model.objects.contains_key(&Uid(owner.uid.clone())), "{name} still names {}", owner.uid);
            }
        }
        // Only what was deleted, or once had an owner, may be gone.
        for gone in &model.removed {
            let number: usize = gone.0.parse().expect("a number");
            let owned = edges.iter().any(|(owner, dependent)| *dependent == number && owner < dependent);
            prop_assert!(owned || deletions.iter().any(|(at, _)| *at == number), "{gone} went for no reason");
        }
        let writes = model.writes;
        for name in model.objects.keys().cloned().collect::<Vec<_>>() {
            model.work.insert(Work::Collect(name));
        }
        model.settle(&mut pick);
        prop_assert_eq!(model.writes, writes, "another look writes nothing");
    }
}
