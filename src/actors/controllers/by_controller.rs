//! Objects by their controller: a workload finds its own and those it may adopt without looking at any other.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use troupe_api::{
    meta::LabelSelector,
    projection::MetaProjection,
    stored::{KubeObject, StoredObject},
};

use crate::runtime::cache::Cache;

/// Files each object under the UID of its controller, and those without one under their namespace.
const BY_CONTROLLER: &str = "controller";

/// Makes the cache ready for [`owned`] and [`owned_and_orphans_stored`].
pub fn index<K: KubeObject>(objects: Cache<K>) -> Cache<K> {
    objects.add_meta_index(BY_CONTROLLER, |meta| vec![meta.controller().map_or_else(|| orphans_of(&meta.namespace), |owner| owner.uid.clone())]);
    objects
}

/// No UID looks like it.
fn orphans_of(namespace: &str) -> Arc<str> {
    format!("orphans of {namespace}").into()
}

/// What this owner controls.
pub fn owned<K: KubeObject>(objects: &Cache<K>, owner: &ObjectMeta) -> Vec<Arc<K>> {
    decoded(&owned_stored(objects, owner))
}

/// The same as it is stored: nothing is decoded.
pub fn owned_stored<K: KubeObject>(objects: &Cache<K>, owner: &ObjectMeta) -> Vec<Arc<StoredObject>> {
    owner.uid.as_ref().map(|uid| objects.by_index_stored(BY_CONTROLLER, uid, |_| true)).unwrap_or_default()
}

/// What this owner controls, and what nobody controls in its namespace and is `wanted`, as it is stored.
pub fn owned_and_orphans_stored<K: KubeObject>(
    objects: &Cache<K>,
    owner: &ObjectMeta,
    wanted: impl Fn(&MetaProjection) -> bool,
) -> Vec<Arc<StoredObject>> {
    let mut found = owned_stored(objects, owner);
    found.extend(objects.by_index_stored(BY_CONTROLLER, &orphans_of(owner.namespace.as_deref().unwrap_or_default()), wanted));
    found
}

/// What this owner controls, and what it may adopt by its selector.
pub fn related<K: KubeObject>(objects: &Cache<K>, owner: &ObjectMeta, selector: &LabelSelector) -> Vec<Arc<K>> {
    decoded(&related_stored(objects, owner, selector))
}

/// The same as it is stored: nothing is decoded.
pub fn related_stored<K: KubeObject>(objects: &Cache<K>, owner: &ObjectMeta, selector: &LabelSelector) -> Vec<Arc<StoredObject>> {
    owned_and_orphans_stored(objects, owner, |meta| selector.matches_projection(&meta.labels))
}

fn decoded<K: KubeObject>(objects: &[Arc<StoredObject>]) -> Vec<Arc<K>> {
    objects.iter().filter_map(Cache::<K>::decode).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, from_value, json};
    use troupe_api::{
        decoding::decoded_here,
        meta::{Object, Revision},
    };

    use super::*;

    fn pod(name: &str, namespace: &str, owners: Value) -> Arc<StoredObject> {
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": "a"}, "ownerReferences": owners});
        let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}});
        Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
    }

    #[test]
    fn an_owner_finds_its_own_and_the_orphans_that_it_selects() {
        let reference = |uid: &str, controller: bool| json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": controller}]);
        let pods = [
            pod("mine", "n", reference("u", true)),
            pod("others", "n", reference("v", true)),
            pod("orphan", "n", json!([])),
            pod("held", "n", reference("u", false)),
            pod("far", "m", json!([])),
        ];
        let cache = index(Cache::<Pod>::default());
        cache.replace_now(pods.into_iter().map(|stored| (stored.key.clone(), stored)).collect(), Revision(1));
        let owner: ObjectMeta = from_value(json!({"uid": "u", "namespace": "n"})).expect("metadata");
        let names = |found: Vec<Arc<Pod>>| found.iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>();
        let labels = |value: &str| LabelSelector::from_map([(&"app".to_owned(), &value.to_owned())]);
        assert_eq!(names(owned(&cache, &owner)), ["mine"]);
        assert_eq!(names(related(&cache, &owner, &labels("a"))), ["mine", "held", "orphan"], "only the one marked as controller counts");
        assert_eq!(names(related(&cache, &owner, &labels("b"))), ["mine"]);
        let before = decoded_here();
        let stored = related_stored(&cache, &owner, &labels("a"));
        assert_eq!(stored.iter().map(|stored| &*stored.key.name).collect::<Vec<_>>(), ["mine", "held", "orphan"]);
        assert_eq!(decoded_here(), before);
    }
}
