//! Keeps this node's pod network: the CNI configuration from the node's range, and the packet filter rules beside it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
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
    iptables::{self, Family, HostIptables, Iptables, Observed, RuleSet, Table},
    overlay::{HostRouting, Routing},
    podnet,
};

use crate::config::{Cni, Config};

/// How often the rules are checked although nothing changed: somebody may have flushed them.
const CHECK: Duration = Duration::from_secs(30);
/// The same of the rules by which pods have their own addresses only.
const CHECK_LINKS: Duration = Duration::from_secs(8);
/// Where the packet filter has more than so many bytes of rules it is read whole, which takes a core for seconds, in one of so many checks only.
const LARGE: usize = 1 << 20;
const CHECKS_A_READING: u32 = 20;

/// Where the node's ranges of pod addresses come from.
#[derive(Clone)]
pub enum Range {
    /// From the Node object.
    Of(Cache<Node>, ObjectKey),
    /// A node without API server has its own.
    Fixed(Vec<IpNetwork>),
}

#[derive(Clone)]
struct PodNetwork {
    range: Range,
    config: Config,
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

/// Starts looking after them: who may send from which address. Each look asks the packet filter for three small things of each family.
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
pub fn start(config: &Config, range: Range, system: &System) -> TaskHandle {
    let network = PodNetwork { range, config: config.clone() };
    system.spawn_task("network", move || network.clone().keep())
}

impl PodNetwork {
    async fn keep(self) {
        if self.config.cni == Cni::Others {
            return self.withdraw().await;
        }
        let mut checked = Checked::default();
        loop {
            let Some(ranges) = self.ranges() else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if let Err(error) = self.apply(ranges, &mut checked).await {
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
            let observed = read(&iptables).await?.0;
            let patch = cleanup::removal(&observed, podnet::is_ours);
            if !patch.is_empty() {
                iptables.restore(patch.to_restore()).await.context("cannot write the packet filter")?;
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

    async fn apply(&self, ranges: Vec<IpNetwork>, checked: &mut Checked) -> Result<()> {
        let foreign = cni::foreign(&self.config.cni_conf_dir).context("cannot read the CNI configuration")?.is_some();
        if !foreign {
            bridge::prepare(&self.config.bridge, &ranges).await.context("cannot prepare the pods' bridge")?;
        }
        match cni::ensure(&self.config.cni_conf_dir, &self.config.pod_network(ranges.clone())).context("cannot write the CNI configuration")? {
            Outcome::Written => tracing::info!(?ranges, "wrote the CNI configuration"),
            Outcome::Foreign(path) => tracing::warn!(path = %path.display(), "another pod network is configured and stays in charge"),
            Outcome::Unchanged => {}
        }
        for range in ranges {
            let Some(cluster) = self.config.pod_cidr.of(Family::of(range.ip())) else { continue };
            write_rules(podnet::rules(cluster, range, &self.config.non_masquerade_cidrs), Family::of(range.ip()), checked).await?;
        }
        checked.rounds += 1;
        Ok(())
    }
}

/// What earlier checks of the packet filter found.
#[derive(Default)]
struct Checked {
    rounds: u32,
    /// It has, or had, very many rules.
    is_large: bool,
}

impl Checked {
    /// Whether it is enough now to ask for our own rules.
    fn asks_only(&self) -> bool {
        self.is_large && !self.rounds.is_multiple_of(CHECKS_A_READING)
    }
}

/// What the packet filter has, and how many bytes that are.
async fn read(iptables: &HostIptables) -> Result<(Observed, usize)> {
    let (mut observed, mut read) = (Observed::default(), 0);
    for table in Table::ALL {
        let text = iptables.save(table).await.context("cannot read the packet filter")?;
        observed.read(&text);
        read += text.len();
    }
    Ok((observed, read))
}

/// Brings the packet filter of a family to what the node's range of it needs.
async fn write_rules(rules: RuleSet, family: Family, checked: &mut Checked) -> Result<()> {
    let iptables = HostIptables::new().of(family);
    if checked.asks_only() && iptables::stand(&iptables, &rules).await.context("cannot ask the packet filter")? {
        return Ok(());
    }
    let (observed, bytes) = read(&iptables).await?;
    checked.is_large |= bytes > LARGE;
    let patch = rules.reconcile(&observed, podnet::is_ours);
    if !patch.is_empty() {
        iptables.restore(patch.to_restore()).await.context("cannot write the packet filter")?;
    }
    Ok(())
}
