//! What stands between a pod's sandbox and its first container.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::Cause;

use super::{
    model::PodView,
    router::{Admit, Left, PolicyRouter},
};
use crate::runtime::host::UnitAddr;

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
        let pod = PodView { ips, ..PodView::of(pod) };
        if pod.host_network {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.router.ask(Admit(pod), Cause::default())).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("its rules do not stand within {} s", PATIENCE.as_secs())),
        }
    }

    async fn left(&self, namespace: &str, name: &str, uid: &str) {
        self.router.wake(Left { namespace: namespace.into(), name: name.into(), uid: uid.into() }, Cause::default());
    }
}
