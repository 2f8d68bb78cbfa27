//! What stands between a pod's sandbox and its first container.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::Cause;
use troupe_net::neighbours::Neighbours;

use super::{
    messages::{Admit, Left},
    model::PodView,
    router::PolicyRouter,
};
use crate::runtime::host::UnitAddr;

/// Says where the kubelet has a pod from.
const SOURCE: &str = "kubernetes.io/config.source";
/// How long a pod's rules may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Knows when a pod may begin to talk.
#[async_trait]
pub trait PodGate: Send + Sync + 'static {
    /// Returns when the rules of all policies that select the pod stand for these addresses of its.
    ///
    /// # Errors
    /// In words, when they do not stand in time: the pod must not start yet.
    async fn admit(&self, pod: &Pod, addresses: &[String]) -> Result<(), String>;

    /// The pod's addresses are its own no more.
    async fn left(&self, namespace: &str, name: &str, uid: &str);
}

/// A gate that nobody watches: no policies are enforced here.
pub struct OpenGate;

#[async_trait]
impl PodGate for OpenGate {
    async fn admit(&self, _: &Pod, _: &[String]) -> Result<(), String> {
        Ok(())
    }

    async fn left(&self, _: &str, _: &str, _: &str) {}
}

/// A gate before which it is forgotten who had the pod's addresses before it.
pub struct FreshGate {
    pub neighbours: Arc<dyn Neighbours>,
    pub then: Arc<dyn PodGate>,
}

#[async_trait]
impl PodGate for FreshGate {
    async fn admit(&self, pod: &Pod, addresses: &[String]) -> Result<(), String> {
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let addresses_of_pod: Vec<IpAddr> = addresses.iter().filter(|_| !on_host).filter_map(|address| address.parse().ok()).collect();
        if !addresses_of_pod.is_empty()
            && let Err(error) = self.neighbours.forget(&addresses_of_pod).await
        {
            // The kernel finds out by itself after a while.
            tracing::warn!(%error, ?addresses, "who had a pod's addresses before it is not forgotten");
        }
        self.then.admit(pod, addresses).await
    }

    async fn left(&self, namespace: &str, name: &str, uid: &str) {
        self.then.left(namespace, name, uid).await;
    }
}

/// All of several gates, as those of each family of addresses.
pub struct EveryGate(pub Vec<Arc<dyn PodGate>>);

#[async_trait]
impl PodGate for EveryGate {
    async fn admit(&self, pod: &Pod, addresses: &[String]) -> Result<(), String> {
        for gate in &self.0 {
            gate.admit(pod, addresses).await?;
        }
        Ok(())
    }

    async fn left(&self, namespace: &str, name: &str, uid: &str) {
        for gate in &self.0 {
            gate.left(namespace, name, uid).await;
        }
    }
}

/// The router's gate.
pub(super) struct RouterGate {
    router: UnitAddr<PolicyRouter>,
}

impl RouterGate {
    pub fn new(router: UnitAddr<PolicyRouter>) -> Self {
        RouterGate { router }
    }
}

#[async_trait]
impl PodGate for RouterGate {
    async fn admit(&self, pod: &Pod, addresses: &[String]) -> Result<(), String> {
        let ips: Vec<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let source = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SOURCE));
        let admit = Admit { pod: PodView { ips, ..PodView::of(pod) }, is_static: source.is_some_and(|source| source == "file") };
        if admit.pod.host_network {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.router.ask(admit, Cause::default())).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("its rules do not stand within {} s", PATIENCE.as_secs())),
        }
    }

    async fn left(&self, namespace: &str, name: &str, uid: &str) {
        self.router.wake(Left { namespace: namespace.into(), name: name.into(), uid: uid.into() }, Cause::default());
    }
}
