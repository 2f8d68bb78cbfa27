//! The plugins in their order.

use std::sync::Arc;

use super::{
    Attributes, CertificateApproval, CertificateSigning, CertificateSubjectRestriction, DefaultIngressClass, DefaultStorageClass,
    DefaultTolerationSeconds, LimitRanger, MutatingPlugin, NamespaceLifecycle, NodeDeclaredFeatureValidator, NodeRestriction,
    PersistentVolumeClaimResize, PodResizeValidator, PodSecurity, Priority, ResourceClaimAccess, RuntimeClass, ServiceAccount,
    StorageObjectInUseProtection, TaintNodesByCondition, ValidatingPlugin,
};
use crate::status::Status;

/// Ordered plugins: first those that mutate, then, after validation, those that validate.
#[derive(Clone, Default)]
pub struct Pipeline {
    mutating: Vec<Arc<dyn MutatingPlugin>>,
    validating: Vec<Arc<dyn ValidatingPlugin>>,
    names: Vec<&'static str>,
}

impl Pipeline {
    /// The plugins that run by default, in upstream's order, without a configuration.
    pub fn standard() -> Self {
        Pipeline::configured(PodSecurity::default())
    }

    /// The plugins that run by default, with one that takes a configuration. What reads the cluster's own configuration (webhooks,
    /// policies) comes behind them when the API server starts.
    pub fn configured(pod_security: PodSecurity) -> Self {
        Pipeline::default()
            .mutating(NamespaceLifecycle)
            .both(LimitRanger)
            .mutating(ServiceAccount)
            .mutating(NodeRestriction)
            .mutating(TaintNodesByCondition)
            .validating(pod_security)
            .both(Priority)
            .mutating(DefaultTolerationSeconds)
            .mutating(DefaultStorageClass)
            .mutating(StorageObjectInUseProtection)
            .validating(PersistentVolumeClaimResize)
            .both(RuntimeClass)
            .validating(CertificateApproval)
            .validating(CertificateSigning)
            .validating(CertificateSubjectRestriction)
            .mutating(DefaultIngressClass)
            .validating(NodeDeclaredFeatureValidator)
            .validating(PodResizeValidator)
            .validating(ResourceClaimAccess)
    }

    /// The same pipeline with a plugin behind the others that mutate.
    pub fn mutating(mut self, plugin: impl MutatingPlugin) -> Self {
        self.names.push(plugin.name());
        self.mutating.push(Arc::new(plugin));
        self
    }

    /// The same pipeline with a plugin behind the others that validate.
    pub fn validating(mut self, plugin: impl ValidatingPlugin) -> Self {
        self.names.push(plugin.name());
        self.validating.push(Arc::new(plugin));
        self
    }

    /// The same pipeline with a plugin that does both, behind the others.
    pub fn both(mut self, plugin: impl MutatingPlugin + ValidatingPlugin) -> Self {
        self.names.push(plugin.name());
        let plugin = Arc::new(plugin);
        self.mutating.push(plugin.clone());
        self.validating.push(plugin);
        self
    }

    /// The names of the plugins, in order.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// How many bytes of other objects all plugins decode for a write.
    pub fn work(&self, request: &Attributes<'_>) -> usize {
        self.mutating.iter().map(|plugin| plugin.work(request)).sum()
    }

    /// Lets plugins change the object. Where one asks for it, all see the object once more.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        self.mutate(request).await?;
        if request.reinvocation.begin_second() { self.mutate(request).await } else { Ok(()) }
    }

    async fn mutate(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        for plugin in &self.mutating {
            plugin.admit(request).await?;
        }
        Ok(())
    }

    /// Lets plugins refuse the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        for plugin in &self.validating {
            plugin.validate(request).await?;
        }
        Ok(())
    }
}
