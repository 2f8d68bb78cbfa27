//! What the server's parts share: the zone, and how far it is to be trusted.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use parking_lot::RwLock;
use troupe_net::dns::{Index, Zone};

/// How many kinds of objects must have been listed once.
pub const KINDS: usize = 3;

/// The shared state. Readers hold the lock for one lookup, writers for one event.
#[derive(Debug)]
pub struct State {
    pub zone: RwLock<Zone>,
    listed: AtomicUsize,
    leaving: AtomicBool,
}

impl State {
    pub fn new(domain: &str) -> anyhow::Result<Self> {
        let zone = Zone::new(domain).with_context(|| format!("{domain:?} is no domain"))?;
        Ok(State { zone: RwLock::new(zone), listed: AtomicUsize::new(0), leaving: AtomicBool::new(false) })
    }

    /// Changes the zone.
    pub fn change(&self, change: impl FnOnce(&mut Index)) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut zone = self.zone.write();
        change(&mut zone.index);
        // Serial numbers wrap by design.
        zone.set_serial(now as u32);
    }

    /// One more kind has been listed for the first time.
    pub fn mark_listed(&self) {
        self.listed.fetch_add(1, Ordering::Release);
    }

    /// The zone holds the whole cluster.
    pub fn is_synced(&self) -> bool {
        self.listed.load(Ordering::Acquire) >= KINDS
    }

    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.is_synced() && !self.leaving.load(Ordering::Acquire)
    }
}
