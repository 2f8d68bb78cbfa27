//! Hollow nodes: nodes that only exist in the API, for tests of scale. They register, renew their leases and report pods bound
//! to them as Ready, as kubelets would, but nothing runs.
//!
//! In: Nodes and Pods. Out: Node objects with their leases and status, and the status of pods; pods that are deleted go at once.
//! Their nodes are tainted, so that only what tolerates that comes here, and have no address, so that no routes lead there.

mod nodes;
mod plan;
mod pods;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use troupe_api_client::Client;

use self::{nodes::HollowNodes, pods::HollowPods};
use crate::runtime::{
    cache::Caches,
    controller::{self, ControllerUnit},
    host::UnitAddr,
    system::{System, TaskHandle},
};

/// The label and the taint of hollow nodes.
pub const HOLLOW: &str = "troupe.dev/hollow";

/// What hollow nodes are.
#[derive(Clone, Debug)]
pub struct HollowOptions {
    /// They are called `NAME-0`, `NAME-1`, and so on.
    pub name: String,
    pub count: u32,
    /// How often leases are renewed.
    pub heartbeat: Duration,
    pub version: String,
}

impl HollowOptions {
    fn node(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    /// Whether a node is one of these.
    fn has(&self, node: &str) -> bool {
        let number = node.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('-'));
        number.and_then(|text| text.parse::<u32>().ok().filter(|number| number.to_string() == text)).is_some_and(|number| number < self.count)
    }
}

/// Running hollow nodes.
pub struct Hollow {
    nodes: Arc<HollowNodes>,
    _renewal: TaskHandle,
    _pods: UnitAddr<ControllerUnit>,
}

impl Hollow {
    /// Starts them.
    pub fn start(options: HollowOptions, client: &Client, caches: &Caches, system: &System) -> Self {
        let options = Arc::new(options);
        let nodes = Arc::new(HollowNodes::new(options.clone(), client.clone(), system.clock().clone()));
        let renewing = nodes.clone();
        let renewal = system.spawn_task("hollow-nodes", move || renewing.clone().keep());
        let pods = controller::start_below("hollow", system, caches, client.clone(), HollowPods::new(options, caches));
        Hollow { nodes, _renewal: renewal, _pods: pods }
    }

    /// Resolves when all are registered.
    pub async fn registered(&self) {
        self.nodes.registered().await;
    }
}
