//! The plugins in their order.

use std::sync::Arc;

use super::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, DefaultIngressClass, DefaultStorageClass, DefaultTolerationSeconds,
    LimitRanger, NamespaceLifecycle, NodeRestriction, PersistentVolumeClaimResize, Plugin, PodSecurity, Priority, Request, ResourceClaimAccess,
    RuntimeClass, ServiceAccount, StorageObjectInUseProtection, TaintNodesByCondition, Webhooks, webhooks::Rounds,
};
use crate::status::Status;

/// An ordered list of plugins: all `admit`, then, after validation, all `validate`; behind both come webhooks.
#[derive(Clone, Default)]
pub struct Pipeline {
    plugins: Vec<Arc<dyn Plugin>>,
    webhooks: Option<Arc<Webhooks>>,
}

impl Pipeline {
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Pipeline { plugins, webhooks: None }
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

    /// The same pipeline with webhooks behind its plugins.
    pub fn with_webhooks(self, webhooks: Webhooks) -> Self {
        Pipeline { webhooks: Some(Arc::new(webhooks)), ..self }
    }

    /// The names of the plugins, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|plugin| plugin.name()).collect()
    }

    /// How many bytes of other objects all plugins decode for a write.
    pub fn work(&self, request: &Request<'_>) -> usize {
        self.plugins.iter().map(|plugin| plugin.work(request)).sum()
    }

    /// Lets plugins and webhooks change the object. Where a webhook did, all plugins see it once more, and so do the webhooks that
    /// want to.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, request: &mut Request<'_>) -> Result<(), Status> {
        self.admit_by_plugins(request).await?;
        let Some(webhooks) = &self.webhooks else { return Ok(()) };
        let hooks = webhooks.mutating(request);
        if hooks.is_empty() {
            return Ok(());
        }
        let mut rounds = Rounds::default();
        webhooks.mutate(&hooks, request, &mut rounds).await?;
        if rounds.again() {
            self.admit_by_plugins(request).await?;
            webhooks.mutate(&hooks, request, &mut rounds).await?;
        }
        Ok(())
    }

    async fn admit_by_plugins(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.admit(request).await?;
        }
        Ok(())
    }

    /// Lets plugins and then webhooks refuse the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &Request<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request).await?;
        }
        let Some(webhooks) = &self.webhooks else { return Ok(()) };
        let hooks = webhooks.validating(request);
        if hooks.is_empty() { Ok(()) } else { webhooks.validate(&hooks, request).await }
    }
}
