//! What stands between a pod's sandbox and its first container.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use troupe_api::meta::Cause;
use troupe_net::{cni::announce::PodAddresses, conntrack::Conntrack, neighbours::Neighbours};

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
    /// Returns when the rules of all policies that select the pod stand for these addresses of its. `is_new` says that nothing has run in its
    /// sandbox yet: whatever the addresses are remembered for was somebody else's.
    ///
    /// # Errors
    /// In words, when they do not stand in time: the pod must not start yet.
    async fn admit(&self, pod: &Pod, addresses: &[String], is_new: bool) -> Result<(), String>;

    /// The pod's addresses are its own no more.
    async fn left(&self, namespace: &str, name: &str, uid: &str);
}

/// A gate that nobody watches: no policies are enforced here.
pub struct OpenGate;

#[async_trait]
impl PodGate for OpenGate {
    async fn admit(&self, _: &Pod, _: &[String], _: bool) -> Result<(), String> {
        Ok(())
    }

    async fn left(&self, _: &str, _: &str, _: &str) {}
}

/// A gate before which it is forgotten who had the pod's addresses before it, here and by its neighbours, and behind which his connections are.
pub struct FreshGate {
    neighbours: Arc<dyn Neighbours>,
    pods: Arc<dyn PodAddresses>,
    conntrack: Arc<dyn Conntrack>,
    then: Arc<dyn PodGate>,
    /// The addresses of pods, by their uids, that only have connections of their own.
    parted: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl FreshGate {
    pub fn new(neighbours: Arc<dyn Neighbours>, pods: Arc<dyn PodAddresses>, conntrack: Arc<dyn Conntrack>, then: Arc<dyn PodGate>) -> Self {
        FreshGate { neighbours, pods, conntrack, then, parted: Mutex::default() }
    }

    /// Ends the connections of whoever had a pod's addresses before it: a stream that goes on would reach it as one that was allowed long ago.
    /// Its rules stand by now, so that what comes next is judged by them.
    async fn part(&self, uid: &str, addresses: Vec<IpAddr>) {
        if self.parted.lock().get(uid) == Some(&addresses) {
            return;
        }
        match self.conntrack.forget_addresses(&addresses).await {
            Ok(()) => drop(self.parted.lock().insert(uid.to_owned(), addresses)),
            Err(error) => {
                tracing::warn!(%error, ?addresses, "connections of whoever had a pod's addresses before it stay");
            }
        }
    }

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
    async fn admit(&self, pod: &Pod, addresses: &[String], is_new: bool) -> Result<(), String> {
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let addresses_of_pod: Vec<IpAddr> = addresses.iter().filter(|_| !on_host).filter_map(|address| address.parse().ok()).collect();
        if addresses_of_pod.is_empty() {
            return self.then.admit(pod, addresses, is_new).await;
        }
        self.refresh(addresses_of_pod.clone()).await;
        self.then.admit(pod, addresses, is_new).await?;
        if is_new {
            self.part(pod.metadata.uid.as_deref().unwrap_or_default(), addresses_of_pod).await;
        }
        Ok(())
    }

    async fn left(&self, namespace: &str, name: &str, uid: &str) {
        // Its addresses may be another pod's by now.
        self.parted.lock().remove(uid);
        self.then.left(namespace, name, uid).await;
    }
}

/// All of several gates, as those of each family of addresses.
pub struct EveryGate(pub Vec<Arc<dyn PodGate>>);

#[async_trait]
impl PodGate for EveryGate {
    async fn admit(&self, pod: &Pod, addresses: &[String], is_new: bool) -> Result<(), String> {
        for gate in &self.0 {
            gate.admit(pod, addresses, is_new).await?;
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
    async fn admit(&self, pod: &Pod, addresses: &[String], _: bool) -> Result<(), String> {
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
    use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use troupe_net::{cni::announce::FakePodAddresses, conntrack::FakeConntrack, neighbours::FakeNeighbours};

    use super::*;

    const IPS: [&str; 2] = ["10.244.0.5", "fd00:10:244::5"];

    struct Fakes {
        neighbours: Arc<FakeNeighbours>,
        pods: Arc<FakePodAddresses>,
        conntrack: Arc<FakeConntrack>,
    }

    fn gate(then: Arc<dyn PodGate>) -> (FreshGate, Fakes) {
        let fakes = Fakes { neighbours: Arc::default(), pods: Arc::default(), conntrack: Arc::default() };
        let gate = FreshGate::new(fakes.neighbours.clone(), fakes.pods.clone(), fakes.conntrack.clone(), then);
        (gate, fakes)
    }

    fn pod(uid: &str) -> Pod {
        Pod { metadata: ObjectMeta { uid: Some(uid.into()), ..ObjectMeta::default() }, ..Pod::default() }
    }

    fn parsed(ips: [&str; 2]) -> [IpAddr; 2] {
        ips.map(|ip| ip.parse().expect("an address"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_pods_addresses_are_forgotten_and_announced_twice_and_the_nodes_are_not() {
        let (gate, Fakes { neighbours, pods, conntrack }) = gate(Arc::new(OpenGate));
        let (texts, parsed) = (IPS.map(str::to_owned), parsed(IPS));

        let on_host = Pod { spec: Some(PodSpec { host_network: Some(true), ..PodSpec::default() }), ..Pod::default() };
        gate.admit(&on_host, &texts, true).await.expect("is open");
        assert_eq!((neighbours.forgotten(), pods.announced(), conntrack.forgotten_addresses()), (Vec::new(), Vec::new(), Vec::new()));

        gate.admit(&pod("a"), &texts, true).await.expect("is open");
        assert_eq!((neighbours.forgotten(), pods.announced()), (parsed.to_vec(), parsed.to_vec()), "before the pod's first packet");
        tokio::time::sleep(AGAIN + Duration::from_millis(10)).await;
        assert_eq!(pods.announced(), [parsed, parsed].concat());
        assert_eq!(neighbours.forgotten(), parsed, "what the node has learned since stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_gets_no_connections_of_whoever_had_its_addresses_and_keeps_its_own() {
        let (gate, Fakes { conntrack, .. }) = gate(Arc::new(OpenGate));
        let texts = IPS.map(str::to_owned);
        gate.admit(&pod("a"), &texts, true).await.expect("is open");
        assert_eq!(conntrack.forgotten_addresses(), parsed(IPS));

        gate.admit(&pod("a"), &texts, true).await.expect("is open");
        gate.admit(&pod("a"), &texts, false).await.expect("is open");
        gate.admit(&pod("of an earlier daemon"), &["10.244.0.7".to_owned()], false).await.expect("is open");
        assert_eq!(conntrack.forgotten_addresses(), parsed(IPS), "its first container may talk already");

        gate.left("ns", "a", "a").await;
        gate.admit(&pod("b"), &texts, true).await.expect("is open");
        assert_eq!(conntrack.forgotten_addresses(), [parsed(IPS), parsed(IPS)].concat());
    }

    /// Lets nobody in, and notes how much was forgotten until it was asked.
    struct ShutGate {
        conntrack: Arc<FakeConntrack>,
        before: Mutex<Vec<usize>>,
    }

    #[async_trait]
    impl PodGate for ShutGate {
        async fn admit(&self, _: &Pod, _: &[String], _: bool) -> Result<(), String> {
            self.before.lock().push(self.conntrack.forgotten_addresses().len());
            if self.before.lock().len() == 1 { Err("not yet".into()) } else { Ok(()) }
        }

        async fn left(&self, _: &str, _: &str, _: &str) {}
    }

    #[tokio::test(start_paused = true)]
    async fn connections_end_when_the_rules_stand_that_judge_their_next_packets() {
        let conntrack = Arc::<FakeConntrack>::default();
        let then = Arc::new(ShutGate { conntrack: conntrack.clone(), before: Mutex::default() });
        let gate = FreshGate::new(Arc::<FakeNeighbours>::default(), Arc::<FakePodAddresses>::default(), conntrack.clone(), then.clone());
        let texts = IPS.map(str::to_owned);
        gate.admit(&pod("a"), &texts, true).await.expect_err("has no rules yet");
        gate.admit(&pod("a"), &texts, true).await.expect("has rules");
        assert_eq!(*then.before.lock(), [0, 0]);
        assert_eq!(conntrack.forgotten_addresses(), parsed(IPS));
    }
}
