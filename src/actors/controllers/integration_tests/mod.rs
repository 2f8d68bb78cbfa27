//! Controllers and scheduler together on an API server in memory, with a stand-in for the kubelets.

mod attach;
mod budgets;
mod cluster_policies;
mod collection;
mod devices;
mod event_sources;
mod faults;
mod gangs;
mod legacy_tokens;
mod migrations;
mod namespaces;
mod nodes;
mod quotas;
mod refused_writes;
mod rollouts;
mod scheduler_setup;
mod scheduling;
mod servers;
mod services;
mod volumes;
mod workloads;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Node, Pod},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_api::{
    features::{DEVICE_TAINT_RULES, FeatureGates, WORKLOAD_WITH_JOB},
    local_path::DIRECTORY,
    meta::{ObjectKey, Revision},
    resources::{Resource, builtin},
    service::{DeleteOptions, ListOptions, PatchType},
};
use troupe_api_client::Client;
use troupe_api_server::store::{Store, memory::MemoryStore};

use super::{
    cronjob::CronJobController,
    daemonset::DaemonSetController,
    deployment::DeploymentController,
    device_taint_eviction::{self, DeviceTaintEvictionController},
    endpoints::EndpointsController,
    endpointslice::EndpointSliceController,
    endpointslice_mirroring::EndpointSliceMirroringController,
    ephemeral_volume::EphemeralVolumeController,
    garbage_collector,
    job::{JobController, orphans::JobOrphanController},
    local_path::{self, LocalPathCleaner, LocalPathProvisioner},
    namespace::NamespaceController,
    node_ipam::{ClusterRange, NodeIpamController},
    node_lifecycle::NodeLifecycleController,
    persistent_volume::{ClaimBinder, VolumeBinder},
    pod_gc::PodGcController,
    replicaset::ReplicaSetController,
    replicationcontroller::ReplicationControllerController,
    resourceclaim::{ClaimReservationController, ResourceClaimController},
    resourcequota::ResourceQuotaController,
    root_ca::RootCaPublisher,
    serviceaccount::ServiceAccountController,
    statefulset::StatefulSetController,
    ttl_after_finished::TtlAfterFinishedController,
    volume_protection::{PvProtectionController, PvcProtectionController},
};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    runtime::{
        cache::Caches,
        controller::{Controller, start},
        system::{System, SystemOptions},
    },
    scheduler::{self, MakeSetup, Setup},
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane.
struct World {
    api: TestApi,
    store: Arc<MemoryStore>,
    system: System,
    caches: Caches,
}

impl World {
    /// All controllers and the scheduler, no node yet.
    async fn new() -> World {
        World::scheduled_as(Arc::new(Setup::standard)).await
    }

    /// The same with another scheduler.
    async fn scheduled_as(make: MakeSetup) -> World {
        World::serving(builtin(), FeatureGates::default(), make).await
    }

