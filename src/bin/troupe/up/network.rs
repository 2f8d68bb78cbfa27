//! Keeps this node's pod network: the CNI configuration from the node's range, and the packet filter rules beside it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use troupe_actors::{
    overlay::{Overlay, OverlayOptions},
    reachability::{Reachability, ReachabilityOptions},
    runtime::{
        cache::{Cache, Caches},
        events::EventRecorder,
        host::UnitAddr,
        system::{System, TaskHandle},
    },
};
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;
use troupe_net::{
    cleanup,
    cni::{self, Outcome, bridge, links::HostPodLinks},
    echo::HostEcho,
    iptables::{Family, HostIptables, Looks, Table},
    overlay::{HostRouting, Routing},
    podnet,
};

use crate::config::{Cni, Config};

/// How often the rules are checked although nothing changed: somebody may have flushed them.
const CHECK: Duration = Duration::from_secs(30);
/// The same of the rules by which pods have their own addresses only.
const CHECK_LINKS: Duration = Duration::from_secs(8);
/// The tables that its rules are in.
const TABLES: [Table; 2] = [Table::Filter, Table::Nat];

/// The reason of the event that tells of a range whose family this node does not serve, and in how many checks it is told once.
pub const UNSERVED: &str = "PodRangeNotServed";
const CHECKS_A_TELLING: u32 = 10;

/// Where the node's ranges of pod addresses come from.
#[derive(Clone)]
pub enum Range {
    /// From the Node object.
    Of(Cache<Node>, ObjectKey),
    /// A node without API server has its own.
    Fixed(Vec<IpNetwork>),
}

/// What earlier checks found.
#[derive(Default)]
struct Checks {
    /// How many ended well.
    ended: u32,
    rules: BTreeMap<Family, Looks>,
}

#[derive(Clone)]
struct PodNetwork {
    range: Range,
    config: Config,
    /// A node without API server has nobody to tell.
    events: Option<EventRecorder>,
}

/// Starts keeping the way to other nodes' pods.
pub fn start_overlay(config: &Config, nodes: &Cache<Node>, system: &System) -> Result<Vec<UnitAddr<Overlay>>> {
    let start = |family: Family| {
        let routing = HostRouting::open(config.bridge.as_str(), family).context("cannot talk to the kernel about routes")?;
        let (node_name, nodes) = (config.node_name.as_str().into(), nodes.clone());
        Ok(Overlay::start(OverlayOptions { node_name, family, nodes, routing: Arc::new(routing) }, system))
    };
    config.families().into_iter().map(start).collect()
}

/// Starts finding out whether other nodes' pods are reached.
pub fn start_reachability(config: &Config, (client, caches): &(Client, Caches), system: &System) -> Result<UnitAddr<Reachability>> {
    let routing = |family: Family| {
        let routing = HostRouting::open(config.bridge.as_str(), family).context("cannot talk to the kernel about routes")?;
        Ok((family, Arc::new(routing) as Arc<dyn Routing>))
    };
    let conf_dir = config.cni_conf_dir.clone();
    let options = ReachabilityOptions {
        node_name: config.node_name.as_str().into(),
        families: config.families().into_iter().map(routing).collect::<Result<_>>()?,
        nodes: caches.cache(),
        client: client.clone(),
        events: EventRecorder::on_host(system, client, "pod-network", &config.node_name),
        echo: Arc::new(HostEcho),
        heartbeat: config.heartbeat(),
        // What cannot be read is told by whoever writes there.
        is_foreign: Arc::new(move || cni::foreign(&conf_dir).is_ok_and(|found| found.is_some())),
    };
    Ok(Reachability::start(options, system))
}

/// The links of this node's pods.
pub fn pod_links(config: &Config) -> Arc<HostPodLinks> {
    Arc::new(HostPodLinks::new(config.pod_network(config.pod_cidr.all()), config.families(), config.cni_conf_dir.clone()))
}

/// Starts looking after them: who may send from which address. A look starts programs only where somebody changed the packet filter or the pods.
pub fn start_links(links: Arc<HostPodLinks>, system: &System) -> TaskHandle {
    system.spawn_task("pod-links", move || keep_links(links.clone()))
}

async fn keep_links(links: Arc<HostPodLinks>) {
    loop {
        if let Err(error) = links.keep().await {
            tracing::warn!(%error, "the links of pods are not all right, will retry");
        }
        tokio::time::sleep(CHECK_LINKS).await;
    }
}

/// Starts keeping it.
pub fn start(config: &Config, range: Range, events: Option<EventRecorder>, system: &System) -> TaskHandle {
    let network = PodNetwork { range, config: config.clone(), events };
    system.spawn_task("network", move || network.clone().keep())
}

impl PodNetwork {
    async fn keep(self) {
        if self.config.cni == Cni::Others {
            return self.withdraw().await;
        }
        let mut checks = Checks::default();
        loop {
            let Some(ranges) = self.ranges() else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if let Err(error) = self.apply(ranges, &mut checks).await {
                tracing::warn!(error = format!("{error:#}"), "the pod network is not right, will retry");
            }
            tokio::time::sleep(CHECK).await;
        }
    }

