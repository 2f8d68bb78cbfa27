//! An object that the collector looks at, and what is known of its owners.

use std::collections::BTreeMap;

use troupe_api::{
    meta::{ObjectKey, Uid},
    projection::OwnerProjection,
};

use super::{
    graph::{Belief, Deletion, Place, place_of},
    plan::Dependent,
};

/// An owner that is not where a reference says.
pub type Absence = (Uid, Place);

/// What the graph knows of owners.
pub type Beliefs = BTreeMap<Absence, Belief>;

/// Where a reference of a dependent looks for its owner.
pub fn absence(owner: &OwnerProjection, dependent: &ObjectKey) -> Absence {
    (Uid(owner.uid.clone()), place_of(owner, &dependent.namespace))
}

/// An object to look at, with what the graph knows about its surroundings.
pub struct Item {
    pub uid: Uid,
    pub place: Place,
    /// How far its deletion was when a watch showed it last.
    pub deletion: Deletion,
    /// Its dependents, and where they live.
    pub dependents: Vec<(Dependent, Place)>,
    /// What is known of its owners.
    pub beliefs: Beliefs,
}
