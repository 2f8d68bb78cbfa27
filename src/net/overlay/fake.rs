//! Routing in memory, with the kernel's habit of dropping what hangs on an interface that goes.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Observed, Routing, Step, Via};
use crate::netlink::NetlinkError;

/// Records every step.
#[derive(Debug, Default)]
pub struct FakeRouting {
    state: Mutex<Observed>,
    steps: Mutex<Vec<Step>>,
}

impl FakeRouting {
    /// A kernel in this state.
    pub fn new(state: Observed) -> Self {
        FakeRouting { state: Mutex::new(state), steps: Mutex::default() }
    }

    /// All steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().clone()
    }

    /// Somebody else's change.
    pub fn disturb(&self, change: impl FnOnce(&mut Observed)) {
        change(&mut self.state.lock());
    }
}

#[async_trait]
impl Routing for FakeRouting {
    async fn observe(&self) -> Result<Observed, NetlinkError> {
        Ok(self.state.lock().clone())
    }

    async fn apply(&self, step: &Step) -> Result<(), NetlinkError> {
        self.steps.lock().push(step.clone());
        let mut state = self.state.lock();
        match step {
            Step::MakeTunnel(end) => state.tunnel = Some(*end),
            Step::LoosenTunnel => state.strict = false,
            Step::RemoveTunnel => {
                state.tunnel = None;
                state.strict = false;
                state.neighbours.clear();
                state.forwarding.clear();
                state.routes.retain(|_, via| !matches!(via, Via::Tunnel(_)));
            }
            Step::SetForwarding(mac, node) => drop(state.forwarding.insert((*mac, *node))),
            Step::RemoveForwarding(mac, node) => drop(state.forwarding.remove(&(*mac, *node))),
            Step::SetNeighbour(inner, mac) => drop(state.neighbours.insert(*inner, *mac)),
            Step::RemoveNeighbour(inner) => drop(state.neighbours.remove(inner)),
            Step::SetRoute(destination, via) => drop(state.routes.insert(*destination, *via)),
            Step::RemoveRoute(destination) => drop(state.routes.remove(destination)),
        }
        Ok(())
    }
}
