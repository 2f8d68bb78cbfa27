//! The `scale` subresource: `autoscaling/v1 Scale` seen through a workload.

use std::sync::Arc;

use bytes::Bytes;
use troupe_api::{
    meta::Object,
    resources::scale::{set_replicas, to_scale},
    service::{ApiReply, Body, FieldValidation, PatchType, ReplyBody, Target},
    status::{FieldError, Status},
    stored::StoredObject,
};

use crate::apiserver::{
    core::Core,
    objects,
    write::{Change, Transform, Writer, check_update},
};

/// The Scale of a workload.
pub fn get(target: &Target, object: &StoredObject) -> ApiReply {
    ApiReply::ok(ReplyBody::Tree(to_scale(&target.resource, &object.to_object())))
}

/// PUT of a Scale.
pub async fn update(core: &Core, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    let decoded = objects::decode(&objects::body_kind(&writer.target), body, writer.options.field_validation)?;
    let scale = decoded.object;
    check_update(&writer.target, &scale)?;
    check_scale(&scale)?;
    let transform: Transform = Arc::new(move |workload| {
        let mut new = workload.clone();
        new.remove(&["metadata", "resourceVersion"]);
        set_replicas(&mut new, &scale);
        Ok(new)
    });
    finish(core, writer, transform, decoded.warnings).await
}

/// PATCH of a Scale.
pub async fn patch(core: &Core, writer: &Writer, patch_type: PatchType, patch: Bytes) -> Result<ApiReply, Status> {
    let gvk = objects::body_kind(&writer.target);
    let schema = objects::schema(&gvk)?;
    let target = writer.target.clone();
    let patch_type = if patch_type == PatchType::Apply { PatchType::Merge } else { patch_type };
    let transform: Transform = Arc::new(move |workload| {
        let current = to_scale(&target.resource, workload);
        let scale = troupe_api::patch::apply(patch_type, &patch, &current, &schema)?;
        let scale = objects::decode(&gvk, Body::Tree(scale), FieldValidation::Ignore)?.object;
        check_update(&target, &scale)?;
        check_scale(&scale)?;
        let mut new = workload.clone();
        set_replicas(&mut new, &scale);
        Ok(new)
    });
    finish(core, writer, transform, Vec::new()).await
}

async fn finish(core: &Core, writer: &Writer, transform: Transform, warnings: Vec<String>) -> Result<ApiReply, Status> {
    let reply = core.update(writer, Change::Transform(transform), warnings).await?;
    let (code, warnings) = (reply.code, reply.warnings.clone());
    let scale = to_scale(&writer.target.resource, &reply.into_tree()?);
    Ok(ApiReply { body: ReplyBody::Tree(scale), code, warnings })
}

fn check_scale(scale: &Object) -> Result<(), Status> {
    match scale.int(&["spec", "replicas"]) {
        Some(replicas) if replicas < 0 => {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            Err(Status::invalid("autoscaling", "Scale", scale.name(), vec![error]))
        }
        _ => Ok(()),
    }
}
