//! An object in the version that somebody speaks, and in the one that it is stored in.

use std::sync::Arc;

use super::{Resource, SchemaSource};
use crate::{
    meta::{GroupVersion, Object, limits::MAX_STORED},
    schema::Schema,
    status::Status,
};

/// The schema of a source.
///
/// # Errors
/// 500 where no table has it.
pub fn schema_of(source: &SchemaSource) -> Result<Arc<Schema>, Status> {
    source.get().ok_or_else(|| Status::internal(format!("no schema for {source:?}")))
}

/// Brings an object that was decoded in `version` into the form it is stored in: the storage version with all defaults.
///
/// # Errors
/// 413 when its defaults would make it larger than anything that is stored.
pub fn to_stored_form(resource: &Resource, version: &str, object: &mut Object) -> Result<(), Status> {
    let mut whole = schema_of(&resource.version(version).schema)?.apply_defaults(object);
    if let Some((served, stored)) = differing(resource, version) {
        resource.strategy.convert(object, &served, &stored);
        whole &= schema_of(&resource.storage.schema)?.apply_defaults(object);
    }
    if !whole {
        return Err(Status::too_large(format!("limit is {MAX_STORED}")));
    }
    object.set_gvk(&resource.storage_gvk());
    resource.strategy.default_object(object);
    Ok(())
}

/// A stored object in `version`.
pub fn served_form(resource: &Resource, version: &str, stored: &Object) -> Object {
    let mut object = stored.clone();
    if let Some((served, stored)) = differing(resource, version) {
        resource.strategy.convert(&mut object, &stored, &served);
    }
    object.set_gvk(&resource.gvk(version));
    object
}

/// Served and stored group and version, where they are not the same.
fn differing(resource: &Resource, version: &str) -> Option<(GroupVersion, GroupVersion)> {
    let served = GroupVersion::new(resource.group.clone(), version);
    let stored = GroupVersion::new(resource.storage_group.clone(), resource.storage.version.clone());
    (served != stored).then_some((served, stored))
}
