//! The plugins in their order.

use std::{sync::Arc, time::Instant};

use troupe_api::{quota::LimitedResource, status::Status};

use super::{
    AlwaysAdmit, AlwaysDeny, AlwaysPullImages, Attributes, CertificateApproval, CertificateSigning, CertificateSubjectRestriction,
    ClusterTrustBundleAttest, DefaultIngressClass, DefaultStorageClass, DefaultTolerationSeconds, DenyServiceExternalIPs, EventRateLimit,
    ExtendedResourceToleration, JobValidation, LimitPodHardAntiAffinityTopology, LimitRanger, MutatingPlugin, NamespaceExists, NamespaceLifecycle,
    NodeDeclaredFeatureValidator, NodeRestriction, OwnerReferencesPermissionEnforcement, PersistentVolumeClaimResize, PodGroupProtection,
    PodGroupWorkloadExists, PodNodeSelector, PodResizeValidator, PodSecurity, PodTolerationRestriction, PodTopologyLabels, Priority,
    ResourceClaimAccess, RuntimeClass, Selection, ServiceAccount, StorageObjectInUseProtection, TaintNodesByCondition, ValidatingPlugin,
    durations::{self, Durations, Step},
};

/// Ordered plugins: first those that mutate, then, after validation, those that validate.
#[derive(Clone, Default)]
pub struct Pipeline {
    mutating: Vec<(Arc<dyn MutatingPlugin>, Arc<Durations>)>,
    validating: Vec<(Arc<dyn ValidatingPlugin>, Arc<Durations>)>,
    names: Vec<&'static str>,
    /// Those that are not chosen are left out as they are added; without one, all are in.
    selection: Option<Selection>,
    limited_resources: Vec<LimitedResource>,
}

/// The plugins that take a configuration, with it. One that needs a configuration and has none is left out.
#[derive(Default)]
pub struct ConfiguredPlugins {
    pub pod_security: PodSecurity,
    pub pod_node_selector: PodNodeSelector,
    pub pod_tolerations: PodTolerationRestriction,
    pub event_rate_limit: Option<EventRateLimit>,
    pub default_tolerations: DefaultTolerationSeconds,
    /// What nobody may consume without a quota for it.
    pub limited_resources: Vec<LimitedResource>,
}

impl Pipeline {
    /// The plugins that run by default, in upstream's order, without a configuration.
    pub fn standard() -> Self {
        Pipeline::configured(Selection::default(), ConfiguredPlugins::default())
    }

    /// The chosen plugins, some of which take a configuration. What reads the cluster's own configuration (webhooks, policies) comes
    /// behind them when the API server starts.
    pub fn configured(selection: Selection, plugins: ConfiguredPlugins) -> Self {
        let begin = Pipeline { selection: Some(selection), limited_resources: plugins.limited_resources, ..Pipeline::default() };
        let upper = begin
            .validating(AlwaysAdmit)
            .mutating(NamespaceLifecycle)
            .validating(NamespaceExists)
            .validating(LimitPodHardAntiAffinityTopology)
            .both(LimitRanger)
            .both(ServiceAccount)
            .mutating(NodeRestriction)
            .mutating(TaintNodesByCondition)
            .both(AlwaysPullImages)
            .validating(plugins.pod_security)
            .both(plugins.pod_node_selector)
            .both(Priority)
            .mutating(plugins.default_tolerations)
            .both(plugins.pod_tolerations);
        let limited = match plugins.event_rate_limit {
            Some(limits) => upper.validating(limits),
            None => upper,
        };
        limited
            .mutating(ExtendedResourceToleration)
            .mutating(DefaultStorageClass)
            .mutating(StorageObjectInUseProtection)
            .mutating(PodGroupProtection)
            .validating(OwnerReferencesPermissionEnforcement)
            .validating(PersistentVolumeClaimResize)
            .both(RuntimeClass)
            .validating(CertificateApproval)
            .validating(CertificateSigning)
            .validating(ClusterTrustBundleAttest)
            .validating(CertificateSubjectRestriction)
            .mutating(DefaultIngressClass)
            .validating(DenyServiceExternalIPs)
            .mutating(PodTopologyLabels)
            .validating(PodGroupWorkloadExists)
            .validating(NodeDeclaredFeatureValidator)
            .validating(JobValidation)
            .validating(PodResizeValidator)
            .validating(ResourceClaimAccess)
    }

