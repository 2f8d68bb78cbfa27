//! The nodes themselves: registered once, and renewed again and again.

use std::{future::ready, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use troupe_api::{Status, meta::Clock, service::PatchType};
use troupe_api_client::Client;

use super::{HollowOptions, plan};
use crate::kubelet::node::lease;

/// Requests at once. Kubelets do not wait for one another: thousands of nodes that show few at a time that they live are late when
/// the API server has much to do, and count as lost.
const AT_ONCE: usize = 128;
/// After how many renewals a node's status is written anew, each node's in a turn of its own.
const STATUS_EVERY: u32 = 30;

/// See the module.
pub struct HollowNodes {
    options: Arc<HollowOptions>,
    client: Client,
    clock: Arc<dyn Clock>,
    registered: watch::Sender<bool>,
}

impl HollowNodes {
    pub fn new(options: Arc<HollowOptions>, client: Client, clock: Arc<dyn Clock>) -> Self {
        HollowNodes { options, client, clock, registered: watch::Sender::new(false) }
    }

    /// Resolves when all are there.
    pub async fn registered(&self) {
        // The sender lives as long as this.
        let _ = self.registered.subscribe().wait_for(|registered| *registered).await;
    }

    /// Registers them and keeps them alive, for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut round = None;
        loop {
            let begun = self.clock.instant();
            let failed = self.round(round).await;
            if failed == 0 && !*self.registered.borrow() {
                self.registered.send_replace(true);
            }
            if failed > 0 {
                tracing::warn!(failed, of = self.options.count, "hollow nodes did not show that they live, will retry");
            }
            // What could not be registered is tried again, soon.
            round = self.registered.borrow().then_some(round.map_or(0, |round| round + 1));
            let pause = if *self.registered.borrow() { self.options.heartbeat } else { Duration::from_secs(1) };
            tokio::time::sleep(pause.saturating_sub(self.clock.instant().duration_since(begun))).await;
        }
    }

    /// One sign of life of each; how many failed. All are registered where no number of rounds is given.
    async fn round(&self, round: Option<u32>) -> usize {
        let has_turn = |number: u32| round.is_none_or(|round| (round % STATUS_EVERY) == number % STATUS_EVERY);
        let all = stream::iter(0..self.options.count).map(|number| self.show(number, has_turn(number)));
        let failures = all.buffer_unordered(AT_ONCE).filter_map(|shown| ready(shown.err())).collect::<Vec<_>>().await;
        if let Some(first) = failures.first() {
            tracing::debug!(error = %first, "the first failure");
        }
        failures.len()
    }

    async fn show(&self, number: u32, with_status: bool) -> Result<(), Status> {
        let name = self.options.node(number);
        let mut uid = None;
        if with_status {
            uid = self.report(&name).await?;
        }
        lease::renew(&self.client, &name, uid.as_deref(), self.clock.now(), self.options.heartbeat).await
    }

    /// Writes a node's status, and the node where it is not there. Returns its UID.
    async fn report(&self, name: &str) -> Result<Option<String>, Status> {
        let api = self.client.all::<Node>();
        let status = plan::node_status(&self.options.version, self.clock.now());
        match api.patch(name, "status", PatchType::StrategicMerge, &status).await {
            Ok(node) => return Ok(node.metadata.uid.clone()),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
        let node: Node = serde_json::from_value(plan::node(name)).expect("a node");
        api.create(&node).await?;
        Ok(api.patch(name, "status", PatchType::StrategicMerge, &status).await?.metadata.uid.clone())
    }
}
