//! What has become of an object's owners: from what the graph knows where that is enough, else from live reads.
//!
//! What does not exist is looked for once: the graph remembers it. What cannot be looked for at all ends the attempt before
//! anything else is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use troupe_api::{
    meta::{GroupVersion, ObjectKey, Uid},
    projection::OwnerProjection,
    resources::Resource,
    service::{Operation, Target},
    status::Status,
    stored::StoredObject,
};
use troupe_api_client::Client;

use super::{
    graph::{Belief, Deletion, Place},
    model::{Absence, Item, absence},
    plan::Owner,
};
use crate::runtime::turn::Turn;

/// Absences that one attempt finds. Then they are remembered, and others get their turn.
pub const ABSENCES: usize = 500;

/// The API as the collector uses it.
#[derive(Clone)]
pub struct Collector {
    pub client: Client,
}

impl Collector {
    /// The owners of an object, in the order of its references. `None` when there are more to be looked for than an attempt
    /// may; `found` then has absences that the next one need not look for.
    pub(super) async fn owners(&self, live: &StoredObject, item: &Item, found: &mut Vec<Absence>) -> Result<Option<Vec<(Uid, Owner)>>, Status> {
        let references = &live.meta().owner_references;
        if let Some(impossible) = self.impossible(references, &item.place.key)? {
            return Ok(Some(vec![(impossible, Owner::Impossible)]));
        }
        let owners: Vec<Absence> = references.iter().map(|owner| absence(owner, &item.place.key)).collect();
        let belief = |owner: &Absence| item.beliefs.get(owner).copied();
        let mut known: BTreeMap<&Absence, Owner> = BTreeMap::new();
        let mut turn = Turn::default();
        for owner in &owners {
            match belief(owner) {
                Some(Belief::Solid) => continue,
                Some(Belief::Absent) => drop(known.insert(owner, Owner::Absent)),
                None if known.contains_key(owner) => continue,
                None => {
                    let state = self.look_up(owner).await?;
                    known.insert(owner, state);
                    if state == Owner::Absent {
                        found.push(owner.clone());
                    }
                }
            }
            if found.len() >= ABSENCES {
                return Ok(None);
            }
            turn.step().await;
        }
        // One that is there is enough. If the graph is mistaken about another one, it will learn that and ask again.
        let mut kept = known.values().any(|owner| *owner == Owner::Solid);
        for owner in owners.iter().filter(|owner| belief(owner) == Some(Belief::Solid)) {
            let state = if kept { Owner::Solid } else { self.look_up(owner).await? };
            kept |= state == Owner::Solid;
            known.insert(owner, state);
        }
        Ok(Some(owners.iter().map(|owner| (owner.0.clone(), known[owner])).collect()))
    }

    /// A namespaced owner of a cluster-scoped object.
    ///
    /// # Errors
    /// When an owner is of a kind that is not served: perhaps it will be.
    fn impossible(&self, owners: &[OwnerProjection], dependent: &ObjectKey) -> Result<Option<Uid>, Status> {
        let mut kinds = BTreeSet::new();
        for owner in owners.iter().filter(|owner| kinds.insert((&owner.api_version, &owner.kind))) {
            let (uid, place) = absence(owner, dependent);
            if self.target(&place)?.resource.namespaced && dependent.namespace.is_empty() {
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }

    /// An owner as it is now. It is looked for in the dependent's own namespace: nobody is owned across namespaces.
    async fn look_up(&self, (uid, place): &Absence) -> Result<Owner, Status> {
        Ok(match self.read(place, uid).await? {
            None => Owner::Absent,
            Some(live) if Deletion::of(live.meta()).foreground => Owner::Waiting,
            Some(_) => Owner::Solid,
        })
    }

    /// Where a place is served.
    ///
    /// # Errors
    /// 500 when it is not.
    pub(super) fn target(&self, place: &Place) -> Result<Target, Status> {
        let GroupVersion { group, version } = GroupVersion::parse(&place.api_version);
        let registry = self.client.service().registry();
        let resource = registry.by_kind(&group, &place.kind).filter(|resource| resource.serves(&version));
        let resource: Arc<Resource> = resource.ok_or_else(|| Status::internal(format!("no resource {} {}", place.api_version, place.kind)))?;
        let namespace = if resource.namespaced { place.key.namespace.clone() } else { "".into() };
        Ok(Target { resource, version, namespace, name: place.key.name.clone(), subresource: "".into() })
    }

    /// The object at a place as of now; `None` when it is gone or another one.
    pub(super) async fn read(&self, place: &Place, uid: &Uid) -> Result<Option<Arc<StoredObject>>, Status> {
        match self.client.call(self.target(place)?, Operation::Get { resource_version: None }).await {
            Ok(reply) => Ok(Some(reply.into_stored()?).filter(|object| object.uid() == *uid)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }
}
