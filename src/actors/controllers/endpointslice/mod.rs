//! EndpointSlice: keeps the slices of every Service with a selector.

mod hints;
pub mod metrics;
pub mod plan;
pub mod pods;
pub mod ports;
pub mod topology;
pub mod trigger_times;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use parking_lot::Mutex;
use troupe_api::{meta::ObjectKey, projection::MetaProjection};

use self::{
    hints::asks_for_topology,
    metrics::Tally,
    plan::{Action, MANAGED_BY, MANAGER, SERVICE_NAME, Snapshot},
    pods::{EndpointPod, zones},
    ports::MOST_PORTS,
    topology::{Capacities, NodeCapacity, Outcomes},
    trigger_times::TriggerTimes,
};
use super::{
    pods::index_by_node,
    services::{self, selected_pods, services_of, services_on},
    writes::{delete_with_uid, is_failure, is_gone, is_namespace_terminating},
};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Backoff, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct EndpointSliceController {
    services: Cache<Service>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    slices: Cache<EndpointSlice>,
    digests: Digests<Pod, EndpointPod>,
    capacities: Digests<Node, NodeCapacity>,
    /// What is known to have come of hints by the zones' capacity, of the Services that ask for them.
    topology: Arc<Mutex<HashMap<ObjectKey, Outcomes>>>,
    tally: Tally,
    triggers: TriggerTimes,
}

const BY_SERVICE: &str = "endpointslice/service";

impl EndpointSliceController {
    pub fn new(caches: &Caches) -> Self {
        let slices: Cache<EndpointSlice> = caches.cache();
        slices.add_meta_index(BY_SERVICE, |slice| service_of(slice, MANAGER));
        let (services, pods) = (services::index(caches.cache()), index_by_node(caches.cache()));
        let nodes: Cache<Node> = caches.cache();
        let (digests, capacities) = (pods.digests(), nodes.digests());
        EndpointSliceController {
            services,
            pods,
            nodes,
            slices,
            digests,
            capacities,
            topology: Arc::default(),
            tally: Tally::default(),
            triggers: TriggerTimes::default(),
        }
    }

    fn zone(&self, node: &str) -> Option<String> {
        let node = self.nodes.stored(&ObjectKey::cluster(node))?;
        zone_of(node.meta()).map(str::to_owned)
    }

    /// What zones have, for a Service that wants to know.
    async fn capacities(&self, service: &Service) -> Option<Capacities> {
        if !asks_for_topology(service) {
            return None;
        }
        Capacities::of(&self.capacities.read(&self.nodes.select_stored("", |_| true)).await)
    }

    /// Tells what is new about hints by the zones' capacity.
    fn tell_topology(&self, key: &ObjectKey, service: &Service, outcomes: Outcomes, cx: &ReconcileContext) {
        let mut known = self.topology.lock();
        let before = known.remove(key).unwrap_or_default();
        for news in topology::news(&before, &outcomes) {
            cx.tell(service, news.warning, news.reason, news.message);
        }
        if !outcomes.is_empty() {
            known.insert(key.clone(), outcomes);
        }
    }
}

/// The zone of a node. Nothing is decoded for it.
fn zone_of(node: &MetaProjection) -> Option<&str> {
    node.labels.get("topology.kubernetes.io/zone")
}

/// What a slice that `manager` keeps is filed under: its Service, as `namespace/name`.
pub fn service_of(slice: &MetaProjection, manager: &str) -> Vec<Arc<str>> {
    let (Some(service), Some(kept_by)) = (slice.labels.get(SERVICE_NAME), slice.labels.get(MANAGED_BY)) else { return Vec::new() };
    let ours = kept_by == manager;
    ours.then(|| format!("{}/{service}", slice.namespace).into()).into_iter().collect()
}

/// Takes the steps of a plan about slices of a namespace.
pub async fn apply(actions: Vec<Action>, slices: &Cache<EndpointSlice>, namespace: &str, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let api = cx.client().namespaced::<EndpointSlice>(namespace);
    for action in actions {
        let written = match action {
            Action::Create(slice) => api.create(&slice).await,
            Action::Update(slice) => api.update(&slice).await,
            Action::Delete { name, uid } => {
                delete_with_uid(&api, &name, &uid).await?;
                cx.deleted(slices, ObjectKey::new(namespace, name), uid);
                continue;
            }
        };
        match written {
            Ok(written) => cx.wrote(slices, &*written),
            Err(status) if is_gone(&status) || is_namespace_terminating(&status) => {}
            Err(status) => return Err(status.into()),
        }
    }
    Ok(())
}

impl Controller for EndpointSliceController {
    const NAME: &'static str = "endpointslice";
    const EVENT_SOURCE: Option<&'static str> = Some("endpoint-slice-controller");
    const BACKOFF: Backoff = Backoff::new(1_000, 1_000);

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Service>();
        let services = self.services.clone();
        watches.map::<Pod>(move |change| services_of(&services, change));
        let topology = self.topology.clone();
        // Whoever has hints by the zones' capacity may need others when that is another one.
        watches.map::<Node>(move |change| {
            let known = topology.lock();
            let capacity = |node: Option<&Arc<Node>>| node.map(|node| NodeCapacity::of(node));
            let moved = !known.is_empty() && capacity(change.before()) != capacity(change.after());
            if moved { known.keys().cloned().collect() } else { Vec::new() }
        });
        let (services, pods) = (self.services.clone(), self.pods.clone());
        // Nodes may be told their zones when their pods run already.
        watches.map::<Node>(move |change| {
            if change.meta_before().and_then(zone_of) == change.meta_after().and_then(zone_of) {
                return Vec::new();
            }
            services_on(&services, &pods, &change.key.name)
        });
        watches.map::<EndpointSlice>(|change| {
            let slice = change.meta_after().or(change.meta_before());
            let name = slice.and_then(|meta| meta.labels.get(SERVICE_NAME));
            name.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let service = self.services.get(key);
        if service.is_none() {
            self.triggers.forget(key);
        }
        let selected = service.and_then(|service| Some((selected_pods(&service.object, &self.pods)?, service)));
        let Some((selected, service)) = selected else {
            self.tally.forget(key);
            self.topology.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let pods = self.digests.read(&selected).await;
        let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
        let zones = zones(&pods, |node| self.zone(node));
        let triggered = self.triggers.look(key, &service.object, &pods);
        let capacities = self.capacities(&service.object).await;
        let snapshot = Snapshot { service: &service.object, pods: &pods, slices: &slices, zones: &zones, triggered, capacities: capacities.as_ref() };
        let planned = plan::plan(snapshot);
        if planned.left_out > 0 {
            let message = format!(
                "{} pods are left out: their ports have other numbers, and all port sets have more than {MOST_PORTS} ports",
                planned.left_out
            );
            cx.tell(&*service.object, true, "TooManyPorts", message);
        }
        self.tell_topology(key, &service.object, planned.topology, cx);
        self.tally.planned(&service.object, key, &slices, &planned.actions);
        if let Err(error) = apply(planned.actions, &self.slices, &key.namespace, cx).await {
            if is_failure(&error) {
                let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
                cx.tell(&*service.object, true, "FailedToUpdateEndpointSlices", message);
            }
            return Err(error);
        }
        Ok(Outcome::Done)
    }
}
