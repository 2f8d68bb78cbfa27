//! ControllerRevisions: the pod templates that a DaemonSet or StatefulSet had, for rolling back.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, StatefulSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::{Value, json};
use troupe_api::{meta::ObjectKey, resources::divisors::fill_divisors, status::Status, stored::KubeObject};
use troupe_api_client::Api;

use super::{
    deployment::template::template_hash,
    owners::{Adopter, controller_of, controller_reference},
    writes::delete_with_uid,
};
use crate::runtime::{
    cache::Cache,
    controller::{ReconcileContext, ReconcileError},
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

/// The template that a revision records, as the API server shows templates now: divisors were not written once.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut recorded = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    if let Some(spec) = recorded.get_mut("spec").and_then(Value::as_object_mut) {
        fill_divisors(spec);
    }
    serde_json::from_value(recorded).ok()
}

/// What keeps its history in ControllerRevisions.
pub trait Revisioned: KubeObject {
    /// The number in its status that makes hashes differ after a collision.
    fn collisions(&mut self) -> &mut Option<i32>;
}

impl Revisioned for DaemonSet {
    fn collisions(&mut self) -> &mut Option<i32> {
        &mut self.status.get_or_insert_default().collision_count
    }
}

impl Revisioned for StatefulSet {
    fn collisions(&mut self) -> &mut Option<i32> {
        &mut self.status.get_or_insert_default().collision_count
    }
}

/// Writes the revisions of one owner.
pub struct RevisionKeeper<'a, K: Revisioned> {
    owner: &'a K,
    owners: &'a Cache<K>,
    revisions: &'a Cache<ControllerRevision>,
    cx: &'a ReconcileContext,
}

impl<'a, K: Revisioned> RevisionKeeper<'a, K> {
    pub fn new(owner: &'a K, owners: &'a Cache<K>, revisions: &'a Cache<ControllerRevision>, cx: &'a ReconcileContext) -> Self {
        RevisionKeeper { owner, owners, revisions, cx }
    }

    fn namespace(&self) -> &str {
        self.owner.metadata().namespace.as_deref().unwrap_or_default()
    }

    fn api(&self) -> Api<ControllerRevision> {
        self.cx.client().namespaced(self.namespace())
    }

    /// Takes revisions in, and lets them go.
    pub fn adopter(&self) -> Adopter<'a, ControllerRevision> {
        Adopter::new(self.owner, self.revisions, self.cx)
    }

    /// Makes a revision. Where its name is taken the owner's collisions are counted, so that the next plan tries another.
    pub async fn create(&self, revision: &ControllerRevision) -> Result<(), ReconcileError> {
        match record(&self.api(), revision).await? {
            Recorded::Made(made) => self.cx.wrote(self.revisions, &*made),
            Recorded::Known => {}
            Recorded::Taken => {
                let mut updated = self.owner.clone();
                let count = updated.collisions();
                *count = Some(count.unwrap_or(0).saturating_add(1));
                let owners: Api<K> = self.cx.client().namespaced(self.namespace());
                self.cx.wrote(self.owners, &*owners.update_status(&updated).await?);
                let name = revision.metadata.name.as_deref().unwrap_or_default();
                return Err(ReconcileError::Other(format!("the name {name} is taken by another controller revision; another hash is tried")));
            }
        }
        Ok(())
    }

    /// Replaces a revision.
    pub async fn update(&self, revision: &ControllerRevision) -> Result<(), Status> {
        self.cx.wrote(self.revisions, &*self.api().update(revision).await?);
        Ok(())
    }

    /// Deletes a revision if it still is the one with this UID.
    pub async fn delete(&self, name: &str, uid: String) -> Result<(), Status> {
        delete_with_uid(&self.api(), name, &uid).await?;
        self.cx.deleted(self.revisions, ObjectKey::new(self.namespace(), name), uid);
        Ok(())
    }
}

/// What became of a revision that was to be made.
enum Recorded {
    Made(Arc<ControllerRevision>),
    /// It was made before, and not seen yet.
    Known,
    /// Another template of the same hash, or somebody else, has its name.
    Taken,
}

async fn record(api: &Api<ControllerRevision>, revision: &ControllerRevision) -> Result<Recorded, Status> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_was_recorded_without_divisors_is_the_same_as_with_them() {
        let recorded = |reference: Value| {
            let variable = json!({"name": "A", "valueFrom": {"resourceFieldRef": reference}});
            let template = json!({"spec": {"containers": [{"name": "c", "env": [variable]}]}, "$patch": "replace"});
            ControllerRevision { data: Some(RawExtension(json!({"spec": {"template": template}}))), ..ControllerRevision::default() }
        };
        let now = template(&recorded(json!({"resource": "limits.cpu", "divisor": "0"})));
        assert!(now.is_some());
        assert_eq!(template(&recorded(json!({"resource": "limits.cpu"}))), now);
        assert_ne!(template(&recorded(json!({"resource": "limits.cpu", "divisor": "1m"}))), now);
    }
}
