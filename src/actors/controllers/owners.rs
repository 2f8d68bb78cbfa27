//! Controller references: whose object is it, may it be adopted, and doing so.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    projection::MetaProjection,
    service::PatchType,
    status::Status,
    stored::KubeObject,
};
use troupe_api_client::Api;

use crate::runtime::{
    cache::{Cache, Change},
    controller::ReconcileContext,
};

/// The directive of a strategic merge patch that takes finalizers away.
const DELETE_FINALIZERS: &str = "$deleteFromPrimitiveList/finalizers";

/// What a controller should do about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours and matches.
    Owned,
    /// It is ours but no longer matches.
    Release,
    /// It matches and has no controller.
    Adopt,
    /// Somebody else's, or of no interest.
    Ignore,
}

/// `PodControllerRefManager.ClaimObject`: by controller reference (uid) and selector.
pub fn claim(owner: &ObjectMeta, object: &ObjectMeta, selector: &LabelSelector) -> Claim {
    claim_if(owner, object, selector.selects(object))
}

/// The same where more than the selector says whether an object `matches`.
pub fn claim_if(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let controller = controller_of(object).map(|reference| &*reference.uid);
    decide(owner, controller, object.deletion_timestamp.is_some(), matches)
}

/// The same of an object whose metadata alone are there.
pub fn claim_by_meta(owner: &ObjectMeta, object: &MetaProjection, selector: &LabelSelector) -> Claim {
    claim_by_meta_if(owner, object, selector.matches_projection(&object.labels))
}

fn claim_by_meta_if(owner: &ObjectMeta, object: &MetaProjection, matches: bool) -> Claim {
    let controller = object.controller().map(|reference| &*reference.uid);
    decide(owner, controller, object.deletion_timestamp.is_some(), matches)
}

/// `controller` is the UID of the object's.
fn decide(owner: &ObjectMeta, controller: Option<&str>, is_leaving: bool, matches: bool) -> Claim {
    match controller {
        Some(uid) if Some(uid) == owner.uid.as_deref() => {
            if matches {
                Claim::Owned
            } else {
                Claim::Release
            }
        }
        Some(_) => Claim::Ignore,
        None if matches && !is_leaving && owner.deletion_timestamp.is_none() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The object that a plan was made for is still there, and nobody has deleted it since: a long plan asks between its steps.
pub fn is_staying<K: KubeObject>(cache: &Cache<K>, object: &K) -> bool {
    let meta = object.metadata();
    let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let uid = meta.uid.as_deref().unwrap_or_default();
    let is_leaving = meta.deletion_timestamp.is_some();
    cache.stored(&key).is_some_and(|stored| *stored.meta().uid == *uid && stored.meta().deletion_timestamp.is_some() == is_leaving)
}

/// What becomes of objects that an owner has or could have.
pub struct Claimed<'a, K> {
    /// Those that are the owner's, with those that become so.
    pub ours: Vec<&'a Arc<K>>,
    pub adopted: Vec<Named>,
    pub released: Vec<Named>,
}

/// An object's name and UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub uid: String,
}

impl Named {
    fn of(meta: &ObjectMeta) -> Self {
        Named { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone().unwrap_or_default() }
    }

    /// The object of these metadata.
    pub fn by_meta(meta: &MetaProjection) -> Self {
        Named { name: meta.name.to_string(), uid: meta.uid.to_string() }
    }
}

/// Sorts out whose objects are whose (`PodControllerRefManager.ClaimPods`), in their order.
pub fn claimed<'a, K: KubeObject>(owner: &ObjectMeta, objects: impl IntoIterator<Item = &'a Arc<K>>, matches: impl Fn(&K) -> bool) -> Claimed<'a, K> {
    let claim = |object: &K| claim_if(owner, object.metadata(), matches(object));
    sorted_out(objects, claim, |object| Named::of(object.metadata()))
}

/// The same for what has the metadata that `meta` gives of it.
pub fn claimed_by_meta<'a, O>(
    owner: &ObjectMeta,
    objects: &'a [Arc<O>],
    meta: impl Fn(&O) -> &MetaProjection,
    matches: impl Fn(&MetaProjection) -> bool,
) -> Claimed<'a, O> {
    let claim = |object: &O| claim_by_meta_if(owner, meta(object), matches(meta(object)));
    sorted_out(objects, claim, |object| Named::by_meta(meta(object)))
}

