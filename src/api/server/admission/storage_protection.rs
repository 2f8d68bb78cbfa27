//! `StorageObjectInUseProtection`: volumes, claims and their classes of attributes are born with the finalizer that keeps them while they
//! are used. The controllers `pvc-protection`, `pv-protection` and `volumeattributesclass-protection-controller` take it away.

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::status::Status;

use super::{Attributes, MutatingPlugin, Operation, Plugin};

/// Keeps a claim while a pod uses it.
pub const PVC_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while it is bound.
pub const PV_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Keeps a class of attributes while a claim or volume names it.
pub const VAC_FINALIZER: &str = "kubernetes.io/vac-protection";

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for StorageObjectInUseProtection {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let finalizer = match () {
            () if request.is_main("", "persistentvolumeclaims") => PVC_FINALIZER,
            () if request.is_main("", "persistentvolumes") => PV_FINALIZER,
            () if request.is_main("storage.k8s.io", "volumeattributesclasses") => VAC_FINALIZER,
            () => return Ok(()),
        };
        let Some(object) = request.object_mut() else { return Ok(()) };
        let mut finalizers = object.list(&["metadata", "finalizers"]).to_vec();
        if !finalizers.contains(&Value::from(finalizer)) {
            finalizers.push(json!(finalizer));
            object.set(&["metadata", "finalizers"], finalizers);
        }
        Ok(())
    }
}
