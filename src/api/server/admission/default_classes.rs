//! `DefaultStorageClass` and `DefaultIngressClass`: who names no class gets the one marked as default.

use async_trait::async_trait;
use troupe_api::{
    meta::{GroupResource, Object},
    service::Listers,
    status::Status,
    stored::StoredObject,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin};

const DEFAULT_STORAGE: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const DEFAULT_INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

/// Claims without a storage class.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultStorageClass;

/// Ingresses without an ingress class.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultIngressClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for DefaultStorageClass {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is_main("", "persistentvolumeclaims") {
            return Ok(());
        }
        let classes = GroupResource::new("storage.k8s.io", "storageclasses");
        let reads = request.reads;
        let default = || default_class(reads.listers(), &classes, &DEFAULT_STORAGE);
        let named = |claim: &Object| claim.get(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]).is_some();
        fill(request.object_mut(), "storageClassName", named, default);
        Ok(())
    }
}

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for DefaultIngressClass {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is_main("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let classes = GroupResource::new("networking.k8s.io", "ingressclasses");
        let reads = request.reads;
        let default = || default_class(reads.listers(), &classes, &DEFAULT_INGRESS);
        let named = |ingress: &Object| ingress.get(&["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some();
        fill(request.object_mut(), "ingressClassName", named, default);
        Ok(())
    }
}

/// Names the default class in `spec.FIELD` unless the object has the field or names a class elsewhere.
fn fill(object: Option<&mut Object>, field: &str, named: impl Fn(&Object) -> bool, default: impl Fn() -> Option<String>) {
    let Some(object) = object else { return };
    if object.get(&["spec", field]).is_some() || named(object) {
        return;
    }
    if let Some(class) = default() {
        object.set(&["spec", field], class);
    }
}

/// The class that carries one of `annotations`; of several the newest, then the first by name.
fn default_class(listers: &dyn Listers, classes: &GroupResource, annotations: &[&str]) -> Option<String> {
    let is_default = |class: &StoredObject| {
        let object = class.to_object();
        annotations.iter().any(|annotation| object.str(&["metadata", "annotations", annotation]) == "true")
    };
    let defaults = listers.list(classes, "").into_iter().filter(|class| is_default(class));
    // Listed by name: the first of the newest stays.
    let newest = defaults.reduce(|best, next| if next.meta().creation_timestamp > best.meta().creation_timestamp { next } else { best });
    newest.map(|class| class.key.name.to_string())
}
