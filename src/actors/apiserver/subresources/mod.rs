//! Creates, updates and patches by what they address: the object itself, a subresource, or nothing that is stored.

mod binding;
mod eviction;
mod finalize;
pub mod scale;
mod unstored;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use troupe_api::{
    admission::Operation,
    meta::Object,
    service::{ApiReply, Body, PatchType, ReplyBody, Target, Verb},
    status::Status,
};

use super::{
    core::Core,
    objects,
    write::{Change, Writer},
};

/// What is said to strategic merge patches of custom resources.
const NO_STRATEGIC_MERGE: &str = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// POST.
pub async fn create(core: &Arc<Core>, writer: Writer, body: Body) -> Result<ApiReply, Status> {
    let resource = &writer.target.resource;
    match (&*resource.group, &*resource.plural, &*writer.target.subresource) {
        ("", "pods", "binding") | ("", "bindings", "") => binding::create(core, &writer, body).await,
        ("", "pods", "eviction") => eviction::create(core, &writer, body).await,
        (_, _, "") if resource.verbs.contains(&Verb::Get) => core.create_aside(writer, body).await,
        _ => unstored::create(core, &writer, body).await,
    }
}

/// PUT.
pub async fn update(core: &Core, writer: Writer, body: Body) -> Result<ApiReply, Status> {
    match (&*writer.target.subresource, &*writer.target.resource.plural) {
        ("scale", _) => scale::update(core, &writer, body).await,
        ("finalize", "namespaces") => finalize::update(core, &writer, body).await,
        _ => core.put(&writer, body).await,
    }
}

/// PATCH.
pub async fn patch(core: &Core, writer: Writer, patch_type: PatchType, patch: Bytes) -> Result<ApiReply, Status> {
    if patch_type == PatchType::StrategicMerge && writer.target.resource.is_custom() {
        return Err(Status::unsupported_media_type(NO_STRATEGIC_MERGE));
    }
    match &*writer.target.subresource {
        "scale" => scale::patch(core, &writer, patch_type, patch).await,
        _ => core.update(&writer, Change::Patch { patch_type, patch }, Vec::new()).await,
    }
}

/// Decodes the body of a subresource or an unstored resource, and lets admission see it.
async fn admitted_body(core: &Core, writer: &Writer, body: Body) -> Result<(Object, Vec<String>), Status> {
    let decoded = objects::decode(&*objects::body_schema(&writer.target)?, body, writer.options.field_validation)?;
    let mut object = decoded.object;
    let mut admission = writer.attributes(core, Operation::Create).with_object(&mut object);
    core.admission.admit(&mut admission).await?;
    let admission = writer.attributes(core, Operation::Create).with_object(&object);
    core.admission.validate(&admission).await?;
    Ok((object, decoded.warnings))
}

/// `Status` Success with code 201: what upstream answers to bindings and evictions.
fn created_nothing(warnings: Vec<String>) -> ApiReply {
    ApiReply { warnings, ..ApiReply::created(ReplyBody::Success { details: json!(null) }) }
}

/// The pod whose subresource `target` is, or which a Binding in the namespace names.
fn pod_target(core: &Core, target: &Target, name: &str) -> Result<Target, Status> {
    let resource = core.row("", "pods").ok_or_else(Status::page_not_found)?;
    Ok(Target { resource, version: "v1".into(), namespace: target.namespace.clone(), name: name.into(), subresource: "".into() })
}
