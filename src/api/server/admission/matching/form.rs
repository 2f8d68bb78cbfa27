//! The object in the form that webhooks and policies see it in, and back into the form that the pipeline works with.

use std::{borrow::Cow, sync::Arc};

use serde_json::Value;
use troupe_api::{
    meta::{GroupVersionKind, Object},
    resources::{
        SchemaSource,
        forms::{schema_of, served_form, to_working_form},
        scale::{set_replicas, to_scale},
    },
    schema::{Schema, raw::Raw},
    service::Target,
    status::Status,
};

use super::Matched;
use crate::admission::{Attributes, Operation, resource_name::ResourceName};

/// How the object in a review follows from the one in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object itself, in the version of the resource that a rule names.
    Whole,
    /// A `Scale` of it.
    Scale,
    /// The pipeline has the body of the request, or the options of a connect: it is shown as it is.
    Body,
}

impl Form {
    /// The form in which a request shows its object.
    pub fn of(request: &Attributes<'_>) -> Self {
        let target = request.target;
        let Some(subresource) = target.served().subresource(&target.subresource) else { return Form::Whole };
        let is_own = target.resource.subresource_gvk(subresource, &target.version) == target.resource.gvk(&target.version);
        match request.operation {
            Operation::Connect => Form::Body,
            _ if is_own => Form::Whole,
            Operation::Update if subresource.name == "scale" => Form::Scale,
            _ => Form::Body,
        }
    }

    /// The kind that the request's object has when its resource is addressed as `resource`.
    ///
    /// # Errors
    /// When `resource` has no such subresource.
    pub fn kind(self, request: &Attributes<'_>, resource: &ResourceName) -> Result<GroupVersionKind, Status> {
        let subresource = &request.target.subresource;
        if self == Form::Whole {
            return Ok(resource.row.gvk(&resource.version));
        }
        match resource.row.version(&resource.version).subresource(subresource) {
            Some(found) => Ok(resource.row.subresource_gvk(found, &resource.version)),
            None => Err(Status::internal(format!("unable to convert to {}: unknown kind", resource.row.plural))),
        }
    }
}

/// One of the request's objects as whoever matched it sees it.
pub fn shown(matched: &Matched, request: &Attributes<'_>, object: &Object) -> Object {
    matched.converted.find(request, object).cloned().unwrap_or_else(|| shown_as(matched, request.target, object))
}

/// An object as whoever matched the request sees it. One of a custom resource is in that version already.
pub fn shown_as(matched: &Matched, target: &Target, object: &Object) -> Object {
    match matched.form {
        Form::Whole => served_form(&matched.resource.row, &matched.resource.version, object),
        Form::Scale => to_scale(target.served().strategy.scale_paths(), object),
        Form::Body => {
            let mut body = object.clone();
            body.set_gvk(&matched.kind);
            body
        }
    }
}

/// The same, without a copy where the object is shown as it is.
pub fn shown_or_same<'a>(matched: &Matched, target: &Target, object: &'a Object) -> Cow<'a, Object> {
    let has_kind = *object.kind() == *matched.kind.kind && object.api_version() == matched.kind.api_version();
    let is_stored = || matched.resource.row.versions().is_some() || matched.resource.row.storage_gvk() == matched.kind;
    match matched.form {
        Form::Body if has_kind => Cow::Borrowed(object),
        Form::Whole if has_kind && is_stored() => Cow::Borrowed(object),
        _ => Cow::Owned(shown_as(matched, target, object)),
    }
}

/// The schema of objects as they are shown.
///
/// # Errors
/// 500 where there is none.
pub fn shown_schema(matched: &Matched) -> Result<Arc<Schema>, Status> {
    schema_of(&source(matched))
}

fn source(matched: &Matched) -> SchemaSource {
    let ResourceName { row, version } = &matched.resource;
    match matched.form {
        Form::Whole => row.version(version).schema.clone(),
        Form::Scale | Form::Body => SchemaSource::Builtin(matched.kind.clone()),
    }
}

/// The pipeline's object after somebody made `changed` of what it was shown: decoded by its schema, with all defaults. One of a custom
/// resource is in the version that was shown: see [`super::back`].
///
/// # Errors
/// 500 when it is no object of its kind any more.
pub fn taken(matched: &Matched, target: &Target, object: &Object, changed: Value) -> Result<Object, Status> {
    let decoded = shown_schema(matched)?.decode_raw(Raw::from(changed)).map_err(Status::internal)?;
    taken_decoded(matched, target, object, decoded.object)
}

/// The same, where objects of built-in kinds must not have fields that their kind does not know.
///
/// # Errors
/// 500 also where they have some.
pub fn taken_strictly(matched: &Matched, target: &Target, object: &Object, changed: Value) -> Result<Object, Status> {
    let decoded = shown_schema(matched)?.decode_raw(Raw::from(changed)).map_err(Status::internal)?;
    if matches!(source(matched), SchemaSource::Builtin(_)) && !decoded.problems.is_empty() {
        let problems = decoded.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Status::internal(format!("strict decoding error: {problems}")));
    }
    taken_decoded(matched, target, object, decoded.object)
}

fn taken_decoded(matched: &Matched, target: &Target, object: &Object, decoded: Object) -> Result<Object, Status> {
    let ResourceName { row, version } = &matched.resource;
    let (kind, api_version) = (decoded.kind(), decoded.api_version());
    if *kind != *matched.kind.kind || api_version != matched.kind.api_version() {
        let GroupVersionKind { group, version, kind: wanted } = &matched.kind;
        return Err(Status::internal(format!("unable to decode {api_version}, Kind={kind} into {group}/{version}, Kind={wanted}")));
    }
    match matched.form {
        Form::Whole => {
            let mut stored = decoded;
            to_working_form(row, version, &mut stored)?;
            Ok(stored)
        }
        Form::Scale => {
            let mut scaled = object.clone();
            set_replicas(target.served().strategy.scale_paths(), &mut scaled, &decoded)?;
            Ok(scaled)
        }
        Form::Body => Ok(decoded),
    }
}
