//! Starts the controllers and the scheduler, each under the identity upstream gives it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use jiff::SignedDuration;
use troupe_actors::{
    controllers::{
        attach_detach,
        bootstrap::{BootstrapSigner, TokenCleaner},
        certificates::{CsrApprovingController, CsrCleaner, CsrSigningController, KubeletServingApprover, PodCertificateRequestCleaner},
        cluster_role_aggregation::ClusterRoleAggregationController,
        cronjob::CronJobController,
        daemonset::DaemonSetController,
        deployment::DeploymentController,
        device_taint_eviction::{self, DeviceTaintEvictionController},
        disruption::{DisruptionController, SeveralBudgetsController, StaleDisruptionController},
        endpoints::EndpointsController,
        endpointslice::EndpointSliceController,
        endpointslice_mirroring::EndpointSliceMirroringController,
        ephemeral_volume::EphemeralVolumeController,
        flow_schema::FlowSchemaController,
        garbage_collector,
        job::{JobController, orphans::JobOrphanController},
        leader_election::LeaderElectionController,
        legacy_tokens::{LegacyTokenCleaner, LegacyTokenTracking, TokenUseController, UNUSED},
        local_path::{LocalPathCleaner, LocalPathProvisioner},
        namespace::NamespaceController,
        network_policy::{NetworkPolicyController, status::ClusterPolicyStatusController},
        node_ipam::NodeIpamController,
        node_lifecycle::{LifecycleOptions, NodeLifecycleController, Pacing},
        node_ttl::NodeTtlController,
        persistent_volume::{ClaimBinder, VolumeBinder},
        pod_gc::{FINISHED_KEPT, PodGcController},
        pod_group_protection::PodGroupProtectionController,
        podautoscaler::{AutoscalerOptions, HorizontalController, Starting},
        policy_status::PolicyStatusController,
        replicaset::ReplicaSetController,
        replicationcontroller::ReplicationControllerController,
        resource_pool_status::ResourcePoolStatusController,
        resourceclaim::{ClaimReservationController, ResourceClaimController},
        resourcequota::ResourceQuotaController,
        root_ca::RootCaPublisher,
        server_identity::{self, ServerIdentity},
        service_cidr::ServiceCidrController,
        service_lb::ServiceLoadBalancerController,
        serviceaccount::ServiceAccountController,
        statefulset::StatefulSetController,
        storage_version_migrator::StorageVersionMigrator,
        system_namespaces::SystemNamespacesController,
        token_secrets::TokenSecretController,
        trust_bundle_publisher::TrustBundlePublisher,
        ttl_after_finished::TtlAfterFinishedController,
        volume_attributes::VolumeAttributesProtection,
        volume_expand::ExpandController,
        volume_protection::{PvProtectionController, PvcProtectionController},
    },
    runtime::{
        cache::Caches,
        controller::{self, Controller},
        host::UnitAddr,
        leader::Stop,
        system::System,
    },
    scheduler::{self, MakeSetup, Setup, configuration::Configuration, features::Features, plugins::Parts},
};
use troupe_api::{
    ApiService,
    auth::{node::ClusterIdentity, tokens::Issuer},
    certificates::CertificateAuthority,
    features::{
        CLUSTER_TRUST_BUNDLE, DEVICE_TAINT_RULES, FeatureGates, GANG_SCHEDULING, GENERIC_WORKLOAD, HPA_SCALE_TO_ZERO, POD_CERTIFICATE_REQUEST,
        POP_FROM_BACKOFF_QUEUE, RESOURCE_POOL_STATUS, STORAGE_CAPACITY_SCORING, STORAGE_VERSION_MIGRATOR, TOLERATION_COMPARISONS,
        VOLUME_LIMIT_SCALING, WORKLOAD_WITH_JOB,
    },
};
use troupe_api_client::Client;

use super::{
    control_plane::features,
    identity::{Outside, component},
};
use crate::config::{Config, ControllerSettings, is_known_controller};

/// The field manager of controllers' writes.
pub const MANAGER: &str = "kube-controller-manager";