    /// Takes back what an earlier start wrote, when the network is somebody else's from now on.
    async fn withdraw(&self) {
        while let Err(error) = self.try_to_withdraw().await {
            tracing::warn!(error = format!("{error:#}"), "the pod network of an earlier start is in the way of another, will retry");
            tokio::time::sleep(CHECK).await;
        }
    }

    async fn try_to_withdraw(&self) -> Result<()> {
        let network = self.config.pod_network(self.config.pod_cidr.all());
        if cni::withdraw(&self.config.cni_conf_dir, &network).context("cannot remove the CNI configuration")? {
            tracing::info!("removed the CNI configuration: the pod network is left to others");
        }
        for iptables in cleanup::filters() {
            if let Some(left) = cleanup::remove_chains(&iptables, podnet::is_ours).await.first() {
                bail!("{left}");
            }
        }
        Ok(())
    }

    fn ranges(&self) -> Option<Vec<IpNetwork>> {
        match &self.range {
            Range::Of(nodes, node) => {
                let node = nodes.get(node)?.object;
                let spec = node.spec.as_ref()?;
                let all = spec.pod_cidrs.as_ref().filter(|all| !all.is_empty());
                let texts = all.map_or_else(|| spec.pod_cidr.iter().collect(), |all| all.iter().collect::<Vec<_>>());
                let ranges: Vec<IpNetwork> = texts.into_iter().filter_map(|range| range.parse().ok()).collect();
                Some(ranges).filter(|ranges| !ranges.is_empty())
            }
            Range::Fixed(ranges) => Some(ranges.clone()),
        }
    }

    async fn apply(&self, ranges: Vec<IpNetwork>, checks: &mut Checks) -> Result<()> {
        let foreign = cni::foreign(&self.config.cni_conf_dir).context("cannot read the CNI configuration")?.is_some();
        let (ranges, unserved) = divided(ranges, &self.config.families());
        if !foreign && !unserved.is_empty() && checks.ended.is_multiple_of(CHECKS_A_TELLING) {
            self.tell(&unserved);
        }
        ensure!(!ranges.is_empty(), "the node has no range of a family that it was started with");
        if !foreign {
            bridge::prepare(&self.config.bridge, &ranges).await.context("cannot prepare the pods' bridge")?;
        }
        match cni::ensure(&self.config.cni_conf_dir, &self.config.pod_network(ranges.clone())).context("cannot write the CNI configuration")? {
            Outcome::Written => tracing::info!(?ranges, "wrote the CNI configuration"),
            Outcome::Foreign(path) => tracing::warn!(path = %path.display(), "another pod network is configured and stays in charge"),
            Outcome::Unchanged => {}
        }
        for range in ranges {
            let family = Family::of(range.ip());
            let Some(cluster) = self.config.pod_cidr.of(family) else { continue };
            let rules = podnet::rules(cluster, range, &self.config.non_masquerade_cidrs);
            let looks = checks.rules.entry(family).or_default();
            looks.keep(&HostIptables::new().of(family), &TABLES, &rules, podnet::is_ours).await.context("cannot keep the packet filter's rules")?;
        }
        checks.ended = checks.ended.wrapping_add(1);
        Ok(())
    }

    fn tell(&self, unserved: &[IpNetwork]) {
        let (name, message) = (self.config.node_name.clone(), unserved_message(unserved));
        tracing::warn!(reason = UNSERVED, "{message}");
        // Upstream's kubelet puts the name in the place of the uid, and describe finds a node's events by it.
        let about = ObjectReference { kind: Some("Node".into()), name: Some(name.clone()), uid: Some(name), ..ObjectReference::default() };
        if let Some(events) = &self.events {
            events.warning(&about, UNSERVED, message);
        }
    }
}

/// The ranges of these families, and the others: no proxy, no way to other nodes and no network policy is there for those, and a pod with such an
/// address would be open to everybody.
fn divided(ranges: Vec<IpNetwork>, families: &[Family]) -> (Vec<IpNetwork>, Vec<IpNetwork>) {
    ranges.into_iter().partition(|range| families.contains(&Family::of(range.ip())))
}

fn unserved_message(ranges: &[IpNetwork]) -> String {
    let ranges: Vec<String> = ranges.iter().map(IpNetwork::to_string).collect();
    format!(
        "the node has the range {} but was started without its family: new pods get no addresses of it, and network policies do not hold for pods that \
         have some; start it with the cluster's --service-cidr and --pod-cidr",
        ranges.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_addresses_of_families_that_policies_hold_for_and_the_rest_is_told() {
        let range = |text: &str| text.parse::<IpNetwork>().expect("a range");
        let both = || vec![range("10.244.1.0/24"), range("fd00:10:244:1::/64")];
        assert_eq!(divided(both(), &[Family::V6, Family::V4]), (both(), Vec::new()));
        let (served, others) = divided(both(), &[Family::V4]);
        assert_eq!(served, [range("10.244.1.0/24")]);
        let told = unserved_message(&others);
        assert!(told.contains("the range fd00:10:244:1::/64 but") && told.contains("network policies do not hold"), "{told}");
    }
}
