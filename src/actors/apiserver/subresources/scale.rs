//! The `scale` subresource: `autoscaling/v1 Scale` seen through a workload.

use std::sync::Arc;

use bytes::Bytes;
use troupe_api::{
    meta::{GroupResource, Object, names},
    resources::{
        scale::{set_replicas, to_scale},
        validation,
    },
    service::{ApiReply, Body, FieldValidation, PatchType, ReplyBody, Target},
    status::{FieldError, Status},
    stored::StoredObject,
};

use crate::apiserver::{
    objects,
    write::{Change, Transform, WritePath, check_update},
    writer::Writer,
};

/// The Scale of a workload.
///
/// # Errors
/// 500 where a custom resource does not say how many it wants.
pub fn get(target: &Target, object: &StoredObject) -> Result<ApiReply, Status> {
    let (paths, object) = (target.served().strategy.scale_paths(), object.to_object());
    if let Some(paths) = paths
        && paths.spec_replicas.names().is_none_or(|names| object.get(&names).is_none())
    {
        return Err(Status::internal(format!("the spec replicas field {:?} does not exist", paths.spec_text)));
    }
    Ok(ApiReply::ok(ReplyBody::Tree(to_scale(paths, &object))))
}

/// PUT of a Scale.
pub async fn update(path: &Arc<WritePath>, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    let decoded = objects::decode(&*objects::body_schema(&writer.target)?, body, writer.options.field_validation)?;
    let mut scale = decoded.object;
    check_update(&writer.target, &scale)?;
    scale.set(&["metadata", "namespace"], &*writer.target.namespace);
    check_scale(&writer.target, &scale)?;
    let target = writer.target.clone();
    let transform: Transform = Arc::new(move |workload| {
        check_uid(&target, &scale, workload)?;
        // The version stays unless the scale names one: any will do, also of kinds whose own updates must name it.
        let mut new = workload.clone();
        set_replicas(target.served().strategy.scale_paths(), &mut new, &scale)?;
        Ok(new)
    });
    finish(path, writer, transform, decoded.warnings).await
}

/// PATCH of a Scale.
pub async fn patch(path: &Arc<WritePath>, writer: &Writer, patch_type: PatchType, patch: Bytes) -> Result<ApiReply, Status> {
    let schema = objects::body_schema(&writer.target)?;
    let target = writer.target.clone();
    let patch_type = if patch_type == PatchType::Apply { PatchType::Merge } else { patch_type };
    let transform: Transform = Arc::new(move |workload| {
        let current = to_scale(target.served().strategy.scale_paths(), workload);
        let scale = troupe_api::patch::apply(patch_type, &patch, &current, &schema)?;
        let scale = objects::decode(&schema, Body::Tree(scale), FieldValidation::Ignore)?.object;
        check_update(&target, &scale)?;
        check_scale(&target, &scale)?;
        check_uid(&target, &scale, workload)?;
        let mut new = workload.clone();
        set_replicas(target.served().strategy.scale_paths(), &mut new, &scale)?;
        Ok(new)
    });
    finish(path, writer, transform, Vec::new()).await
}

async fn finish(path: &Arc<WritePath>, writer: &Writer, transform: Transform, warnings: Vec<String>) -> Result<ApiReply, Status> {
    let reply = path.update(writer, Change::Transform(transform), warnings).await?;
    let (code, warnings) = (reply.code, reply.warnings.clone());
    let scale = to_scale(writer.target.served().strategy.scale_paths(), &reply.into_tree()?);
    Ok(ApiReply { body: ReplyBody::Tree(scale), code, warnings })
}

/// What is wrong with a Scale. Of a custom resource, its own rules say how many it may want.
fn check_scale(target: &Target, scale: &Object) -> Result<(), Status> {
    let mut errors = validation::metadata(scale, true, names::subdomain);
    if target.served().strategy.scale_paths().is_none()
        && let Some(replicas) = scale.int(&["spec", "replicas"]).filter(|replicas| *replicas < 0)
    {
        errors.push(FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("autoscaling", "Scale", scale.name(), errors)) }
}

/// A scale that names a uid is meant for that workload and no later one of its name.
fn check_uid(target: &Target, scale: &Object, workload: &Object) -> Result<(), Status> {
    if scale.uid().is_empty() || scale.uid() == workload.uid() {
        return Ok(());
    }
    let resource = GroupResource::new(target.resource.group.clone(), format!("{}/scale", target.resource.plural));
    let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {}", scale.uid(), workload.uid());
    Err(Status::conflict(&resource, workload.name(), why))
}
