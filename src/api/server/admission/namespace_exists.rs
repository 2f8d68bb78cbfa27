//! `NamespaceExists`: nothing is written in a namespace that is not there. `NamespaceLifecycle` says the same of creates.

use std::sync::Arc;

use async_trait::async_trait;
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    status::Status,
    stored::StoredObject,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceExists;

impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CHANGES
    }
}

#[async_trait]
impl ValidatingPlugin for NamespaceExists {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if request.operation == Operation::Connect || request.target.namespace.is_empty() {
            return Ok(());
        }
        namespace_of(request).await.map(drop)
    }
}

/// The namespace that the object is in.
///
/// # Errors
/// 404 where it is not there.
pub async fn namespace_of(request: &Attributes<'_>) -> Result<Arc<StoredObject>, Status> {
    let namespaces = GroupResource::new("", "namespaces");
    let key = ObjectKey::cluster(request.target.namespace.clone());
    let found = match request.reads.listers().get(&namespaces, &key) {
        Some(namespace) => Some(namespace),
        None => request.reads.live(&namespaces, &key).await?,
    };
    found.ok_or_else(|| Status::not_found(&namespaces, &key.name))
}
