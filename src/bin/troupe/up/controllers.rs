//! Starts the controllers and the scheduler, each under the identity upstream gives it.

use std::sync::Arc;

use troupe_actors::{
    apiserver::ApiServer,
    controllers::{
        cluster_role_aggregation::ClusterRoleAggregationController,
        daemonset::DaemonSetController,
        deployment::DeploymentController,
        endpoints::EndpointsController,
        endpointslice::EndpointSliceController,
        garbage_collector,
        namespace::NamespaceController,
        node_ipam::NodeIpamController,
        node_lifecycle::NodeLifecycleController,
        pod_gc::PodGcController,
        replicaset::ReplicaSetController,
        root_ca::RootCaPublisher,
        serviceaccount::ServiceAccountController,
        volume_protection::{PvProtectionController, PvcProtectionController},
    },
    runtime::{
        cache::Caches,
        controller::{self, Controller},
        system::System,
    },
    scheduler,
};
use troupe_api::client::Client;

use super::identity::component;
use crate::config::Config;

/// The field manager of controllers' writes.
const MANAGER: &str = "kube-controller-manager";

/// Starts them all. They read the caches of the returned set.
pub fn start(config: &Config, ca_pem: &str, api: &Arc<ApiServer>, system: &System) -> Caches {
    let manager = Client::new(api.clone(), component("system:kube-controller-manager", &[]), MANAGER);
    let caches = Caches::new(system.clone(), manager);
    let run = Run { api, system, caches: &caches };
    run.controller("deployment-controller", DeploymentController::new(&caches));
    run.controller("daemon-set-controller", DaemonSetController::new(&caches));
    run.controller("clusterrole-aggregation-controller", ClusterRoleAggregationController::new(&caches));
    run.controller("replicaset-controller", ReplicaSetController::new(&caches));
    run.controller("endpointslice-controller", EndpointSliceController::new(&caches));
    run.controller("endpoint-controller", EndpointsController::new(&caches));
    run.controller("namespace-controller", NamespaceController::new(&caches));
    run.controller("service-account-controller", ServiceAccountController::new(&caches));
    run.controller("root-ca-cert-publisher", RootCaPublisher::new(&caches, ca_pem));
    run.controller("node-controller", NodeIpamController::new(&caches, config.pod_cidr));
    run.controller("node-controller", NodeLifecycleController::new(&caches));
    run.controller("pod-garbage-collector", PodGcController::new(&caches));
    run.controller("pvc-protection-controller", PvcProtectionController::new(&caches));
    run.controller("pv-protection-controller", PvProtectionController::new(&caches));
    let collector = Client::for_service_account(api.clone(), "generic-garbage-collector", MANAGER);
    garbage_collector::start(system, &collector);
    let client = Client::new(api.clone(), component("system:kube-scheduler", &[]), "kube-scheduler");
    scheduler::start(system, &caches, client);
    caches
}

struct Run<'a> {
    api: &'a Arc<ApiServer>,
    system: &'a System,
    caches: &'a Caches,
}

impl Run<'_> {
    fn controller<C: Controller>(&self, account: &str, controller: C) {
        let client = Client::for_service_account(self.api.clone(), account, MANAGER);
        controller::start(self.system, self.caches, client, controller);
    }
}
