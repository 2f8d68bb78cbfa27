//! The scheduler: watches pods without a node, filters and scores nodes, binds.
//!
//! Pending pods come in through a watch, wait in a [`queue::SchedulingQueue`], and leave one by one: [`decide::decide`]
//! looks at an immutable [`snapshot::Snapshot`] and the plugins' answers. A bound pod counts on its node at once
//! ("assumed"), before the watch shows it there; if binding fails it is forgotten and tried again.

mod asked;
mod bind;
pub mod budget;
pub mod configuration;
pub mod decide;
pub mod demand;
pub mod devices;
pub mod explain;
pub mod extender;
pub mod features;
pub mod footprint;
pub mod framework;
pub mod gangs;
mod intake;
pub mod metrics;
pub mod node_info;
pub mod node_matching;
pub mod object_lookup;
pub mod placed_pod;
pub mod plugins;
pub mod pod_info;
pub mod preemption;
pub mod quarantine;
pub mod queue;
pub mod ranking;
pub mod resources;
mod setup;
pub mod snapshot;
pub mod spread;
pub mod terms;
pub mod tolerations;
mod unit;
pub mod usage;
pub mod volumes;

#[cfg(test)]
mod differential;

use std::sync::Arc;

use troupe_api_client::Client;

pub use self::{
    setup::{MakeSetup, PARALLELISM, Setup},
    unit::SchedulerUnit,
};
use crate::runtime::{cache::Caches, host::UnitAddr, system::System, unit::Policy};

/// The scheduler that pods name by default.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Starts the scheduler as unit `scheduler`, with one profile as upstream's; it binds and writes events through `client`.
pub fn start(system: &System, caches: &Caches, client: Client) -> UnitAddr<SchedulerUnit> {
    start_as(system, caches, client, Arc::new(Setup::standard))
}

/// The same with profiles and whatever else is set.
pub fn start_as(system: &System, caches: &Caches, client: Client, make: MakeSetup) -> UnitAddr<SchedulerUnit> {
    let caches = caches.clone();
    system.spawn("scheduler", Policy::default(), move |_| SchedulerUnit::new(caches.clone(), client.clone(), &make))
}
