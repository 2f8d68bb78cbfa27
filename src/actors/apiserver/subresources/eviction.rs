//! `pods/eviction`: a deletion that asks politely.

use troupe_api::{
    meta::{Object, Revision},
    service::{ApiReply, Body, DeleteOptions, Propagation},
    status::Status,
};

use super::{admitted_body, created_nothing, pod_target};
use crate::apiserver::{core::Core, write::Writer};

/// POST of an Eviction: deletes the pod with the grace and preconditions it carries.
pub async fn create(core: &Core, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    let (eviction, warnings) = admitted_body(core, writer, body).await?;
    let (url_name, name) = (&*writer.target.name, eviction.name());
    if !name.is_empty() && name != url_name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let target = pod_target(core, &writer.target, url_name)?;
    let pod_writer = Writer { target, ..writer.clone() };
    let options = delete_options(&eviction, writer.options.dry_run)?;
    core.delete(&pod_writer, &options).await?;
    Ok(created_nothing(warnings))
}

fn delete_options(eviction: &Object, dry_run: bool) -> Result<DeleteOptions, Status> {
    let text = |path: &[&str]| Some(eviction.str(path).to_owned()).filter(|text| !text.is_empty());
    let revision = text(&["deleteOptions", "preconditions", "resourceVersion"]);
    let precondition_revision = revision.map(|revision| revision.parse::<Revision>()).transpose();
    let propagation = match eviction.str(&["deleteOptions", "propagationPolicy"]) {
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        _ => None,
    };
    Ok(DeleteOptions {
        dry_run: dry_run || !eviction.list(&["deleteOptions", "dryRun"]).is_empty(),
        grace_period_seconds: eviction.int(&["deleteOptions", "gracePeriodSeconds"]),
        precondition_uid: text(&["deleteOptions", "preconditions", "uid"]),
        precondition_revision: precondition_revision.map_err(|error| Status::bad_request(error.to_string()))?,
        propagation,
    })
}