    /// The same pipeline with a plugin behind the others that mutate.
    pub fn mutating(mut self, plugin: impl MutatingPlugin) -> Self {
        if self.runs(plugin.name()) {
            self.names.push(plugin.name());
            self.push_mutating(Arc::new(plugin));
        }
        self
    }

    /// The same pipeline with a plugin behind the others that validate.
    pub fn validating(mut self, plugin: impl ValidatingPlugin) -> Self {
        if self.runs(plugin.name()) {
            self.names.push(plugin.name());
            self.push_validating(Arc::new(plugin));
        }
        self
    }

    /// The same pipeline with a plugin that does both, behind the others.
    pub fn both(mut self, plugin: impl MutatingPlugin + ValidatingPlugin) -> Self {
        if self.runs(plugin.name()) {
            self.names.push(plugin.name());
            let plugin = Arc::new(plugin);
            self.push_mutating(plugin.clone());
            self.push_validating(plugin);
        }
        self
    }

    fn push_mutating(&mut self, plugin: Arc<dyn MutatingPlugin>) {
        let durations = Arc::new(Durations::of_plugin(plugin.name(), Step::Admit));
        self.mutating.push((plugin, durations));
    }

    fn push_validating(&mut self, plugin: Arc<dyn ValidatingPlugin>) {
        let durations = Arc::new(Durations::of_plugin(plugin.name(), Step::Validate));
        self.validating.push((plugin, durations));
    }

    /// The pipeline with what comes behind everything else.
    pub fn closed(self) -> Self {
        match &self.selection {
            Some(_) => self.both(AlwaysDeny),
            None => self,
        }
    }

    /// Whether a plugin is chosen, also where it works beside the pipeline (`ResourceQuota`).
    pub fn runs(&self, name: &str) -> bool {
        self.selection.as_ref().is_none_or(|selection| selection.has(name))
    }

    /// What nobody may consume without a quota for it, which who charges writes sees to.
    pub fn limited_resources(&self) -> &[LimitedResource] {
        &self.limited_resources
    }

    /// The names of the plugins, in order.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// How many bytes of other objects all plugins decode for a write.
    pub fn work(&self, request: &Attributes<'_>) -> usize {
        self.mutating.iter().map(|(plugin, _)| plugin.work(request)).sum()
    }

    /// Lets plugins change the object. Where one asks for it, all see the object once more.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        let began = Instant::now();
        let admitted = self.mutate_until_settled(request).await;
        durations::ADMIT.observe(request.operation, admitted.is_err(), began.elapsed());
        admitted
    }

    async fn mutate_until_settled(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        self.mutate(request).await?;
        if request.reinvocation.begin_second() { self.mutate(request).await } else { Ok(()) }
    }

    async fn mutate(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        let mut began = Instant::now();
        for (plugin, durations) in &self.mutating {
            let admitted = plugin.admit(request).await;
            let ended = Instant::now();
            if plugin.operations().contains(&request.operation) {
                durations.observe(request.operation, admitted.is_err(), ended.duration_since(began));
            }
            admitted?;
            began = ended;
        }
        Ok(())
    }

    /// Lets plugins refuse the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let began = Instant::now();
        let validated = self.validate_by_each(request).await;
        durations::VALIDATE.observe(request.operation, validated.is_err(), began.elapsed());
        validated
    }

    async fn validate_by_each(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let mut began = Instant::now();
        for (plugin, durations) in &self.validating {
            let validated = plugin.validate(request).await;
            let ended = Instant::now();
            if plugin.operations().contains(&request.operation) {
                durations.observe(request.operation, validated.is_err(), ended.duration_since(began));
            }
            validated?;
            began = ended;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Operation;

    #[test]
    fn plugins_are_about_the_operations_of_upstreams() {
        let pipeline = Pipeline::standard();
        let about = |name: &str| pipeline.mutating.iter().find(|(plugin, _)| plugin.name() == name).map(|(plugin, _)| plugin.operations());
        assert_eq!(about("NamespaceLifecycle"), Some([Operation::Create, Operation::Update, Operation::Delete].as_slice()));
        assert_eq!(about("ServiceAccount"), Some([Operation::Create, Operation::Update].as_slice()));
        assert_eq!(about("DefaultStorageClass"), Some([Operation::Create].as_slice()));
        let resize = pipeline.validating.iter().find(|(plugin, _)| plugin.name() == "PersistentVolumeClaimResize");
        assert_eq!(resize.map(|(plugin, _)| plugin.operations()), Some([Operation::Update].as_slice()));
    }
}
