//! The object in the form that webhooks and policies see it in, and back into the form that the pipeline works with.

use std::{borrow::Cow, sync::Arc};

use serde_json::Value;

use crate::{
    admission::{Operation, Request},
    meta::{GroupVersionKind, Object},
    resources::{
        Resource, SchemaSource,
        forms::{schema_of, served_form, to_stored_form},
        scale::{set_replicas, to_scale},
    },
    schema::raw::Raw,
    service::Target,
    status::Status,
};

/// A resource in one of its versions.
#[derive(Clone, Debug)]
pub struct ResourceName {
    pub row: Arc<Resource>,
    pub version: Arc<str>,
}

/// How somebody who asks to see a request sees its object.
#[derive(Clone, Debug)]
pub struct View {
    /// The resource that a rule names: the request's, or an equivalent one.
    pub resource: ResourceName,
    pub kind: GroupVersionKind,
    pub form: Form,
}

/// A request as expressions see it.
#[derive(Debug)]
pub struct Shown<'a> {
    pub view: View,
    pub object: Option<Cow<'a, Object>>,
    pub old: Option<Cow<'a, Object>>,
    /// The request without its objects, where somebody wants to know.
    pub asked: Option<Value>,
}

impl Shown<'_> {
    pub fn into_owned(&self) -> Shown<'static> {
        let owned = |object: &Option<Cow<'_, Object>>| object.as_ref().map(|object| Cow::Owned(object.clone().into_owned()));
        Shown { view: self.view.clone(), object: owned(&self.object), old: owned(&self.old), asked: self.asked.clone() }
    }
}

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

/// The object in a view.
pub fn shown(view: &View, request: &Request<'_>, object: &Object) -> Object {
    match view.form {
        Form::Whole => served_form(&view.resource.row, &view.resource.version, object),
        Form::Scale => to_scale(request.target.served().strategy.scale_paths(), object),
        Form::Body => {
            let mut body = object.clone();
            body.set_gvk(&view.kind);
            body
        }
    }
}

/// The same, without a copy where the object is as it is shown.
pub fn shown_or_same<'a>(view: &View, request: &Request<'_>, object: &'a Object) -> Cow<'a, Object> {
    let row = &view.resource.row;
    let is_same = view.form != Form::Scale
        && (view.form == Form::Body || row.storage_gvk() == view.kind)
        && *object.kind() == *view.kind.kind
        && object.api_version() == view.kind.api_version();
    if is_same { Cow::Borrowed(object) } else { Cow::Owned(shown(view, request, object)) }
}

/// Why an object is none of its kind any more.
#[derive(Debug)]
pub enum NotTaken {
    /// It has fields that its kind does not have.
    Unknown(String),
    Failed(Status),
}

impl From<NotTaken> for Status {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Unknown(problem) => Status::internal(format!("strict decoding error: {problem}")),
            NotTaken::Failed(status) => status,
        }
    }
}

/// The pipeline's object after somebody made `changed` of what a view showed: decoded by its schema, with all defaults. With `strict`,
/// unknown fields of built-in kinds are errors.
///
/// # Errors
/// When it is no object of its kind any more.
pub fn taken(view: &View, target: &Target, object: &Object, changed: Value, strict: bool) -> Result<Object, NotTaken> {
    let failed = |status| NotTaken::Failed(status);
    let ResourceName { row, version } = &view.resource;
    let source = match view.form {
        Form::Whole => row.version(version).schema.clone(),
        Form::Scale | Form::Body => SchemaSource::Builtin(view.kind.clone()),
    };
    let decoded = schema_of(&source).map_err(failed)?.decode_raw(Raw::from(changed)).map_err(|error| failed(Status::internal(error)))?;
    if let (true, SchemaSource::Builtin(_), Some(problem)) = (strict, &source, decoded.problems.first()) {
        return Err(NotTaken::Unknown(problem.to_string()));
    }
    let decoded = decoded.object;
    let (kind, api_version) = (decoded.kind(), decoded.api_version());
    if *kind != *view.kind.kind || api_version != view.kind.api_version() {
        let GroupVersionKind { group, version, kind: wanted } = &view.kind;
        return Err(failed(Status::internal(format!("unable to decode {api_version}, Kind={kind} into {group}/{version}, Kind={wanted}"))));
    }
    match view.form {
        Form::Whole => {
            let mut stored = decoded;
            to_stored_form(row, version, &mut stored).map_err(failed)?;
            Ok(stored)
        }
        Form::Scale => {
            let mut scaled = object.clone();
            set_replicas(target.served().strategy.scale_paths(), &mut scaled, &decoded).map_err(failed)?;
            Ok(scaled)
        }
        Form::Body => Ok(decoded),
    }
}
