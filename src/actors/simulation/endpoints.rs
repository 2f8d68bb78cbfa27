//! EndpointSlices under faults: pods come, go, and are ready or not, and in the end each pod with an address is in exactly one slice, as it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;
use troupe_api::service::{DeleteOptions, PatchType};

use super::{
    Faults, simulate_with_clock,
    world::{World, seeds},
};
use crate::controllers::{endpointslice::EndpointSliceController, pods::is_ready};

/// How long the world has to come to rest.
const REST: Duration = Duration::from_secs(900);
const STEPS: usize = 150;
/// Pods have so many names, each with its address: whoever comes again has the address of whoever was there before.
const NAMES: usize = 12;

impl World {
    /// A pod comes, serves its named port under one of two numbers, and has no address yet.
    async fn serving_pod(&self, at: usize) {
        let container = json!({"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8000 + at % 2}]});
        let metadata = json!({"name": format!("p{at}"), "namespace": "default", "labels": {"app": "web"}});
        self.api.ensure(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})).await;
    }

    /// Something becomes of the pods.
    async fn pods_change(&self, rng: &mut StdRng) {
        let at = rng.random_range(0..NAMES);
        let name = format!("p{at}");
        let Ok(pod) = self.api.get("pods", "default", &name).await else { return self.serving_pod(at).await };
        match rng.random_range(0..10) {
            0..2 => drop(self.api.delete("pods", "default", &name, DeleteOptions::default()).await.expect("deleted")),
            2 => {
                let label = if pod.label("app") == Some("web") { "other" } else { "web" };
                let target = self.api.target("pods", "default", &name);
                self.api.patch(target, PatchType::Merge, json!({"metadata": {"labels": {"app": label}}})).await.expect("patched");
            }
            _ => {
                let (ip, ready) = (format!("10.244.0.{}", at + 1), if rng.random_bool(0.7) { "True" } else { "False" });
                let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]});
                let target = self.api.subresource("pods", "default", &name, "status");
                self.api.patch(target, PatchType::Merge, json!({"status": status})).await.expect("patched");
            }
        }
    }

    /// The endpoints that the slices of a Service show: the port and whether they are ready, by UID of the pod and address.
    async fn shown(&self, service: &str) -> Vec<((String, String), (i32, bool))> {
        let slices = self.list::<EndpointSlice>("default").await;
        let of_service = |slice: &&Arc<EndpointSlice>| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get("kubernetes.io/service-name")).is_some_and(|name| name == service)
        };
        let mut shown = Vec::new();
        for slice in slices.iter().filter(of_service) {
            let port = slice.ports.iter().flatten().find_map(|port| port.port).unwrap_or_default();
            for endpoint in slice.endpoints.iter().flatten() {
                let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
                let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
                shown.extend(endpoint.addresses.iter().map(|address| ((pod.clone(), address.clone()), (port, ready))));
            }
        }
        shown.sort();
        shown
    }

    /// The same as the pods themselves say it.
    async fn serving(&self) -> Vec<((String, String), (i32, bool))> {
        let mut serving = BTreeMap::new();
        for pod in self.list::<Pod>("default").await {
            let has_label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).is_some_and(|app| app == "web");
            let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|_| has_label) else { continue };
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let port = containers.flat_map(|container| container.ports.iter().flatten()).map(|port| port.container_port).next();
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            serving.insert((uid, ip), (port.expect("each has one"), is_ready(&pod)));
        }
        serving.into_iter().collect()
    }
}

#[test]
fn in_the_end_each_pod_with_an_address_is_in_exactly_one_slice_as_it_is() {
    for seed in seeds() {
        for faults in [Faults::default(), Faults { lost_reply: 0.3, ..Faults::default() }] {
            simulate_with_clock(seed, |system, clock| async move {
                let world = World::new(system, clock, faults, seed).await;
                world.start(EndpointSliceController::new);
                for service in ["web", "again"] {
                    let ports = json!([{"name": "http", "port": 80, "targetPort": "web"}]);
                    let spec = json!({"selector": {"app": "web"}, "ports": ports});
                    let metadata = json!({"name": service, "namespace": "default"});
                    world.api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})).await;
                }
                let mut rng = StdRng::seed_from_u64(seed);
                let steps = async {
                    for _ in 0..STEPS {
                        world.pods_change(&mut rng).await;
                        sleep(Duration::from_secs_f64(rng.random_range(0.0..2.0))).await;
                    }
                };
                world.in_trouble(steps).await;
                sleep(REST).await;
                let serving = world.serving().await;
                assert!(!serving.is_empty(), "seed {seed}: some pods have addresses");
                for service in ["web", "again"] {
                    assert_eq!(world.shown(service).await, serving, "seed {seed}: {service}");
                }
            });
        }
    }
}
