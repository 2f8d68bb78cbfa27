//! Devices of claims on this node (KEP-4381): before a pod's sandbox is made, the drivers of its claims get them ready
//! (`NodePrepareResources`); its containers are started with the devices that the drivers name (CDI); when it is over the drivers take them
//! back (`NodeUnprepareResources`).
//!
//! What was asked of drivers is on disk before they are asked, in upstream's format, so that it is taken back whatever ends this process.

mod claim_info;
mod containers;
mod drivers;
mod health;
mod prepare;
pub mod proto;
mod reclaim;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use troupe_api_client::Client;

pub use self::{
    claim_info::ClaimInfo,
    drivers::KIND,
    reclaim::{DraReconciler, KnownPods},
};
use self::{
    claim_info::{ClaimInfos, Kept},
    drivers::Drivers,
    health::Health,
};
use super::checkpoint::Checkpoint;

/// Where that is, below the kubelet's root.
const FILE: &str = "dra_manager_state";

/// See the module.
pub struct Dra {
    node: Arc<str>,
    client: Option<Client>,
    checkpoint: Checkpoint,
    /// What is known of claims; on disk as it is here, but for pods that left a claim that others still use.
    claims: Mutex<ClaimInfos>,
    drivers: Drivers,
    /// How devices are.
    health: Arc<Health>,
    /// One at a time asks drivers: a claim that several pods use is prepared once.
    turn: tokio::sync::Mutex<()>,
}

impl Dra {
    /// Reads what was asked of drivers before.
    pub fn new(root: &Path, node: Arc<str>, client: Option<Client>) -> Self {
        let checkpoint = Checkpoint::new(root.join(FILE));
        let claims = checkpoint.read::<Kept>().map(ClaimInfos::from).unwrap_or_default();
        let (drivers, health, turn) = (Drivers::default(), Arc::default(), tokio::sync::Mutex::default());
        Dra { node, client, checkpoint, claims: Mutex::new(claims), drivers, health, turn }
    }

    /// The pods that use claims here, by their UIDs.
    pub fn users(&self) -> Vec<String> {
        self.claims.lock().users()
    }
}
