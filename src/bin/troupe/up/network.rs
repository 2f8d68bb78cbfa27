//! Keeps this node's pod network: the CNI configuration from the node's range, and the packet filter rules beside it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use ipnetwork::Ipv4Network;
use k8s_openapi::api::core::v1::Node;
use troupe_actors::{
    overlay::{Overlay, OverlayOptions},
    runtime::{
        cache::Cache,
        host::UnitAddr,
        system::{System, TaskHandle},
    },
};
use troupe_api::meta::ObjectKey;
use troupe_net::{
    cni::{self, Outcome},
    iptables::{Iptables, Observed, Table},
    overlay::HostRouting,
    podnet,
};

use crate::config::Config;

/// How often the rules are checked although nothing changed: somebody may have flushed them.
const CHECK: Duration = Duration::from_secs(30);

/// Where the node's range of pod addresses comes from.
#[derive(Clone)]
pub enum Range {
    /// From the Node object.
    Of(Cache<Node>, ObjectKey),
    /// A node without API server has its own.
    Fixed(Ipv4Network),
}

#[derive(Clone)]
struct PodNetwork {
    range: Range,
    config: Config,
    iptables: Arc<dyn Iptables>,
}

/// Starts keeping the way to other nodes' pods.
pub fn start_overlay(config: &Config, nodes: Cache<Node>, system: &System) -> Result<UnitAddr<Overlay>> {
    let routing = HostRouting::open(config.bridge.as_str()).context("cannot talk to the kernel about routes")?;
    Ok(Overlay::start(OverlayOptions { node_name: config.node_name.as_str().into(), nodes, routing: Arc::new(routing) }, system))
}

/// Starts keeping it.
pub fn start(config: &Config, range: Range, iptables: Arc<dyn Iptables>, system: &System) -> TaskHandle {
    let network = PodNetwork { range, config: config.clone(), iptables };
    system.spawn_task("network", move || network.clone().keep())
}

impl PodNetwork {
    async fn keep(self) {
        loop {
            let Some(range) = self.range() else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if let Err(error) = self.apply(range).await {
                tracing::warn!(error = format!("{error:#}"), "the pod network is not right, will retry");
            }
            tokio::time::sleep(CHECK).await;
        }
    }

    fn range(&self) -> Option<Ipv4Network> {
        match &self.range {
            Range::Of(nodes, node) => nodes.get(node)?.object.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok(),
            Range::Fixed(range) => Some(*range),
        }
    }

    async fn apply(&self, range: Ipv4Network) -> Result<()> {
        match cni::ensure(&self.config.cni_conf_dir, &self.config.pod_network(range)).context("cannot write the CNI configuration")? {
            Outcome::Written => tracing::info!(%range, "wrote the CNI configuration"),
            Outcome::Foreign(path) => tracing::warn!(path = %path.display(), "another pod network is configured and stays in charge"),
            Outcome::Unchanged => {}
        }
        let mut observed = Observed::default();
        for table in Table::ALL {
            observed.read(&self.iptables.save(table).await.context("cannot read the packet filter")?);
        }
        let patch = podnet::rules(self.config.pod_cidr, range).reconcile(&observed, podnet::is_ours);
        if !patch.is_empty() {
            self.iptables.restore(patch.to_restore()).await.context("cannot write the packet filter")?;
        }
        Ok(())
    }
}