/// What the cluster is trusted by, as far as it is known to this process.
#[derive(Clone)]
pub struct Authority {
    pub ca_pem: String,
    /// Signs tokens; without their key here nobody signs those of secrets.
    pub issuer: Option<Arc<Issuer>>,
    /// Signs what the CSR API is asked for; without the CA's key here nobody does.
    pub signer: Option<Arc<CertificateAuthority>>,
}

/// Starts the controllers, which act through `service` and read `caches`.
pub fn start(
    config: &Config,
    features: &FeatureGates,
    authority: &Authority,
    service: &Arc<dyn ApiService>,
    caches: &Caches,
    system: &System,
) -> Stop {
    let run = Run { service, system, caches, said: &config.controllers };
    let compares = features.is_on(TOLERATION_COMPARISONS);
    workloads(&run, features);
    network(&run, config);
    storage(&run);
    devices(&run, features);
    identities(&run, config, features, authority);
    run.controller(("resourcequota-controller", "resourcequota-controller"), |caches| quotas(caches, &config.controllers));
    run.controller(("clusterrole-aggregation-controller", "clusterrole-aggregation-controller"), ClusterRoleAggregationController::new);
    run.controller(("namespace-controller", "namespace-controller"), NamespaceController::new);
    run.controller(("node-ipam-controller", "node-controller"), |caches| NodeIpamController::new(caches, config.node_ranges.clone()));
    run.controller(("node-lifecycle-controller", "node-controller"), |caches| {
        let nodes = NodeLifecycleController::new(caches, config.node_monitor_grace_period);
        nodes.with(lifecycle(&config.controllers)).comparing_tolerations(compares)
    });
    run.controller(("ttl-controller", "ttl-controller"), NodeTtlController::new);
    run.controller(("validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller"), PolicyStatusController::new);
    if features.is_on(STORAGE_VERSION_MIGRATOR) {
        run.controller(("storage-version-migrator-controller", "storage-version-migrator-controller"), StorageVersionMigrator::new);
    }
    let collecting = "garbage-collector-controller";
    if run.runs(collecting) {
        let collector = Client::for_service_account(service.clone(), "generic-garbage-collector", MANAGER);
        match config.controllers.concurrency(collecting) {
            Some(concurrency) => garbage_collector::start_with(system, &collector, concurrency),
            None => garbage_collector::start(system, &collector),
        };
    }
    stop(system, "controllers")
}

/// What makes and counts pods.
fn workloads(run: &Run<'_>, features: &FeatureGates) {
    run.controller(("deployment-controller", "deployment-controller"), DeploymentController::new);
    run.controller(("disruption-controller", "disruption-controller"), DisruptionController::new);
    run.controller(("disruption-controller", "disruption-controller"), StaleDisruptionController::new);
    run.controller(("disruption-controller", "disruption-controller"), SeveralBudgetsController::new);
    run.controller(("daemonset-controller", "daemon-set-controller"), |caches| {
        DaemonSetController::new(caches).comparing_tolerations(features.is_on(TOLERATION_COMPARISONS))
    });
    run.controller(("statefulset-controller", "statefulset-controller"), StatefulSetController::new);
    run.controller(("replicationcontroller-controller", "replication-controller"), ReplicationControllerController::new);
    run.controller(("job-controller", "job-controller"), |caches| jobs(caches, features));
    run.controller(("cronjob-controller", "cronjob-controller"), CronJobController::new);
    run.controller(("job-controller", "job-controller"), JobOrphanController::new);
    run.controller(("ttl-after-finished-controller", "ttl-after-finished-controller"), TtlAfterFinishedController::new);
    run.controller(("replicaset-controller", "replicaset-controller"), ReplicaSetController::new);
    run.controller(("pod-garbage-collector-controller", "pod-garbage-collector"), |caches| {
        PodGcController::new(caches).keeping(finished_pods(run.said))
    });
    run.controller(("horizontal-pod-autoscaler-controller", "horizontal-pod-autoscaler"), |caches| {
        HorizontalController::new(caches).with(autoscalers(run.said, features))
    });
    if features.is_on(GENERIC_WORKLOAD) {
        run.controller(("podgroup-protection-controller", "podgroup-protection-controller"), PodGroupProtectionController::new);
    }
}

