//! Resources that are read and not stored: what answers them, by their row.

use std::sync::Arc;

use async_trait::async_trait;
use troupe_api::{
    meta::{GroupResource, LabelSelector, Revision},
    service::{ListOptions, ListReply, Target},
    status::Status,
    stored::StoredObject,
};

use super::selection::{check_fields, selection};

/// Makes the objects of one such resource whenever somebody asks.
#[async_trait]
pub trait Computed: Send + Sync {
    fn resource(&self) -> GroupResource;

    /// The object that `target` names.
    ///
    /// # Errors
    /// 404 where there is none.
    async fn get(&self, target: &Target) -> Result<Arc<StoredObject>, Status>;

    /// All objects of a namespace, or of all where it is empty; those that `labels` does not select may be left out.
    async fn list(&self, namespace: &str, labels: &LabelSelector) -> Result<Vec<Arc<StoredObject>>, Status>;
}

/// All resources that are computed.
#[derive(Default)]
pub struct ComputedResources(Vec<Box<dyn Computed>>);

impl ComputedResources {
    pub fn new(resources: Vec<Box<dyn Computed>>) -> Self {
        ComputedResources(resources)
    }

    fn of(&self, target: &Target) -> Result<&dyn Computed, Status> {
        let found = self.0.iter().find(|computed| computed.resource() == target.group_resource());
        found.map(|computed| &**computed).ok_or_else(Status::page_not_found)
    }

    /// GET.
    pub async fn get(&self, target: &Target) -> Result<Arc<StoredObject>, Status> {
        self.of(target)?.get(target).await
    }

    /// LIST, of what the options select.
    pub async fn list(&self, target: &Target, options: &ListOptions) -> Result<ListReply, Status> {
        let computed = self.of(target)?;
        check_fields(target, &options.fields)?;
        let selection = selection(target, &options.labels, &options.fields);
        let items = computed.list(&target.namespace, &options.labels).await?.into_iter().filter(|object| selection.matches(object)).collect();
        Ok(ListReply { items, revision: Revision::ZERO, continue_token: None, remaining: None })
    }
}
