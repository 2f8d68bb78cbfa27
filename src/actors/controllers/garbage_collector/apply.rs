//! Reads live, carries out plans.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use troupe_api::{
    meta::{Revision, Uid},
    service::{DeleteOptions, Operation, PatchType, Propagation, WriteOptions},
    status::Status,
    stored::StoredObject,
};

use super::{
    graph::{Deletion, Place, Work},
    model::{Absence, Item},
    owners::Collector,
    plan::{self, Action, Facts},
};

/// What came out of a look.
#[derive(Debug, PartialEq)]
pub enum Looked {
    /// The object is not there: the graph should forget it.
    Gone,
    /// Done; these deserve a look as well.
    Done(Vec<Work>),
    /// There are more owners to look for than in one attempt.
    Unfinished,
}

impl Collector {
    /// Looks whether an object may stay. `absent` gets the owners that were found not to exist, also where this fails.
    pub async fn collect(&self, item: Item, absent: &mut Vec<Absence>) -> Result<Looked, Status> {
        let Some(live) = self.read(&item.place, &item.uid).await? else { return Ok(Looked::Gone) };
        let mut facts = facts(&live, &item);
        if facts.deletion.foreground && !item.deletion.foreground {
            // Who depends on it is known up to when its own watch shows that; then it is looked at again.
            return Ok(Looked::Done(Vec::new()));
        }
        if !facts.deletion.begun {
            let Some(owners) = self.owners(&live, &item, absent).await? else { return Ok(Looked::Unfinished) };
            facts.owners = owners;
        }
        self.apply(&item, &live, plan::collect(&facts)).await
    }

    /// Frees the dependents of an object that is deleted that way.
    pub async fn orphan(&self, item: Item) -> Result<Looked, Status> {
        let Some(live) = self.read(&item.place, &item.uid).await? else { return Ok(Looked::Gone) };
        let actions = plan::orphan(&facts(&live, &item));
        self.apply(&item, &live, actions).await
    }

    async fn apply(&self, item: &Item, live: &StoredObject, actions: Vec<Action>) -> Result<Looked, Status> {
        let mut looks = Vec::new();
        let places: BTreeMap<&Uid, &Place> = item.dependents.iter().map(|(dependent, place)| (&dependent.uid, place)).collect();
        // What was decided holds for the version that was read, and for the one that a step of ours makes of it.
        let mut guard = live.revision;
        for action in actions {
            match action {
                Action::Look(uid) => looks.push(Work::Collect(uid)),
                Action::DropOwners(uids) => drop(self.set_owners(item, live, &uids).await?),
                Action::Unblock => match self.unblock(item, live).await? {
                    Some(written) => guard = written,
                    None => return Ok(Looked::Gone),
                },
                Action::Delete(policy) => self.delete(item, live, guard, policy).await?,
                Action::RemoveFinalizer(finalizer) => drop(self.remove_finalizer(item, live, finalizer).await?),
                Action::Free(uid) => {
                    if let Some(place) = places.get(&uid) {
                        self.free(place, &uid, &item.uid).await?;
                    }
                }
            }
        }
        Ok(Looked::Done(looks))
    }

    /// Merge-patches metadata of the version that was read; its UID and revision guard it. The revision that came of it; `None` when the
    /// object is gone.
    async fn patch(&self, place: &Place, live: &StoredObject, mut metadata: Value) -> Result<Option<Revision>, Status> {
        metadata["uid"] = json!(live.uid().to_string());
        metadata["resourceVersion"] = json!(live.revision.to_string());
        let body = json!({"metadata": metadata}).to_string().into();
        let options = WriteOptions { field_manager: "kube-controller-manager".into(), ..WriteOptions::default() };
        let operation = Operation::Patch { patch_type: PatchType::Merge, body, options };
        match self.client.call(self.target(place)?, operation).await {
            Ok(reply) => Ok(Some(reply.into_stored()?.revision)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn set_owners(&self, item: &Item, live: &StoredObject, dropped: &[Uid]) -> Result<Option<Revision>, Status> {
        let dropped: BTreeSet<&str> = dropped.iter().map(|uid| &*uid.0).collect();
        let owners = owners_of(live).into_iter().filter(|owner| owner["uid"].as_str().is_none_or(|uid| !dropped.contains(uid)));
        self.patch(&item.place, live, json!({"ownerReferences": owners.collect::<Vec<_>>()})).await
    }

    async fn unblock(&self, item: &Item, live: &StoredObject) -> Result<Option<Revision>, Status> {
        let mut owners = owners_of(live);
        owners.iter_mut().for_each(|owner| owner["blockOwnerDeletion"] = json!(false));
        self.patch(&item.place, live, json!({"ownerReferences": owners})).await
    }

    async fn remove_finalizer(&self, item: &Item, live: &StoredObject, finalizer: &str) -> Result<Option<Revision>, Status> {
        let left: Vec<&str> = live.meta().finalizers.iter().map(|found| &**found).filter(|found| *found != finalizer).collect();
        self.patch(&item.place, live, json!({"finalizers": left})).await
    }

    async fn free(&self, place: &Place, dependent: &Uid, owner: &Uid) -> Result<(), Status> {
        let Some(live) = self.read(place, dependent).await? else { return Ok(()) };
        let owners = owners_of(&live);
        let kept: Vec<Value> = owners.iter().filter(|reference| reference["uid"] != *owner.0).cloned().collect();
        if kept.len() == owners.len() {
            return Ok(());
        }
        self.patch(place, &live, json!({"ownerReferences": kept})).await.map(drop)
    }

    async fn delete(&self, item: &Item, live: &StoredObject, guard: Revision, policy: Propagation) -> Result<(), Status> {
        let uid = Some(live.uid().to_string());
        let options =
            DeleteOptions { precondition_uid: uid, precondition_revision: Some(guard), propagation: Some(policy), ..DeleteOptions::default() };
        match self.client.call(self.target(&item.place)?, Operation::Delete(options)).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }
}

fn facts(live: &StoredObject, item: &Item) -> Facts {
    let dependents = item.dependents.iter().map(|(dependent, _)| dependent.clone()).collect();
    Facts {
        deletion: Deletion::of(live.meta()),
        finalizers: live.meta().finalizers.iter().map(|finalizer| finalizer.0.clone()).collect(),
        owners: Vec::new(),
        dependents,
    }
}

/// The owner references with every field they have.
fn owners_of(live: &StoredObject) -> Vec<Value> {
    live.to_object().list(&["metadata", "ownerReferences"]).to_vec()
}