/// Endpoints, policies and addresses of Services.
fn network(run: &Run<'_>, config: &Config) {
    run.controller(("endpointslice-controller", "endpointslice-controller"), EndpointSliceController::new);
    run.controller(("endpointslice-mirroring-controller", "endpointslicemirroring-controller"), EndpointSliceMirroringController::new);
    run.controller(("networkpolicy-controller", "networkpolicy-controller"), NetworkPolicyController::new);
    run.controller(("clusternetworkpolicy-status-controller", "networkpolicy-controller"), ClusterPolicyStatusController::new);
    run.controller(("endpoints-controller", "endpoint-controller"), EndpointsController::new);
    run.controller(("service-cidr-controller", "service-cidrs-controller"), ServiceCidrController::new);
    run.controller(("service-lb-controller", "service-controller"), |caches| {
        ServiceLoadBalancerController::new(caches, config.load_balancer_pool.clone())
    });
}

/// Claims and volumes.
fn storage(run: &Run<'_>) {
    run.controller(("persistentvolume-binder-controller", "persistent-volume-binder"), ClaimBinder::new);
    run.controller(("persistentvolume-binder-controller", "persistent-volume-binder"), VolumeBinder::new);
    run.controller(("ephemeral-volume-controller", "ephemeral-volume-controller"), EphemeralVolumeController::new);
    run.controller(("local-path-provisioner-controller", "local-path-provisioner"), LocalPathProvisioner::new);
    run.controller(("local-path-provisioner-controller", "local-path-provisioner"), LocalPathCleaner::new);
    let attaching = ("persistentvolume-attach-detach-controller", "attachdetach-controller");
    if run.runs(attaching.0) {
        let (attacher, attached) = attach_detach::controllers(run.caches);
        run.controller(attaching, |_| attacher);
        run.controller(attaching, |_| attached);
    }
    run.controller(("persistentvolume-expander-controller", "expand-controller"), ExpandController::new);
    run.controller(("volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller"), VolumeAttributesProtection::new);
    run.controller(("persistentvolumeclaim-protection-controller", "pvc-protection-controller"), PvcProtectionController::new);
    run.controller(("persistentvolume-protection-controller", "pv-protection-controller"), PvProtectionController::new);
}

/// Claims of devices.
fn devices(run: &Run<'_>, features: &FeatureGates) {
    run.controller(("resourceclaim-controller", "resource-claim-controller"), ResourceClaimController::new);
    run.controller(("resourceclaim-controller", "resource-claim-controller"), ClaimReservationController::new);
    let tainting = ("device-taint-eviction-controller", "device-taint-eviction-controller");
    if features.is_on(DEVICE_TAINT_RULES) && run.runs(tainting.0) {
        let (evicting, rules) = device_taint_eviction::with_rules(run.caches);
        run.controller(tainting, |_| evicting);
        run.controller(tainting, |_| rules);
    } else {
        run.controller(tainting, DeviceTaintEvictionController::new);
    }
    if features.is_on(RESOURCE_POOL_STATUS) {
        run.controller(("resourcepoolstatusrequest-controller", "resourcepoolstatusrequest-controller"), ResourcePoolStatusController::new);
    }
}

