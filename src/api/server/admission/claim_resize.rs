//! `PersistentVolumeClaimResize`: a claim grows only when it is bound, and when its class says that volumes may.

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey, Quantity},
    status::Status,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct PersistentVolumeClaimResize;

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::UPDATES
    }
}

#[async_trait]
impl ValidatingPlugin for PersistentVolumeClaimResize {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if request.operation != Operation::Update || !request.is_main("", "persistentvolumeclaims") {
            return Ok(());
        }
        let (Some(new), Some(old)) = (request.object(), request.old) else { return Ok(()) };
        if size(new) <= size(old) {
            return Ok(());
        }
        if old.str(&["status", "phase"]) != "Bound" {
            return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
        }
        if class(new) == class(old) && may_grow(request, class(new)) {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(request.forbidden(why))
    }
}

fn size(claim: &Object) -> Option<Quantity> {
    claim.str(&["spec", "resources", "requests", "storage"]).parse().ok()
}

fn class(claim: &Object) -> &str {
    claim.annotation(OLD_CLASS).unwrap_or_else(|| claim.str(&["spec", "storageClassName"]))
}

fn may_grow(request: &Attributes<'_>, class: &str) -> bool {
    let classes = GroupResource::new("storage.k8s.io", "storageclasses");
    let found = request.reads.listers().get(&classes, &ObjectKey::cluster(class));
    found.is_some_and(|class| class.to_object().get(&["allowVolumeExpansion"]) == Some(&Value::Bool(true)))
}
