//! ControllerRevisions: the pod templates that a DaemonSet or StatefulSet had, for rolling back.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::json;
use troupe_api::{client::Api, status::Status, stored::KubeObject};

use super::{
    deployment::template::template_hash,
    owners::{controller_of, controller_reference},
};

/// Longer names of owners are cut off in those of their revisions.
const MAX_PREFIX: usize = 223;

/// The revision that records `template`; its label `hash_label` and its name carry the template's hash.
pub fn new<K: KubeObject>(owner: &K, template: &PodTemplateSpec, hash_label: &str, number: i64, collisions: Option<i32>) -> ControllerRevision {
    let hash = template_hash(template, collisions);
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(hash_label.into(), hash.clone());
    let meta = owner.metadata();
    let mut prefix = meta.name.clone().unwrap_or_default();
    prefix.truncate(MAX_PREFIX);
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{hash}")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(patch_to(template))),
        revision: number,
    }
}

/// The strategic merge patch that brings an owner back to `template`.
fn patch_to(template: &PodTemplateSpec) -> serde_json::Value {
    let mut template = serde_json::to_value(template).expect("a template always encodes");
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision records.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let recorded = revision.data.as_ref()?.0.get("spec")?.get("template")?;
    serde_json::from_value(recorded.clone()).ok()
}

/// What became of a revision that was to be made.
pub enum Recorded {
    Made(Arc<ControllerRevision>),
    /// It was made before, and not seen yet.
    Known,
    /// Another template of the same hash, or somebody else, has its name.
    Taken,
}

/// Makes a revision.
pub async fn record(api: &Api<ControllerRevision>, revision: &ControllerRevision) -> Result<Recorded, Status> {
    match api.create(revision).await {
        Ok(made) => Ok(Recorded::Made(made)),
        Err(status) if status.is_already_exists() => {
            let existing = api.get(revision.metadata.name.as_deref().unwrap_or_default()).await?;
            let owner = |revision: &ControllerRevision| controller_of(&revision.metadata).map(|owner| owner.uid.clone());
            let same = owner(&existing) == owner(revision) && template(&existing) == template(revision);
            Ok(if same { Recorded::Known } else { Recorded::Taken })
        }
        Err(status) => Err(status),
    }
}

/// What is said when a revision's name is taken.
pub fn taken(revision: &ControllerRevision) -> String {
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    format!("the name {name} is taken by another controller revision; another hash is tried")
}