/// Accounts, tokens and certificates.
fn identities(run: &Run<'_>, config: &Config, features: &FeatureGates, authority: &Authority) {
    let cluster = cluster_identity(config);
    run.controller(("serviceaccount-controller", "service-account-controller"), ServiceAccountController::new);
    run.controller(("root-ca-certificate-publisher-controller", "root-ca-cert-publisher"), |caches| {
        RootCaPublisher::new(caches, authority.ca_pem.as_str())
    });
    let tokens = "serviceaccount-token-controller";
    // As upstream: who signs elsewhere signs no tokens for secrets.
    match &authority.issuer {
        Some(issuer) if issuer.signer().is_none() && run.runs(tokens) => {
            let secrets = TokenSecretController::new(run.caches, issuer.clone(), authority.ca_pem.as_str());
            run.start(tokens, manager_client(run.service.clone()), secrets);
        }
        None if run.runs(tokens) => tracing::warn!("the key that signs tokens of service accounts is not here: secrets for tokens get none"),
        _ => {}
    }
    run.controller(("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"), |caches| {
        LegacyTokenCleaner::new(caches, unused_tokens(&config.controllers))
    });
    run.controller(("certificatesigningrequest-approving-controller", "certificate-controller"), CsrApprovingController::new);
    run.controller(("certificatesigningrequest-cleaner-controller", "certificate-controller"), CsrCleaner::new);
    match &authority.signer {
        Some(signer) => run.controller(("certificatesigningrequest-signing-controller", "certificate-controller"), |caches| {
            CsrSigningController::new(caches, signer.clone(), config.cluster_signing_duration, cluster.clone())
        }),
        None => tracing::warn!("the key of the certificate authority is not here: certificate signing requests are not signed"),
    }
    run.controller(("kubelet-serving-approver-controller", "kubelet-serving-approver"), |caches| KubeletServingApprover::new(caches, cluster));
    run.controller(("bootstrap-signer-controller", "bootstrap-signer"), BootstrapSigner::new);
    run.controller(("token-cleaner-controller", "token-cleaner"), TokenCleaner::new);
    if features.is_on(CLUSTER_TRUST_BUNDLE) {
        let publisher = "kube-apiserver-serving-clustertrustbundle-publisher";
        run.controller(("kube-apiserver-serving-clustertrustbundle-publisher-controller", publisher), |caches| {
            TrustBundlePublisher::new(caches, authority.ca_pem.as_str())
        });
    }
    if features.is_on(POD_CERTIFICATE_REQUEST) {
        run.controller(("podcertificaterequest-cleaner-controller", "podcertificaterequestcleaner"), PodCertificateRequestCleaner::new);
    }
}

/// The controller of jobs, which makes workloads of them where the feature for that is on.
fn jobs(caches: &Caches, features: &FeatureGates) -> JobController {
    let usual = JobController::new(caches);
    if features.is_on(WORKLOAD_WITH_JOB) { usual.with_gangs(caches) } else { usual }
}

/// How many pods that have ended are kept.
fn finished_pods(said: &ControllerSettings) -> usize {
    match said.terminated_pod_gc_threshold {
        None => FINISHED_KEPT,
        Some(0) => usize::MAX,
        Some(kept) => usize::try_from(kept).unwrap_or(usize::MAX),
    }
}

/// For how long nobody has used the tokens out of secrets that go.
fn unused_tokens(said: &ControllerSettings) -> SignedDuration {
    said.legacy_service_account_token_clean_up_period.map_or(UNUSED, |seconds| SignedDuration::from_secs(seconds.into()))
}

/// The controller of quotas, with the time after which it counts again.
fn quotas(caches: &Caches, said: &ControllerSettings) -> ResourceQuotaController {
    let usual = ResourceQuotaController::new(caches);
    match said.resource_quota_sync_period {
        Some(seconds) => usual.counting_every(Duration::from_secs(seconds)),
        None => usual,
    }
}

/// A number that was looked at when the settings were.
fn number(given: Option<&String>) -> Option<f64> {
    given.and_then(|number| number.parse().ok())
}

/// What holds for all nodes.
fn lifecycle(said: &ControllerSettings) -> LifecycleOptions {
    let usual = LifecycleOptions::default();
    let Pacing { rate, secondary_rate, large, unhealthy } = usual.pacing;
    LifecycleOptions {
        startup_grace: said.node_startup_grace_period.map_or(usual.startup_grace, Duration::from_secs),
        period: said.node_monitor_period.map_or(usual.period, Duration::from_secs),
        pacing: Pacing {
            rate: number(said.node_eviction_rate.as_ref()).unwrap_or(rate),
            secondary_rate: number(said.secondary_node_eviction_rate.as_ref()).unwrap_or(secondary_rate),
            large: said.large_cluster_size_threshold.and_then(|nodes| usize::try_from(nodes).ok()).unwrap_or(large),
            unhealthy: number(said.unhealthy_zone_threshold.as_ref()).unwrap_or(unhealthy),
        },
        evicts: said.evicts(),
    }
}