    /// The same with other kinds.
    async fn serving(resources: Vec<Arc<Resource>>, features: FeatureGates, make: MakeSetup) -> World {
        let store = Arc::new(MemoryStore::new());
        let system = System::new(SystemOptions::default()).expect("arbiters start");
        let (has_gangs, has_taint_rules) = (features.is_on(WORKLOAD_WITH_JOB), features.is_on(DEVICE_TAINT_RULES));
        let options = ApiServerOptions { system: system.clone(), resources, features, ..ApiServerOptions::new(store.clone()) };
        let api = boot_with(options).await;
        let caches = Caches::new(system.clone(), api.client.clone());
        let world = World { api, store, system, caches };
        world.start(DeploymentController::new(&world.caches));
        world.start(ReplicaSetController::new(&world.caches));
        world.start(ReplicationControllerController::new(&world.caches));
        world.start(StatefulSetController::new(&world.caches));
        world.start(DaemonSetController::new(&world.caches));
        let jobs = JobController::new(&world.caches);
        world.start(if has_gangs { jobs.with_gangs(&world.caches) } else { jobs });
        world.start(JobOrphanController::new(&world.caches));
        world.start(CronJobController::new(&world.caches));
        world.start(TtlAfterFinishedController::new(&world.caches));
        world.start(ResourceQuotaController::new(&world.caches));
        world.start(NamespaceController::new(&world.caches));
        world.start(ServiceAccountController::new(&world.caches));
        world.start(RootCaPublisher::new(&world.caches, "CA"));
        world.start(EndpointsController::new(&world.caches));
        world.start(EndpointSliceController::new(&world.caches));
        world.start(EndpointSliceMirroringController::new(&world.caches));
        world.start(PodGcController::new(&world.caches));
        world.start(ClaimBinder::new(&world.caches));
        world.start(VolumeBinder::new(&world.caches));
        world.start(EphemeralVolumeController::new(&world.caches));
        world.start(ResourceClaimController::new(&world.caches));
        world.start(ClaimReservationController::new(&world.caches));
        if has_taint_rules {
            let (evicting, rules) = device_taint_eviction::with_rules(&world.caches);
            world.start(evicting);
            world.start(rules);
        } else {
            world.start(DeviceTaintEvictionController::new(&world.caches));
        }
        world.start(LocalPathProvisioner::new(&world.caches));
        world.start(LocalPathCleaner::new(&world.caches));
        world.start(PvcProtectionController::new(&world.caches));
        world.start(PvProtectionController::new(&world.caches));
        world.start(NodeLifecycleController::new(&world.caches, super::node_lifecycle::GRACE));
        world.start(NodeIpamController::new(&world.caches, vec![ClusterRange::new("10.244.0.0/16".parse().expect("a range"))]));
        garbage_collector::start(&world.system, &world.api.client);
        scheduler::start_as(&world.system, &world.caches, world.api.client.clone(), make);
        world.api.create(local_path::objects::storage_class().into_value()).await;
        world
    }

    fn start<C: Controller>(&self, controller: C) {
        start(&self.system, &self.caches, self.api.client.clone(), controller);
    }

    fn client(&self) -> &Client {
        &self.api.client
    }

