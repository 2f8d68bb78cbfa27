//! What stands between a pod's sandbox and its first container.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::Cause;
use troupe_net::{cni::announce::PodAddresses, neighbours::Neighbours};

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
/// After this a pod's addresses are announced again (RFC 5227, section 2.3): what comes right after a port is added a bridge may lose.
const AGAIN: Duration = Duration::from_secs(2);

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

/// A gate before which it is forgotten who had the pod's addresses before it, here and by its neighbours.
pub struct FreshGate {
    pub neighbours: Arc<dyn Neighbours>,
    pub pods: Arc<dyn PodAddresses>,
    pub then: Arc<dyn PodGate>,
}

impl FreshGate {
    async fn refresh(&self, addresses: Vec<IpAddr>) {
        if let Err(error) = self.neighbours.forget(&addresses).await {
            // The kernel finds out by itself after a while.
            tracing::warn!(%error, ?addresses, "who had a pod's addresses before it is not forgotten");
        }
        announce(&*self.pods, &addresses).await;
        let pods = self.pods.clone();
        // Whoever has them by then is announced, so it does no harm to a pod that has gone.
        drop(tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            announce(&*pods, &addresses).await;
        }));
    }
}

async fn announce(pods: &dyn PodAddresses, addresses: &[IpAddr]) {
    if let Err(error) = pods.announce(addresses).await {
        // Neighbours find out by themselves after a while.
        tracing::debug!(%error, ?addresses, "a pod's neighbours were not told of its addresses");
    }
}

#[async_trait]
impl PodGate for FreshGate {
    async fn admit(&self, pod: &Pod, addresses: &[String]) -> Result<(), String> {
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let addresses_of_pod: Vec<IpAddr> = addresses.iter().filter(|_| !on_host).filter_map(|address| address.parse().ok()).collect();
        if !addresses_of_pod.is_empty() {
            self.refresh(addresses_of_pod).await;
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
        let admit =
            Admit { pod: PodView { ips, ..PodView::of(pod) }, is_static: source.is_some_and(|source| matches!(source.as_str(), "file" | "http")) };
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use troupe_net::{cni::announce::FakePodAddresses, neighbours::FakeNeighbours};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pods_addresses_are_forgotten_and_announced_twice_and_the_nodes_are_not() {
        let (neighbours, pods) = (Arc::new(FakeNeighbours::default()), Arc::new(FakePodAddresses::default()));
        let gate = FreshGate { neighbours: neighbours.clone(), pods: pods.clone(), then: Arc::new(OpenGate) };
        let ips = ["10.244.0.5", "fd00:10:244::5"];
        let (texts, parsed) = (ips.map(str::to_owned), ips.map(|ip| ip.parse::<IpAddr>().expect("an address")));

        let on_host = Pod { spec: Some(PodSpec { host_network: Some(true), ..PodSpec::default() }), ..Pod::default() };
        gate.admit(&on_host, &texts).await.expect("is open");
        assert_eq!((neighbours.forgotten(), pods.announced()), (Vec::new(), Vec::new()));

        gate.admit(&Pod::default(), &texts).await.expect("is open");
        assert_eq!((neighbours.forgotten(), pods.announced()), (parsed.to_vec(), parsed.to_vec()), "before the pod's first packet");
        tokio::time::sleep(AGAIN + Duration::from_millis(10)).await;
        assert_eq!(pods.announced(), [parsed, parsed].concat());
        assert_eq!(neighbours.forgotten(), parsed, "what the node has learned since stays");
    }
}
