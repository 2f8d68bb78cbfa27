//! Endpoints: keeps the Endpoints object of every Service with a selector, for clients that do not know slices.

pub mod plan;

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use troupe_api::{meta::ObjectKey, service::DeleteOptions};

use self::plan::Action;
use super::{
    endpointslice::{pods::EndpointPod, trigger_times::TriggerTimes},
    services::{self, selected_pods, services_of},
    writes::{is_failure, is_gone, is_namespace_terminating},
};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct EndpointsController {
    services: Cache<Service>,
    pods: Cache<Pod>,
    endpoints: Cache<Endpoints>,
    digests: Digests<Pod, EndpointPod>,
    triggers: TriggerTimes,
}

impl EndpointsController {
    pub fn new(caches: &Caches) -> Self {
        let (services, pods) = (services::index(caches.cache()), caches.cache::<Pod>());
        EndpointsController { services, digests: pods.digests(), pods, endpoints: caches.cache(), triggers: TriggerTimes::default() }
    }

    /// The Service is gone: its Endpoints go, if this controller made them.
    async fn remove(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        self.triggers.forget(key);
        let Some(orphan) = self.endpoints.get(key) else { return Ok(Outcome::Done) };
        let managed = orphan.object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(plan::MANAGED_BY));
        if managed {
            let uid = orphan.object.metadata.uid.clone();
            let options = DeleteOptions { precondition_uid: uid, ..DeleteOptions::default() };
            match cx.client().namespaced::<Endpoints>(key.namespace.clone()).delete(&key.name, options).await {
                Err(status) if !is_gone(&status) && !status.is_conflict() => return Err(status.into()),
                _ => {}
            }
        }
        Ok(Outcome::Done)
    }
}

impl Controller for EndpointsController {
    const NAME: &'static str = "endpoints";
    const EVENT_SOURCE: Option<&'static str> = Some("endpoint-controller");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Service>();
        let services = self.services.clone();
        watches.map::<Pod>(move |change| services_of(&services, change));
        watches.map::<Endpoints>(|change| vec![change.key.clone()]);
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(service) = self.services.get(key) else { return self.remove(key, cx).await };
        let Some(selected) = selected_pods(&service.object, &self.pods) else { return Ok(Outcome::Done) };
        let pods = self.digests.read(&selected).await;
        let triggered = self.triggers.look(key, &service.object, &pods);
        let current = self.endpoints.get(key);
        let api = cx.client().namespaced::<Endpoints>(key.namespace.clone());
        let Some(action) = plan::plan(&service.object, &pods, current.as_ref().map(|cached| &*cached.object), triggered) else {
            return Ok(Outcome::Done);
        };
        let written = match &action {
            Action::Create(endpoints) => api.create(endpoints).await,
            Action::Update(endpoints) => api.update(endpoints).await,
        };
        match written {
            Ok(written) => cx.wrote(&self.endpoints, &*written),
            Err(status) if is_gone(&status) || is_namespace_terminating(&status) => {}
            Err(status) => {
                let error: ReconcileError = status.into();
                tell_failure(&action, key, &error, cx);
                return Err(error);
            }
        }
        Ok(Outcome::Done)
    }
}

fn tell_failure(action: &Action, key: &ObjectKey, error: &ReconcileError, cx: &ReconcileContext) {
    if !is_failure(error) {
        return;
    }
    match action {
        Action::Create(endpoints) => {
            cx.tell(&**endpoints, true, "FailedToCreateEndpoint", format!("Failed to create endpoint for service {key}: {error}"));
        }
        Action::Update(endpoints) => {
            cx.tell(&**endpoints, true, "FailedToUpdateEndpoint", format!("Failed to update endpoint {key}: {error}"));
        }
    }
}
