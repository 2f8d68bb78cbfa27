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
        legacy_tokens::{LegacyTokenCleaner, LegacyTokenTracking, TokenUseController, UNUSED},
        local_path::{LocalPathCleaner, LocalPathProvisioner},
        namespace::NamespaceController,
        network_policy::{NetworkPolicyController, status::ClusterPolicyStatusController},
        node_ipam::NodeIpamController,
        node_lifecycle::NodeLifecycleController,
        node_ttl::NodeTtlController,
        persistent_volume::{ClaimBinder, VolumeBinder},
        pod_gc::{FINISHED_KEPT, PodGcController},
        pod_group_protection::PodGroupProtectionController,
        podautoscaler::{AutoscalerOptions, HorizontalController},
        policy_status::PolicyStatusController,
        replicaset::ReplicaSetController,
        replicationcontroller::ReplicationControllerController,
        resource_pool_status::ResourcePoolStatusController,
        resourceclaim::{ClaimReservationController, ResourceClaimController},
        resourcequota::ResourceQuotaController,
        root_ca::RootCaPublisher,
        server_identity,
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
        leader::Stop,
        system::System,
    },
    scheduler::{self, MakeSetup, Setup, configuration::Configuration, plugins::Parts},
};
use troupe_api::{
    ApiService,
    auth::{node::ClusterIdentity, tokens::Issuer},
    certificates::CertificateAuthority,
    features::{
        CLUSTER_TRUST_BUNDLE, DEVICE_TAINT_RULES, FeatureGates, GANG_SCHEDULING, GENERIC_WORKLOAD, POD_CERTIFICATE_REQUEST, RESOURCE_POOL_STATUS,
        STORAGE_VERSION_MIGRATOR,
    },
};
use troupe_api_client::Client;

use super::{
    control_plane::features,
    identity::{Outside, component},
};
use crate::config::{Config, ControllerSettings};

/// The field manager of controllers' writes.
pub const MANAGER: &str = "kube-controller-manager";

