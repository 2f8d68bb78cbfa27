//! What happens to one object, from live reads of it and its owners, and from the graph's view of its dependents. Pure.

use std::sync::Arc;

use troupe_api::{meta::Uid, service::Propagation};

use super::graph::{Deletion, FOREGROUND, ORPHAN};

/// What a live read said of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is there.
    Solid,
    /// It is not there, or another object has its name now.
    Absent,
    /// It is there and waits for its dependents to go.
    Waiting,
    /// A namespaced owner of a cluster-scoped object: nothing can be said about it, so nothing is done.
    Impossible,
}

/// A dependent as the graph knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    pub uid: Uid,
    /// Its reference has blockOwnerDeletion.
    pub blocking: bool,
    pub deletion: Deletion,
}

/// What is known about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub deletion: Deletion,
    /// Its finalizers, whether it is being deleted or not.
    pub finalizers: Vec<Arc<str>>,
    pub owners: Vec<(Uid, Owner)>,
    pub dependents: Vec<Dependent>,
}

/// One step, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Takes these owners out of the object.
    DropOwners(Vec<Uid>),
    /// Lets its owners go before it: breaks a circle.
    Unblock,
    Delete(Propagation),
    /// Looks at a dependent.
    Look(Uid),
    /// Takes the object out of a dependent's owners.
    Free(Uid),
    RemoveFinalizer(&'static str),
}

/// Whether an object may stay, and what must happen if not.
pub fn collect(facts: &Facts) -> Vec<Action> {
    if facts.deletion.foreground {
        return finish_foreground(facts);
    }
    if facts.deletion.begun || facts.owners.is_empty() {
        return Vec::new();
    }
    let of = |wanted: Owner| -> Vec<Uid> { facts.owners.iter().filter(|(_, owner)| *owner == wanted).map(|(uid, _)| uid.clone()).collect() };
    if !of(Owner::Impossible).is_empty() {
        return Vec::new();
    }
    let (solid, absent, waiting) = (of(Owner::Solid), of(Owner::Absent), of(Owner::Waiting));
    if !solid.is_empty() {
        let useless: Vec<Uid> = absent.into_iter().chain(waiting).collect();
        return if useless.is_empty() { Vec::new() } else { vec![Action::DropOwners(useless)] };
    }
    if !waiting.is_empty() && !facts.dependents.is_empty() {
        // An owner waits for this object while a dependent of it waits as well: a circle.
        let circle = facts.dependents.iter().any(|dependent| dependent.deletion.foreground);
        let delete = Action::Delete(Propagation::Foreground);
        return if circle { vec![Action::Unblock, delete] } else { vec![delete] };
    }
    vec![Action::Delete(policy(&facts.finalizers))]
}

/// Without owners, an object goes the way its finalizers say.
fn policy(finalizers: &[Arc<str>]) -> Propagation {
    let has = |name: &str| finalizers.iter().any(|finalizer| &**finalizer == name);
    if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    }
}

fn finish_foreground(facts: &Facts) -> Vec<Action> {
    let blocking: Vec<&Dependent> = facts.dependents.iter().filter(|dependent| dependent.blocking).collect();
    if blocking.is_empty() {
        return vec![Action::RemoveFinalizer(FOREGROUND)];
    }
    let looks = blocking.into_iter().filter(|dependent| !dependent.deletion.begun);
    looks.map(|dependent| Action::Look(dependent.uid.clone())).collect()
}

/// Frees the dependents, then lets the object go on with its deletion.
pub fn orphan(facts: &Facts) -> Vec<Action> {
    if !facts.deletion.orphan {
        return Vec::new();
    }
    let frees = facts.dependents.iter().map(|dependent| Action::Free(dependent.uid.clone()));
    frees.chain([Action::RemoveFinalizer(ORPHAN)]).collect()
}
