//! Objects of custom resources on their way to webhooks and policies that know another version of them, and back.

use std::sync::Arc;

use troupe_api::{
    meta::Object,
    status::{Reason, Status},
};

use super::Form;
use crate::admission::{Attributes, resource_name::ResourceName};

/// The objects of a request in another version; nothing where they are shown as they are.
#[derive(Debug, Default)]
pub struct Converted {
    object: Option<Object>,
    old: Option<Object>,
}

impl Converted {
    /// The objects of a request as `resource` shows them.
    ///
    /// # Errors
    /// 500 where they cannot be converted.
    pub async fn of(request: &Attributes<'_>, resource: &ResourceName, form: Form) -> Result<Arc<Self>, Status> {
        let is_custom = resource.row.versions().is_some();
        if form != Form::Whole || !is_custom || resource.version == request.target.version {
            return Ok(Arc::default());
        }
        let mut converted = Converted::default();
        for (object, place) in [(request.object(), &mut converted.object), (request.old, &mut converted.old)] {
            if let Some(object) = object {
                *place = Some(request.reads.convert(&resource.row, &resource.version, object).await.map_err(internal)?);
            }
        }
        Ok(Arc::new(converted))
    }

    /// What one of the request's objects is.
    pub fn find(&self, request: &Attributes<'_>, object: &Object) -> Option<&Object> {
        let is = |other: Option<&Object>| other.is_some_and(|other| std::ptr::eq(other, object));
        if is(request.old) { self.old.as_ref() } else { self.object.as_ref().filter(|_| is(request.object())) }
    }
}

/// What somebody made of an object, in the version of the request.
///
/// # Errors
/// 500 where it cannot be converted.
pub async fn back(request: &Attributes<'_>, object: Object) -> Result<Object, Status> {
    let target = request.target;
    let (row, version) = (&target.resource, &target.version);
    let is_own = row.versions().is_none_or(|versions| versions.is_of(object.api_version(), version));
    // A scale, or the body of another subresource, is in no version of the resource.
    if is_own || object.kind() != &*row.kind {
        return Ok(object);
    }
    request.reads.convert(row, version, &object).await.map_err(internal)
}

/// As upstream tells it here.
fn internal(status: Status) -> Status {
    if status.reason == Reason::Unknown { Status::internal(status.message) } else { status }
}