/// What holds for all autoscalers.
fn autoscalers(said: &ControllerSettings, features: &FeatureGates) -> AutoscalerOptions {
    let usual = AutoscalerOptions::default();
    let seconds = |given: Option<u32>, usual| given.map_or(usual, |seconds| SignedDuration::from_secs(seconds.into()));
    AutoscalerOptions {
        period: said.horizontal_pod_autoscaler_sync_period.map_or(usual.period, |seconds| Duration::from_secs(seconds.into())),
        downscale_stabilization: seconds(said.horizontal_pod_autoscaler_downscale_stabilization, usual.downscale_stabilization),
        tolerance: number(said.horizontal_pod_autoscaler_tolerance.as_ref()).unwrap_or(usual.tolerance),
        scales_to_zero: features.is_on(HPA_SCALE_TO_ZERO),
        starting: Starting {
            cpu_initialization: seconds(said.horizontal_pod_autoscaler_cpu_initialization_period, usual.starting.cpu_initialization),
            initial_readiness: seconds(said.horizontal_pod_autoscaler_initial_readiness_delay, usual.starting.initial_readiness),
        },
    }
}

/// The names and addresses that are the cluster's own, as far as this machine knows them: what its API server's certificate says.
fn cluster_identity(config: &Config) -> ClusterIdentity {
    let (ips, names): (Vec<_>, Vec<_>) = config.cert_sans.iter().partition(|name| name.parse::<IpAddr>().is_ok());
    let servers = ips.into_iter().filter_map(|ip| ip.parse().ok()).chain([config.advertise_address]).chain(config.node_ips.iter());
    ClusterIdentity {
        service_ranges: config.service_cidr.all(),
        servers: servers.collect(),
        names: names.into_iter().chain([&config.node_name]).map(|name| name.to_ascii_lowercase()).collect(),
        ..ClusterIdentity::default()
    }
}

/// Starts what belongs to the API server of this process, whoever leads. Who keeps its lease is to be told when it ends.
pub fn start_beside_server(
    config: &Config,
    outside: &Outside,
    service: &Arc<dyn ApiService>,
    caches: &Caches,
    system: &System,
) -> UnitAddr<ServerIdentity> {
    let server = component("system:apiserver", &["system:masters"]);
    let own = server_client(service.clone());
    let identity = server_identity::run(system, own.clone(), &config.node_name);
    controller::start_below("apiserver", system, caches, own.clone(), LegacyTokenTracking::new(caches));
    controller::start_below("apiserver", system, caches, own.clone(), SystemNamespacesController::new(caches));
    controller::start_below("apiserver", system, caches, own, TokenUseController::new(outside.token_uses()));
    let client = Client::new(service.clone(), server, "api-priority-and-fairness-config-consumer-v1");
    controller::start_below("apiserver", system, caches, client, FlowSchemaController::new(caches));
    identity
}

/// The client of what an API server does itself.
pub fn server_client(service: Arc<dyn ApiService>) -> Client {
    Client::new(service, component("system:apiserver", &["system:masters"]), server_identity::MANAGER)
}

/// Starts choosing leaders among candidates.
pub fn start_elections(service: &Arc<dyn ApiService>, caches: &Caches, system: &System) -> Stop {
    controller::start_below("apiserver", system, caches, server_client(service.clone()), LeaderElectionController::new(caches));
    stop(system, "apiserver/leader-election-controller")
}