    /// A ready node with room for so many CPUs, kept alive by nobody: tests are shorter than the grace period.
    async fn node(&self, name: &str, cpus: u32) {
        let (labels, annotations) = (json!({"kubernetes.io/hostname": name}), json!({DIRECTORY: "/volumes"}));
        let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
        self.api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})).await;
        let room = json!({"cpu": cpus.to_string(), "memory": "8Gi", "pods": "110"});
        let now = troupe_api::meta::time::format_time(self.system.clock().now());
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": "KubeletReady"});
        let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}});
        let target = self.api.subresource("nodes", "", name, "status");
        self.api.patch(target, PatchType::Merge, status).await.expect("the node's status is written");
        let nodes = self.caches.cache::<Node>();
        eventually("the node has lost its taints", || {
            nodes.get(&ObjectKey::cluster(name)).is_some_and(|node| {
                let taints = node.object.spec.as_ref().and_then(|spec| spec.taints.as_deref());
                taints.is_none_or(<[_]>::is_empty)
            })
        })
        .await;
    }

    /// Plays every kubelet until the test ends: bound pods become ready, deleted ones end.
    fn play_kubelets(&self) {
        let (client, pods, clock) = (self.client().clone(), self.caches.cache::<Pod>(), self.system.clock().clone());
        tokio::task::spawn_local(async move {
            let mut addresses = 1;
            loop {
                for pod in pods.list("") {
                    addresses += 1;
                    play_kubelet(&client, &pod, addresses, &troupe_api::meta::time::format_time(clock.now())).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    async fn deployment(&self, name: &str, replicas: i32, image: &str) {
        self.api.create(deployment(name, replicas, image)).await;
    }

    async fn patch_deployment(&self, name: &str, patch: Value) {
        let target = self.api.target("deployments.apps", "default", name);
        let patched = self.api.patch(target, PatchType::StrategicMerge, patch).await.expect("the deployment is patched");
        let revision = patched.resource_version().parse().expect("a revision");
        // From here on the cache shows no status of before.
        assert!(self.caches.cache::<Deployment>().wait_for(revision, PATIENCE).await, "the cache follows");
    }

    /// Waits until the Deployment reports `replicas` updated and available pods and nothing else.
    async fn rolled_out(&self, name: &str, replicas: i32) {
        let deployments = self.caches.cache::<Deployment>();
        let key = ObjectKey::new("default", name);
        let done = || {
            let Some(cached) = deployments.get(&key) else { return false };
            let Some(status) = &cached.object.status else { return false };
            status.observed_generation == cached.object.metadata.generation
                && status.replicas.unwrap_or(0) == replicas
                && status.updated_replicas.unwrap_or(0) == replicas
                && status.available_replicas.unwrap_or(0) == replicas
        };
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "{name} was not rolled out with {replicas}:\n{}", self.state().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything of interest, for a test that failed.
    async fn state(&self) -> String {
        let mut text = self.busiest().await;
        for resource in ["deployments.apps", "replicasets.apps", "pods"] {
            for item in self.api.list(resource, "default", ListOptions::default()).await.expect("listed").items {
                text += &format!("\n{resource} {}: {}", item.key, item.to_object().get(&["status"]).cloned().unwrap_or_default());
            }
        }
        text
    }

    /// Image and size of each ReplicaSet in namespace `default`.
    async fn sets(&self) -> Vec<(String, i32)> {
        let sets = self.client().namespaced::<ReplicaSet>("default").list(ListOptions::default()).await.expect("listed").items;
        let image = |set: &ReplicaSet| {
            let template = set.spec.as_ref()?.template.as_ref()?;
            template.spec.as_ref()?.containers[0].image.clone()
        };
        let mut found: Vec<_> =
            sets.iter().map(|set| (image(set).unwrap_or_default(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))).collect();
        found.sort();
        found
    }

    /// The store's revision stands still: nobody writes any more. Pods of the stand-in are ready by then.
    async fn settles(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Revision::ZERO;
        loop {
            let now = self.store.current_revision().await.expect("memory answers");
            if now == last {
                return;
            }
            assert!(Instant::now() < deadline, "writes never end: {}", self.busiest().await);
            last = now;
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }

    async fn busiest(&self) -> String {
        let all = self.system.directory().observe(Duration::from_secs(1)).await;
        let lines = all.iter().map(|actor| format!("{} {} {}", actor.path, actor.handled, actor.status));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Reasons and messages of the events about an object.
    async fn events(&self, namespace: &str, name: &str) -> Vec<(String, String)> {
        let list = self.api.list("events", namespace, ListOptions::default()).await.expect("listed");
        let events = list.items.iter().map(|item| item.to_object());
        let about = events.filter(|event| event.str(&["involvedObject", "name"]) == name);
        about.map(|event| (event.str(&["reason"]).to_owned(), event.str(&["message"]).to_owned())).collect()
    }
}

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

async fn play_kubelet(client: &Client, pod: &Pod, address: u32, now: &str) {
    let (name, namespace) = (pod.metadata.name.as_deref().unwrap_or_default(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let api = client.namespaced::<Pod>(namespace);
    if pod.metadata.deletion_timestamp.is_some() {
        let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        // Somebody else may have been faster.
        let _ = api.delete(name, at_once).await;
        return;
    }
    let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !bound || super::pods::is_ready(pod) || super::pods::is_finished(pod) {
        return;
    }
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let ip = format!("10.244.{}.{}", address / 250, address % 250 + 1);
    let conditions = [condition("Ready"), condition("ContainersReady"), condition("PodScheduled")];
    // A pod that the cache shows late may have another address already.
    let ips = json!([{"$patch": "replace"}, {"ip": ip}]);
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": ips, "conditions": conditions}});
    match api.patch(name, "status", PatchType::StrategicMerge, &status).await {
        Err(refused) if !refused.is_not_found() && !refused.is_conflict() => panic!("a kubelet's status is refused: {refused}"),
        _ => {}
    }
}

/// Waits until `check` holds.
async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until an asynchronous `check` holds.
async fn eventually_async(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
