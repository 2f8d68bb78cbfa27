//! Simulation: actors, API server and store on one thread in paused time, with seeded faults.
//!
//! [`simulate`] runs a world under a seed: every delay, conflict, lost reply and restart follows from it, and so does the
//! order of all hops, which [`history`] tells. Time moves only when everybody waits, so hours pass in a moment.

mod clock;
#[cfg(test)]
mod crons;
#[cfg(test)]
mod device_claims;
#[cfg(test)]
mod disruptions;
#[cfg(test)]
mod endpoints;
mod faults;
#[cfg(test)]
mod kubelet;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod volumes;
#[cfg(test)]
mod workloads;
#[cfg(test)]
mod world;

use std::{future::Future, sync::Arc, time::Duration};

use jiff::SignedDuration;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{runtime::Builder, task::LocalSet};

pub use self::{
    clock::SimulatedClock,
    faults::{Faults, FaultyService},
};
use crate::{
    files::InPlace,
    runtime::system::{System, SystemOptions},
};

/// Runs `world` to its end on one thread in paused time.
pub fn simulate<F, T>(seed: u64, world: impl FnOnce(System) -> F) -> T
where
    F: Future<Output = T>,
{
    simulate_with_clock(seed, |system, _| world(system))
}

/// The same with the clock, which may be set.
pub fn simulate_with_clock<F, T>(seed: u64, world: impl FnOnce(System, Arc<SimulatedClock>) -> F) -> T
where
    F: Future<Output = T>,
{
    let _in_place = InPlace::begin();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("an executor of one thread");
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let clock = Arc::new(SimulatedClock::default());
        let system = System::new(SystemOptions::local(seed, clock.clone())).expect("no threads are started");
        world(system, clock).await
    })
}

/// Restarts random units below `prefix`, about every `period`, for as long as the returned task is polled.
pub async fn restart_units(system: System, prefix: &'static str, period: Duration, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(period.mul_f64(rng.random_range(0.5..1.5))).await;
        let units: Vec<_> = system.directory().snapshot().into_iter().map(|actor| actor.path).filter(|path| path.starts_with(prefix)).collect();
        if units.is_empty() {
            continue;
        }
        let chosen = &units[rng.random_range(0..units.len())];
        if rng.random_bool(0.5) {
            system.directory().kill(chosen);
        } else {
            system.directory().poison(chosen);
        }
    }
}

/// Sets the wall clock by up to `most`, forward or back, about every `period`, for as long as the returned task is polled.
pub async fn jump_clock(clock: Arc<SimulatedClock>, most: Duration, period: Duration, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(period.mul_f64(rng.random_range(0.5..1.5))).await;
        clock.jump(SignedDuration::from_secs_f64(most.as_secs_f64() * rng.random_range(-1.0..1.0)));
    }
}

/// What happened, hop by hop and with times: two runs share it only if the same hops went the same ways at the same
/// times. Generated names and UIDs do not count.
pub fn history(system: &System) -> Vec<String> {
    let recorder = system.recorder();
    let hops = recorder.hops();
    let begun = hops.first().map(|hop| hop.at);
    let told = hops.iter().map(|hop| {
        let at = begun.map(|begun| hop.at.saturating_duration_since(begun));
        let produced = hop.produced.as_ref().map(|version| (version.resource.clone(), version.revision));
        format!("{at:?} {} {} {:?} {:?} {:?} {produced:?}", recorder.text(hop.to), recorder.text(hop.message), hop.waited, hop.handled, hop.outcome)
    });
    told.collect()
}
