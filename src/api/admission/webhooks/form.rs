//! The object in the form that webhooks see it in, and back into the form that the pipeline works with.

use serde_json::Value;

use super::invocation::{Invocation, ResourceName};
use crate::{
    admission::{Operation, Request},
    meta::{GroupVersionKind, Object},
    resources::{
        SchemaSource,
        forms::{schema_of, served_form, to_working_form},
        scale::{set_replicas, to_scale},
    },
    schema::raw::Raw,
    service::Target,
    status::Status,
};

/// How the object in a review follows from the one in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object itself, in the version that the webhook asks for.
    Whole,
    /// A `Scale` of it.
    Scale,
    /// The pipeline has the body of the request, or the options of a connect: it is shown as it is.
    Body,
}

impl Form {
    /// The form in which a request shows its object.
    pub fn of(request: &Request<'_>) -> Self {
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
    pub fn kind(self, request: &Request<'_>, resource: &ResourceName) -> Result<GroupVersionKind, Status> {
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

/// The object as the webhook of `invocation` sees it.
pub fn shown(invocation: &Invocation, request: &Request<'_>, object: &Object) -> Object {
    match invocation.form {
        Form::Whole => match invocation.converted.find(request, object) {
            Some(converted) => converted.clone(),
            None => served_form(&invocation.resource.row, &invocation.resource.version, object),
        },
        Form::Scale => to_scale(request.target.served().strategy.scale_paths(), object),
        Form::Body => {
            let mut body = object.clone();
            body.set_gvk(&invocation.kind);
            body
        }
    }
}

/// The pipeline's object after a webhook made `changed` of what it was shown: decoded by its schema, with all defaults. One of a custom
/// resource is still in the version that was shown.
///
/// # Errors
/// 500 when it is no object of its kind any more.
pub fn taken(invocation: &Invocation, target: &Target, object: &Object, changed: Value) -> Result<Object, Status> {
    let ResourceName { row, version } = &invocation.resource;
    let source = match invocation.form {
        Form::Whole => row.version(version).schema.clone(),
        Form::Scale | Form::Body => SchemaSource::Builtin(invocation.kind.clone()),
    };
    let decoded = schema_of(&source)?.decode_raw(Raw::from(changed)).map_err(Status::internal)?.object;
    let (kind, api_version) = (decoded.kind(), decoded.api_version());
    if *kind != *invocation.kind.kind || api_version != invocation.kind.api_version() {
        let GroupVersionKind { group, version, kind: wanted } = &invocation.kind;
        return Err(Status::internal(format!("unable to decode {api_version}, Kind={kind} into {group}/{version}, Kind={wanted}")));
    }
    match invocation.form {
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
