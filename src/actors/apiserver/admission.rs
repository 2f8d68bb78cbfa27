//! Admission as the server's parts ask for it: the pipeline, and what its plugins may read.

use std::sync::Arc;

use async_trait::async_trait;
use troupe_api::{
    auth::Authorizer,
    meta::{Clock, GroupResource, Object, ObjectKey},
    quota::LimitedResource,
    resources::{Registry, Resource},
    service::Listers,
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::admission::{Attributes, OperationOptions, Pipeline, Reads};

use super::{authorization::Authorization, listers::CacheListers, read::Reader, writer::Writer};

/// The door of admission.
pub struct Admission {
    pipeline: Pipeline,
    reads: AdmissionReads,
}

struct AdmissionReads {
    reader: Arc<Reader>,
    listers: Arc<CacheListers>,
    authorization: Arc<Authorization>,
    clock: Arc<dyn Clock>,
}

impl Admission {
    pub fn new(
        pipeline: Pipeline,
        reader: Arc<Reader>,
        listers: Arc<CacheListers>,
        authorization: Arc<Authorization>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Admission { pipeline, reads: AdmissionReads { reader, listers, authorization, clock } }
    }

    /// What admission is told of a request with such options; its objects are added.
    pub fn attributes<'a>(&'a self, writer: &'a Writer, options: OperationOptions<'a>) -> Attributes<'a> {
        Attributes::new(&writer.target, &writer.user, options, &self.reads, &writer.notices)
    }

    /// Whether a plugin is chosen.
    pub fn runs(&self, plugin: &str) -> bool {
        self.pipeline.runs(plugin)
    }

    /// What nobody may consume without a quota for it.
    pub fn limited_resources(&self) -> &[LimitedResource] {
        self.pipeline.limited_resources()
    }

    /// How many bytes of other objects all plugins decode for a write.
    pub fn work(&self, attributes: &Attributes<'_>) -> usize {
        self.pipeline.work(attributes)
    }

    /// Lets plugins change the object.
    ///
    /// # Errors
    /// What refuses it.
    pub async fn mutate(&self, mut attributes: Attributes<'_>) -> Result<(), Status> {
        self.pipeline.admit(&mut attributes).await
    }

    /// Lets plugins refuse the object.
    ///
    /// # Errors
    /// What refuses it.
    pub async fn validate(&self, attributes: Attributes<'_>) -> Result<(), Status> {
        self.pipeline.validate(&attributes).await
    }

    /// The same for what nothing happens to between both: deletions, connections, bodies of subresources.
    ///
    /// # Errors
    /// What refuses it.
    pub async fn admit(&self, mut attributes: Attributes<'_>) -> Result<(), Status> {
        self.pipeline.admit(&mut attributes).await?;
        self.pipeline.validate(&attributes).await
    }
}

#[async_trait]
impl Reads for AdmissionReads {
    fn listers(&self) -> &dyn Listers {
        &*self.listers
    }

    fn registry(&self) -> Arc<Registry> {
        self.listers.registry.load_full()
    }

    fn authorizer(&self) -> Option<&Arc<dyn Authorizer>> {
        self.authorization.authorizer()
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    async fn convert(&self, resource: &Arc<Resource>, version: &str, object: &Object) -> Result<Object, Status> {
        self.reader.versions.tree(resource, version, object.clone()).await
    }

    async fn live(&self, resource: &GroupResource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        match self.listers.row(&resource.group, &resource.resource) {
            Some(row) => self.reader.read_live(&row, key).await,
            None => Ok(None),
        }
    }
}
