//! Creates, updates and patches by what they address: the object itself, a subresource, or nothing that is stored.

mod binding;
mod eviction;
mod finalize;
mod scale;
mod unstored;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use troupe_api::{
    meta::{Clock, Object},
    resources::{Feature, Resource},
    service::{ApiReply, Body, PatchType, ReplyBody, Target},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::admission::OperationOptions;

use super::{
    admission::Admission,
    authorization::Authorization,
    commit::Committer,
    listers::CacheListers,
    objects::{self, Decoded},
    options::VirtualResources,
    read::Reader,
    write::{Change, WritePath, settle_namespace},
    writer::Writer,
};

/// The subresource that puts a pod on a node.
const BINDING: &str = "binding";
/// What is said to strategic merge patches of custom resources.
const NO_STRATEGIC_MERGE: &str = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// Writes by what they address: the parts that they need.
pub struct Subresources {
    pub path: Arc<WritePath>,
    pub reader: Arc<Reader>,
    pub committer: Arc<Committer>,
    pub admission: Arc<Admission>,
    pub authorization: Arc<Authorization>,
    pub listers: Arc<CacheListers>,
    pub clock: Arc<dyn Clock>,
    /// What answers creates that store nothing.
    pub virtual_resources: Vec<Arc<dyn VirtualResources>>,
}

impl Subresources {
    /// POST.
    pub async fn create(&self, writer: Writer, body: Body) -> Result<ApiReply, Status> {
        let resource = &writer.target.resource;
        match &*writer.target.subresource {
            BINDING => binding::create(self, &writer, body).await,
            "" if resource.has(Feature::Bindings) => binding::create(self, &writer, body).await,
            "eviction" => eviction::create(self, &writer, body).await,
            "" if resource.is_stored() => self.path.create_aside(writer, body).await,
            _ => unstored::create(self, &writer, body).await,
        }
    }

    /// PUT.
    pub async fn update(&self, writer: Writer, body: Body) -> Result<ApiReply, Status> {
        match &*writer.target.subresource {
            "scale" => scale::update(&self.path, &writer, body).await,
            "finalize" => finalize::update(&self.path, &writer, body).await,
            _ => self.path.put(&writer, body).await,
        }
    }

    /// PATCH.
    pub async fn patch(&self, writer: Writer, patch_type: PatchType, patch: Bytes) -> Result<ApiReply, Status> {
        if patch_type == PatchType::StrategicMerge && writer.target.resource.is_custom() {
            return Err(Status::unsupported_media_type(NO_STRATEGIC_MERGE));
        }
        match &*writer.target.subresource {
            "scale" => scale::patch(&self.path, &writer, patch_type, patch).await,
            _ => self.path.update(&writer, Change::Patch { patch_type, patch }, Vec::new()).await,
        }
    }

    /// Decodes the body of a subresource or an unstored resource, puts it in the namespace of the URL, and lets admission see it.
    async fn admitted_body(&self, writer: &Writer, body: Body) -> Result<(Object, Vec<String>), Status> {
        let Decoded { mut object, warnings } = sent(writer, body)?;
        self.admit_sent(writer, &mut object).await?;
        Ok((object, warnings))
    }

    async fn admit_sent(&self, writer: &Writer, object: &mut Object) -> Result<(), Status> {
        let attributes = self.admission.attributes(writer, OperationOptions::Create(&writer.options));
        self.admission.admit(attributes.with_object(object)).await
    }

    /// The object `name` whose subresource `target` is, or which a Binding in the namespace names.
    fn parent_of(&self, target: &Target, name: &str) -> Result<Target, Status> {
        let resource = match target.subresource.is_empty() {
            false => target.resource.clone(),
            true => {
                let registry = self.listers.registry.load();
                let binds = |row: &&Arc<Resource>| row.storage.subresource(BINDING).is_some();
                registry.rows().iter().find(binds).cloned().ok_or_else(Status::page_not_found)?
            }
        };
        let version = resource.storage.version.clone();
        Ok(Target { resource, version, namespace: target.namespace.clone(), name: name.into(), subresource: "".into() })
    }
}

/// The body of a subresource or an unstored resource, in the namespace of the URL.
fn sent(writer: &Writer, body: Body) -> Result<Decoded, Status> {
    let mut decoded = objects::decode(&*objects::body_schema(&writer.target)?, body, writer.options.field_validation)?;
    settle_namespace(&writer.target, &mut decoded.object)?;
    Ok(decoded)
}

/// What a GET of `target` shows of the object.
///
/// # Errors
/// Where the object lacks what the subresource shows.
pub fn shown(target: &Target, object: Arc<StoredObject>) -> Result<ApiReply, Status> {
    match &*target.subresource {
        "scale" => scale::get(target, &object),
        _ => Ok(ApiReply::ok(ReplyBody::Object(object))),
    }
}

/// `Status` Success with code 201: what upstream answers to bindings and evictions.
fn created_nothing(warnings: Vec<String>) -> ApiReply {
    ApiReply { warnings, ..ApiReply::created(ReplyBody::Success { details: json!(null) }) }
}