fn sorted_out<'a, O: 'a>(objects: impl IntoIterator<Item = &'a Arc<O>>, claim: impl Fn(&O) -> Claim, named: impl Fn(&O) -> Named) -> Claimed<'a, O> {
    let mut claimed = Claimed { ours: Vec::new(), adopted: Vec::new(), released: Vec::new() };
    for object in objects {
        match claim(object) {
            Claim::Owned => claimed.ours.push(object),
            Claim::Adopt => {
                claimed.adopted.push(named(object));
                claimed.ours.push(object);
            }
            Claim::Release => claimed.released.push(named(object)),
            Claim::Ignore => {}
        }
    }
    claimed
}

/// The owner reference that is marked as controller.
pub fn controller_of(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

/// The metadata of a changed object that has no controller, as they are now.
pub fn orphaned<K: KubeObject>(change: &Change<K>) -> Option<&MetaProjection> {
    change.meta_after().filter(|meta| meta.controller().is_none())
}

/// The reference that makes `owner` the controller of an object; the owner's deletion waits for it in foreground.
pub fn controller_reference<K: KubeObject>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Takes objects of one kind in for an owner, and lets them go.
pub struct Adopter<'a, O: KubeObject> {
    api: Api<O>,
    namespace: &'a str,
    owner: OwnerReference,
    cache: &'a Cache<O>,
    cx: &'a ReconcileContext,
    finalizer: Option<&'static str>,
}

impl<'a, O: KubeObject> Adopter<'a, O> {
    /// `cache` is the one in which the writes will show.
    pub fn new<K: KubeObject>(owner: &'a K, cache: &'a Cache<O>, cx: &'a ReconcileContext) -> Self {
        let namespace = owner.metadata().namespace.as_deref().unwrap_or_default();
        Adopter { api: cx.client().namespaced(namespace), namespace, owner: controller_reference(owner), cache, cx, finalizer: None }
    }

    /// Gives what is taken in this finalizer, and takes it from what is let go.
    pub fn with_finalizer(self, finalizer: &'static str) -> Self {
        Adopter { finalizer: Some(finalizer), ..self }
    }

    /// Makes the owner the controller of the object of this name that has this UID; nothing where it is gone or another's.
    pub async fn adopt(&self, name: &str, uid: &str) -> Result<(), Status> {
        // The UID in the patch keeps it from hitting a namesake.
        let mut patch = json!({"metadata": {"uid": uid, "ownerReferences": [self.owner]}});
        if let Some(finalizer) = self.finalizer {
            patch["metadata"]["finalizers"] = json!([finalizer]);
        }
        self.patch(name, uid, &patch).await
    }

    /// Takes the owner out of the object's owners.
    pub async fn release(&self, name: &str, uid: &str) -> Result<(), Status> {
        let mut patch = json!({"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": self.owner.uid}]}});
        if let Some(finalizer) = self.finalizer {
            patch["metadata"][DELETE_FINALIZERS] = json!([finalizer]);
        }
        self.patch(name, uid, &patch).await
    }

    /// Takes the finalizer away, if there is one to take.
    pub async fn remove_finalizer(&self, name: &str, uid: &str) -> Result<(), Status> {
        let Some(finalizer) = self.finalizer else { return Ok(()) };
        self.shown(name, uid, remove_finalizer(&self.api, name, uid, finalizer).await?);
        Ok(())
    }

    async fn patch(&self, name: &str, uid: &str, patch: &Value) -> Result<(), Status> {
        self.shown(name, uid, skip_gone(self.api.patch(name, "", PatchType::StrategicMerge, patch).await)?);
        Ok(())
    }

    fn shown(&self, name: &str, uid: &str, written: Option<Arc<O>>) {
        match written {
            Some(written) => self.cx.wrote(self.cache, &*written),
            // Whoever keeps finalizers counts what is gone.
            None if self.finalizer.is_some() => self.cx.deleted(self.cache, ObjectKey::new(self.namespace, name), uid),
            None => {}
        }
    }
}

/// Takes a finalizer away.
pub async fn remove_finalizer<K: KubeObject>(api: &Api<K>, name: &str, uid: &str, finalizer: &str) -> Result<Option<Arc<K>>, Status> {
    let patch = json!({"metadata": {"uid": uid, DELETE_FINALIZERS: [finalizer]}});
    skip_gone(api.patch(name, "", PatchType::StrategicMerge, &patch).await)
}

/// `None` where the object is gone, or is another one of its name: that is a UID which does not fit (422, as upstream). A
/// conflict is tried again.
fn skip_gone<K>(result: Result<Arc<K>, Status>) -> Result<Option<Arc<K>>, Status> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.is_not_found() || status.code == 422 => Ok(None),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::{controllers::pod_digest::PodDigest, runtime::cache::digest_of};

    /// A pod of this name, labelled `app: web` or not, whose controller has this UID.
    fn pod(name: &str, labelled: bool, controller: Option<&str>) -> Arc<Pod> {
        let references = controller.map(|uid| json!([{"apiVersion": "v1", "kind": "K", "name": "k", "uid": uid, "controller": true}]));
        let labels = if labelled { json!({"app": "web"}) } else { json!({}) };
        let pod = json!({"metadata": {"name": name, "uid": format!("{name}-uid"), "labels": labels, "ownerReferences": references}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn what_matches_is_ours_and_what_no_longer_does_is_let_go() {
        let pods = [
            pod("ours", true, Some("me")),
            pod("orphan", true, None),
            pod("strayed", false, Some("me")),
            pod("stranger", false, None),
            pod("theirs", true, Some("other")),
        ];
        let selector = LabelSelector::parse("app=web").expect("parses");
        let mut owner = ObjectMeta { uid: Some("me".into()), ..ObjectMeta::default() };
        let claimed = super::claimed(&owner, &pods, |pod| selector.selects(&pod.metadata));
        let named = |name: &str| Named { name: name.into(), uid: format!("{name}-uid") };
        assert_eq!(claimed.ours, [&pods[0], &pods[1]]);
        assert_eq!((claimed.adopted, claimed.released), (vec![named("orphan")], vec![named("strayed")]));
        let digests: Vec<Arc<PodDigest>> = pods.iter().map(|pod| digest_of::<Pod, PodDigest>(pod)).collect();
        let by_meta = claimed_by_meta(&owner, &digests, |pod: &PodDigest| &pod.meta, |meta| selector.matches_projection(&meta.labels));
        let names: Vec<&str> = by_meta.ours.iter().map(|pod| &*pod.meta.name).collect();
        assert_eq!((names, by_meta.adopted, by_meta.released), (vec!["ours", "orphan"], vec![named("orphan")], vec![named("strayed")]));
        // Who is being deleted takes nothing in any more.
        owner.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let claimed = super::claimed(&owner, &pods, |pod| selector.selects(&pod.metadata));
        assert_eq!((claimed.ours, claimed.adopted), (vec![&pods[0]], vec![]));
    }
}
