//! The pods that run on this node already, as its runtime tells: a daemon that starts must not let go of rules for an address that the API
//! has not heard of yet.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use troupe_api::meta::ObjectKey;
use troupe_cri::{CriError, Runtime, names::PodIdentity, proto};

use super::model::PodView;

/// How long to wait before the runtime is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Knows the pods that run.
#[async_trait]
pub trait RunningPods: Send + Sync + 'static {
    /// All pods that have an address of their own; asked until there is an answer.
    async fn all(&self) -> Vec<PodView>;
}

#[async_trait]
impl RunningPods for Arc<dyn Runtime> {
    async fn all(&self) -> Vec<PodView> {
        loop {
            match sandboxes(self.as_ref()).await {
                Ok(pods) => return pods,
                Err(error) => tracing::warn!(%error, "the runtime does not tell which pods run, network policies wait for it"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn sandboxes(runtime: &dyn Runtime) -> Result<Vec<PodView>, CriError> {
    let ready = proto::PodSandboxStateValue { state: proto::PodSandboxState::SandboxReady.into() };
    let filter = proto::PodSandboxFilter { state: Some(ready), ..proto::PodSandboxFilter::default() };
    let mut pods = Vec::new();
    for sandbox in runtime.list_pod_sandboxes(filter).await? {
        match runtime.pod_sandbox_status(&sandbox.id).await {
            Ok(status) => pods.extend(pod(&status)),
            Err(CriError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pods)
}

/// The pod of a sandbox with an address.
fn pod(status: &proto::PodSandboxStatus) -> Option<PodView> {
    let id = PodIdentity::from_labels(|name| status.labels.get(name))?;
    let network = status.network.as_ref()?;
    let more = network.additional_ips.iter().map(|ip| ip.ip.as_str());
    let ips: Vec<IpAddr> = [network.ip.as_str()].into_iter().chain(more).filter_map(|ip| ip.parse().ok()).collect();
    let labels: BTreeMap<String, String> = status.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    (!ips.is_empty()).then(|| PodView {
        key: ObjectKey::new(id.namespace.as_str(), id.name.as_str()),
        uid: id.uid.as_str().into(),
        labels: labels.into(),
        ips,
        host_network: false,
        ended: false,
        ports: Vec::new(),
    })
}
