//! Admission: ordered plugins that change or refuse a write between decoding and commit.
//!
//! The API server runs the whole pipeline again when a write is retried after a conflict, so plugins must not
//! remember what they did. Plugins see the object in its storage version and read other objects through [`Reads`].

mod certificates;
mod claim_access;
mod claim_resize;
mod config;
mod default_classes;
mod document;
mod expressions;
mod lifecycle;
mod limit_ranger;
mod matching;
mod node_restriction;
mod nodes;
mod pipeline;
pub mod pod_security;
pub mod policies;
mod priority;
mod runtime_class;
mod service_account;
mod storage_protection;
mod tolerations;
mod view;
mod webhooks;

use std::sync::Arc;

use async_trait::async_trait;

pub use certificates::{CertificateApproval, CertificateSigning, CertificateSubjectRestriction};
pub use claim_access::ResourceClaimAccess;
pub use claim_resize::PersistentVolumeClaimResize;
pub use config::AdmissionConfigurationError;
pub use default_classes::{DefaultIngressClass, DefaultStorageClass};
pub use lifecycle::NamespaceLifecycle;
pub use limit_ranger::LimitRanger;
pub use node_restriction::NodeRestriction;
pub use nodes::TaintNodesByCondition;
pub use pipeline::Pipeline;
pub use pod_security::PodSecurity;
pub use priority::Priority;
pub use runtime_class::RuntimeClass;
pub use service_account::ServiceAccount;
pub use storage_protection::{PV_FINALIZER, PVC_FINALIZER, StorageObjectInUseProtection};
pub use tolerations::DefaultTolerationSeconds;
#[doc(hidden)]
pub use webhooks::fuzzing as webhook_fuzzing;
pub use webhooks::{Webhooks, metrics as webhook_metrics};

use crate::{
    auth::Authorizer,
    meta::{Clock, GroupResource, Object, ObjectKey},
    notices::Notices,
    resources::Registry,
    service::{DeleteOptions, Listers, Target, UserInfo, WriteOptions},
    status::Status,
    stored::StoredObject,
};

/// What is about to happen to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// The options that the operation came with.
#[derive(Clone, Copy, Debug)]
pub enum OperationOptions<'a> {
    Create(&'a WriteOptions),
    Update(&'a WriteOptions),
    Delete(&'a DeleteOptions),
    /// There are none: those of the connection are its object.
    Connect,
}

/// What plugins may read.
#[async_trait]
pub trait Reads: Send + Sync {
    /// The watch caches; may be older than the last write by a local hop.
    fn listers(&self) -> &dyn Listers;

    /// The resources that are served.
    fn registry(&self) -> Arc<Registry>;

    /// Who may do what; without one, everybody may everything.
    fn authorizer(&self) -> Option<&Arc<dyn Authorizer>>;

    /// One object as of now: for what the cache lacks.
    async fn live(&self, resource: &GroupResource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status>;
}

/// One write on its way through the pipeline.
pub struct Request<'a> {
    pub operation: Operation,
    pub user: &'a UserInfo,
    pub target: &'a Target,
    /// The object to be written; for connects the options, for deletions there is none.
    pub object: Option<&'a mut Object>,
    /// The object as it is stored, for updates and deletions.
    pub old: Option<&'a Object>,
    pub dry_run: bool,
    pub options: OperationOptions<'a>,
    pub clock: &'a dyn Clock,
    pub reads: &'a dyn Reads,
    /// Where plugins leave warnings for the client and annotations for the audit event.
    pub notices: &'a Notices,
}

impl Request<'_> {
    /// Whether this is a write of `resource` in `group` itself (not of a subresource).
    pub fn is_main(&self, group: &str, resource: &str) -> bool {
        self.target.subresource.is_empty() && *self.target.resource.group == *group && *self.target.resource.plural == *resource
    }

    /// 403 about the object of this request. Before a name is generated it is called by what that will begin with.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let name = match &self.object {
            Some(object) if !object.name().is_empty() => object.name(),
            Some(object) if self.target.name.is_empty() => object.str(&["metadata", "generateName"]),
            _ => &self.target.name,
        };
        Status::forbidden(&self.target.group_resource(), name, why)
    }
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// How many bytes of other objects [`Plugin::admit`] decodes for this write, or puts into its object.
    fn work(&self, _request: &Request<'_>) -> usize {
        0
    }

    /// May change the object, or refuse.
    async fn admit(&self, _request: &mut Request<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// Sees the object in its final form; may only refuse.
    async fn validate(&self, _request: &Request<'_>) -> Result<(), Status> {
        Ok(())
    }
}