/// How the scheduler is made, by its configuration where there is one.
///
/// # Errors
/// When the configuration cannot be used.
pub fn scheduling(config: &Config) -> Result<MakeSetup> {
    let gates = features(config)?;
    let (has_gangs, has_taint_rules) = (gates.is_on(GANG_SCHEDULING), gates.is_on(DEVICE_TAINT_RULES));
    let features = Features {
        compares_tolerations: gates.is_on(TOLERATION_COMPARISONS),
        scores_capacity: gates.is_on(STORAGE_CAPACITY_SCORING),
        requires_drivers: gates.is_on(VOLUME_LIMIT_SCALING),
        cuts_backoffs_short: gates.is_on(POP_FROM_BACKOFF_QUEUE),
    };
    let parts_of = move |parts: &Parts| {
        let parts = if has_gangs { parts.with_gangs() } else { parts.clone() };
        let parts = if has_taint_rules { parts.with_taint_rules() } else { parts };
        Parts { features, ..parts }
    };
    let Some(file) = &config.scheduler_config else {
        return Ok(Arc::new(move |parts| Setup { measures: true, ..Setup::standard(&parts_of(parts)) }));
    };
    let read = Configuration::from_file(file, features).with_context(|| format!("the scheduler configuration {} is unusable", file.display()))?;
    Ok(Arc::new(move |parts| Setup { measures: true, ..read.setup(&parts_of(parts)) }))
}

/// Starts the scheduler likewise.
pub fn start_scheduler(service: &Arc<dyn ApiService>, caches: &Caches, make: MakeSetup, system: &System) -> Stop {
    scheduler::start_as(system, caches, scheduler_client(service.clone()), make);
    stop(system, "scheduler")
}

/// Stops the unit at `path` and all below it.
fn stop(system: &System, path: &'static str) -> Stop {
    let system = system.clone();
    Box::new(move || system.stop(path))
}

/// The controller manager's own client.
pub fn manager_client(service: Arc<dyn ApiService>) -> Client {
    Client::new(service, component("system:kube-controller-manager", &[]), MANAGER)
}

/// The scheduler's own client.
pub fn scheduler_client(service: Arc<dyn ApiService>) -> Client {
    Client::new(service, component("system:kube-scheduler", &[]), "kube-scheduler")
}

struct Run<'a> {
    service: &'a Arc<dyn ApiService>,
    system: &'a System,
    caches: &'a Caches,
    said: &'a ControllerSettings,
}

impl Run<'_> {
    /// Whether a controller runs, by upstream's name of it.
    fn runs(&self, name: &str) -> bool {
        debug_assert!(is_known_controller(name), "{name}");
        self.said.runs(name)
    }

    /// Makes and starts a controller that has upstream's name and acts under its service account, if it is to run.
    fn controller<C: Controller>(&self, (name, account): (&str, &str), make: impl FnOnce(&Caches) -> C) {
        if self.runs(name) {
            self.start(name, Client::for_service_account(self.service.clone(), account, MANAGER), make(self.caches));
        }
    }

    fn start<C: Controller>(&self, name: &str, client: Client, controller: C) {
        let concurrency = self.said.concurrency(name).unwrap_or(C::CONCURRENCY);
        controller::start_with(self.system, self.caches, client, controller, concurrency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_nodes_and_autoscalers_holds_for_them() {
        assert_eq!(lifecycle(&ControllerSettings::default()), LifecycleOptions::default());
        assert_eq!(autoscalers(&ControllerSettings::default(), &FeatureGates::default()), AutoscalerOptions::default());
        let said = ControllerSettings {
            controllers: Some(vec!["*".into(), "-taint-eviction-controller".into()]),
            node_eviction_rate: Some("0.5".into()),
            large_cluster_size_threshold: Some(7),
            node_startup_grace_period: Some(90),
            horizontal_pod_autoscaler_initial_readiness_delay: Some(20),
            ..ControllerSettings::default()
        };
        let nodes = lifecycle(&said);
        assert_eq!((nodes.pacing.rate, nodes.pacing.large, nodes.startup_grace, nodes.evicts), (0.5, 7, Duration::from_secs(90), false));
        let features = FeatureGates::parse(&["HPAScaleToZero=true".into()]).expect("there is such a feature");
        let AutoscalerOptions { starting, scales_to_zero, .. } = autoscalers(&said, &features);
        assert_eq!((starting.initial_readiness, scales_to_zero), (SignedDuration::from_secs(20), true));
    }
}
