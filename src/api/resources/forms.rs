//! An object in the version that somebody speaks, and in the one that it is worked on and stored in.

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

/// Brings an object that was decoded in `version` into the form it is worked on, with all defaults: the storage version of built-in
/// kinds, its own version where [`Resource::working`] says so.
///
/// # Errors
/// 413 when its defaults would make it larger than anything that is stored.
pub fn to_working_form(resource: &Resource, version: &str, object: &mut Object) -> Result<(), Status> {
    let mut whole = schema_of(&resource.version(version).schema)?.apply_defaults(object);
    if let Some((served, stored)) = differing(resource, version) {
        resource.strategy.convert(object, &served, &stored);
        whole &= schema_of(&resource.storage.schema)?.apply_defaults(object);
    }
    if !whole {
        return Err(Status::too_large(format!("limit is {MAX_STORED}")));
    }
    match resource.versions() {
        Some(_) => object.set_gvk(&resource.gvk(version)),
        None => object.set_gvk(&resource.storage_gvk()),
    }
    resource.strategy.default_object(object);
    Ok(())
}

/// An object in its working form as `version` shows it. One of a custom resource is in its own version, and has to be converted by who
/// wants it in another one.
pub fn served_form(resource: &Resource, version: &str, working: &Object) -> Object {
    let mut object = working.clone();
    if resource.versions().is_some() {
        return object;
    }
    if let Some((served, stored)) = differing(resource, version) {
        resource.strategy.convert(&mut object, &stored, &served);
    }
    object.set_gvk(&resource.gvk(version));
    object
}

/// Served and stored group and version of a built-in kind, where they are not the same.
fn differing(resource: &Resource, version: &str) -> Option<(GroupVersion, GroupVersion)> {
    if resource.versions().is_some() {
        return None;
    }
    let served = GroupVersion::new(resource.group.clone(), version);
    let stored = GroupVersion::new(resource.storage_group.clone(), resource.storage.version.clone());
    (served != stored).then_some((served, stored))
}
