//! The plugins in their order.

use std::sync::Arc;

use super::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, DefaultIngressClass, DefaultStorageClass, DefaultTolerationSeconds,
    LimitRanger, NamespaceLifecycle, NodeRestriction, PersistentVolumeClaimResize, Plugin, PodSecurity, Priority, Request, ResourceClaimAccess,
    RuntimeClass, ServiceAccount, StorageObjectInUseProtection, TaintNodesByCondition,
};
use crate::status::Status;

/// An ordered list of plugins: all `admit`, then, after validation, all `validate`.
#[derive(Clone, Default)]
pub struct Pipeline {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Pipeline {
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Pipeline { plugins }
    }

    /// The plugins that run by default, in upstream's order, without a configuration.
    pub fn standard() -> Self {
        Pipeline::configured(PodSecurity::default())
    }

    /// The plugins that run by default, with one that takes a configuration.
    pub fn configured(pod_security: PodSecurity) -> Self {
        Pipeline::new(vec![
            Arc::new(NamespaceLifecycle),
            Arc::new(LimitRanger),
            Arc::new(ServiceAccount),
            Arc::new(NodeRestriction),
            Arc::new(TaintNodesByCondition),
            Arc::new(pod_security),
            Arc::new(Priority),
            Arc::new(DefaultTolerationSeconds),
            Arc::new(DefaultStorageClass),
            Arc::new(StorageObjectInUseProtection),
            Arc::new(PersistentVolumeClaimResize),
            Arc::new(RuntimeClass),
            Arc::new(CertificateApproval),
            Arc::new(CertificateSigning),
            Arc::new(CertificateSubjectRestriction),
            Arc::new(DefaultIngressClass),
            Arc::new(ResourceClaimAccess),
        ])
    }

    /// The same pipeline with `plugin` behind the others.
    pub fn with(mut self, plugin: Arc<dyn Plugin>) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// The names of the plugins, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|plugin| plugin.name()).collect()
    }

    /// How many bytes of other objects all plugins decode for a write.
    pub fn work(&self, request: &Request<'_>) -> usize {
        self.plugins.iter().map(|plugin| plugin.work(request)).sum()
    }

    pub async fn admit(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.admit(request).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, request: &Request<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request).await?;
        }
        Ok(())
    }
}