/// What the cluster is trusted by, as far as it is known to this process.
#[derive(Clone)]
pub struct Authority {
    pub ca_pem: String,
    /// Signs tokens; there where the API server is in this process too.
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
    let run = Run { service, system, caches };
    let cluster = cluster_identity(config);
    run.controller("deployment-controller", DeploymentController::new(caches));
    run.controller("disruption-controller", DisruptionController::new(caches));
    run.controller("disruption-controller", StaleDisruptionController::new(caches));
    run.controller("disruption-controller", SeveralBudgetsController::new(caches));
    run.controller("resourcequota-controller", ResourceQuotaController::new(caches));
    run.controller("daemon-set-controller", DaemonSetController::new(caches));
    run.controller("statefulset-controller", StatefulSetController::new(caches));
    run.controller("replication-controller", ReplicationControllerController::new(caches));
    run.controller("job-controller", JobController::new(caches));
    run.controller("job-controller", JobOrphanController::new(caches));
    run.controller("cronjob-controller", CronJobController::new(caches));
    run.controller("ttl-after-finished-controller", TtlAfterFinishedController::new(caches));
    run.controller("clusterrole-aggregation-controller", ClusterRoleAggregationController::new(caches));
    run.controller("replicaset-controller", ReplicaSetController::new(caches));
    run.controller("endpointslice-controller", EndpointSliceController::new(caches));
    run.controller("endpointslicemirroring-controller", EndpointSliceMirroringController::new(caches));
    run.controller("networkpolicy-controller", NetworkPolicyController::new(caches));
    run.controller("networkpolicy-controller", ClusterPolicyStatusController::new(caches));
    run.controller("endpoint-controller", EndpointsController::new(caches));
    run.controller("namespace-controller", NamespaceController::new(caches));
    run.controller("service-account-controller", ServiceAccountController::new(caches));
    run.controller("root-ca-cert-publisher", RootCaPublisher::new(caches, authority.ca_pem.as_str()));
    run.controller("node-controller", NodeIpamController::new(caches, config.node_ranges.clone()));
    run.controller("node-controller", NodeLifecycleController::new(caches, config.node_monitor_grace_period));
    run.controller("ttl-controller", NodeTtlController::new(caches));
    run.controller("service-cidrs-controller", ServiceCidrController::new(caches));
    run.controller("service-controller", ServiceLoadBalancerController::new(caches, config.load_balancer_pool.clone()));
    run.controller("pod-garbage-collector", PodGcController::new(caches).keeping(finished_pods(&config.controllers)));
    run.controller("horizontal-pod-autoscaler", HorizontalController::new(caches).with(autoscalers(&config.controllers)));
    run.controller("validatingadmissionpolicy-status-controller", PolicyStatusController::new(caches));
    run.controller("persistent-volume-binder", ClaimBinder::new(caches));
    run.controller("persistent-volume-binder", VolumeBinder::new(caches));
    run.controller("ephemeral-volume-controller", EphemeralVolumeController::new(caches));
    run.controller("resource-claim-controller", ResourceClaimController::new(caches));
    run.controller("resource-claim-controller", ClaimReservationController::new(caches));
    if features.is_on(DEVICE_TAINT_RULES) {
        let (evicting, rules) = device_taint_eviction::with_rules(caches);
        run.controller("device-taint-eviction-controller", evicting);
        run.controller("device-taint-eviction-controller", rules);
    } else {
        run.controller("device-taint-eviction-controller", DeviceTaintEvictionController::new(caches));
    }
    run.controller("local-path-provisioner", LocalPathProvisioner::new(caches));
    run.controller("local-path-provisioner", LocalPathCleaner::new(caches));
    let (attacher, attached) = attach_detach::controllers(caches);
    run.controller("attachdetach-controller", attacher);
    run.controller("attachdetach-controller", attached);
    run.controller("expand-controller", ExpandController::new(caches));
    run.controller("volumeattributesclass-protection-controller", VolumeAttributesProtection::new(caches));
    run.controller("pvc-protection-controller", PvcProtectionController::new(caches));
    run.controller("pv-protection-controller", PvProtectionController::new(caches));
    if let Some(issuer) = &authority.issuer {
        let secrets = TokenSecretController::new(caches, issuer.clone(), authority.ca_pem.as_str());
        controller::start(system, caches, manager_client(service.clone()), secrets);
    }
    run.controller("legacy-service-account-token-cleaner", LegacyTokenCleaner::new(caches, unused_tokens(&config.controllers)));
    run.controller("certificate-controller", CsrApprovingController::new(caches));
    run.controller("certificate-controller", CsrCleaner::new(caches));
    match &authority.signer {
        Some(signer) => {
            let signing = CsrSigningController::new(caches, signer.clone(), config.cluster_signing_duration, cluster.clone());
            run.controller("certificate-controller", signing);
        }
        None => tracing::warn!("the key of the certificate authority is not here: certificate signing requests are not signed"),
    }
    run.controller("kubelet-serving-approver", KubeletServingApprover::new(caches, cluster));
    run.controller("bootstrap-signer", BootstrapSigner::new(caches));
    run.controller("token-cleaner", TokenCleaner::new(caches));
    if features.is_on(GENERIC_WORKLOAD) {
        run.controller("podgroup-protection-controller", PodGroupProtectionController::new(caches));
    }
    if features.is_on(POD_CERTIFICATE_REQUEST) {
        run.controller("podcertificaterequestcleaner", PodCertificateRequestCleaner::new(caches));
    }
    if features.is_on(RESOURCE_POOL_STATUS) {
        run.controller("resourcepoolstatusrequest-controller", ResourcePoolStatusController::new(caches));
    }
    if features.is_on(STORAGE_VERSION_MIGRATOR) {
        run.controller("storage-version-migrator-controller", StorageVersionMigrator::new(caches));
    }
    if features.is_on(CLUSTER_TRUST_BUNDLE) {
        run.controller("kube-apiserver-serving-clustertrustbundle-publisher", TrustBundlePublisher::new(caches, authority.ca_pem.as_str()));
    }
    let collector = Client::for_service_account(service.clone(), "generic-garbage-collector", MANAGER);
    garbage_collector::start(system, &collector);
    stop(system, "controllers")
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

/// What holds for all autoscalers.
fn autoscalers(said: &ControllerSettings) -> AutoscalerOptions {
    let usual = AutoscalerOptions::default();
    let stabilization = said.horizontal_pod_autoscaler_downscale_stabilization;
    // It was looked at when the settings were.
    let tolerance = said.horizontal_pod_autoscaler_tolerance.as_ref().and_then(|tolerance| tolerance.parse().ok());
    AutoscalerOptions {
        period: said.horizontal_pod_autoscaler_sync_period.map_or(usual.period, |seconds| Duration::from_secs(seconds.into())),
        downscale_stabilization: stabilization.map_or(usual.downscale_stabilization, |seconds| SignedDuration::from_secs(seconds.into())),
        tolerance: tolerance.unwrap_or(usual.tolerance),
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

/// Starts what belongs to the API server of this process, whoever leads.
pub fn start_beside_server(config: &Config, outside: &Outside, service: &Arc<dyn ApiService>, caches: &Caches, system: &System) {
    let server = component("system:apiserver", &["system:masters"]);
    let own = Client::new(service.clone(), server.clone(), server_identity::MANAGER);
    server_identity::run(system, own.clone(), &config.node_name);
    controller::start_below("apiserver", system, caches, own.clone(), LegacyTokenTracking::new(caches));
    controller::start_below("apiserver", system, caches, own.clone(), SystemNamespacesController::new(caches));
    controller::start_below("apiserver", system, caches, own, TokenUseController::new(outside.token_uses()));
    let client = Client::new(service.clone(), server, "api-priority-and-fairness-config-consumer-v1");
    controller::start_below("apiserver", system, caches, client, FlowSchemaController::new(caches));
}

/// How the scheduler is made, by its configuration where there is one.
///
/// # Errors
/// When the configuration cannot be used.
pub fn scheduling(config: &Config) -> Result<MakeSetup> {
    let features = features(config)?;
    let (has_gangs, has_taint_rules) = (features.is_on(GANG_SCHEDULING), features.is_on(DEVICE_TAINT_RULES));
    let parts_of = move |parts: &Parts| {
        let parts = if has_gangs { parts.with_gangs() } else { parts.clone() };
        if has_taint_rules { parts.with_taint_rules() } else { parts }
    };
    let Some(file) = &config.scheduler_config else {
        return Ok(Arc::new(move |parts| Setup { measures: true, ..Setup::standard(&parts_of(parts)) }));
    };
    let read = Configuration::from_file(file).with_context(|| format!("the scheduler configuration {} is unusable", file.display()))?;
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
}

impl Run<'_> {
    fn controller<C: Controller>(&self, account: &str, controller: C) {
        let client = Client::for_service_account(self.service.clone(), account, MANAGER);
        controller::start(self.system, self.caches, client, controller);
    }
}
