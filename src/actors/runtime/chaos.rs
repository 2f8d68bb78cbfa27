//! The chaos switch of one actor: delays, and panics on purpose. Off by default, and one relaxed load a message then.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

/// What is to go wrong with an actor.
#[derive(Default)]
pub(crate) struct Chaos {
    poison: AtomicBool,
    delay: AtomicU64,
    /// Whether any key is poisoned.
    keyed: AtomicBool,
    keys: Mutex<BTreeSet<String>>,
}

impl Chaos {
    /// Off.
    pub const fn new() -> Self {
        Chaos { poison: AtomicBool::new(false), delay: AtomicU64::new(0), keyed: AtomicBool::new(false), keys: Mutex::new(BTreeSet::new()) }
    }

    /// Whether the message in hand is to kill the unit.
    pub fn take_poison(&self) -> bool {
        self.poison.load(Relaxed) && self.poison.swap(false, Relaxed)
    }

    /// A delay to put in before the next message; zero unless the switch is on.
    pub fn delay(&self) -> Duration {
        match self.delay.load(Relaxed) {
            0 => Duration::ZERO,
            most => Duration::from_nanos(rand::random_range(0..=most)),
        }
    }

    /// Whether work on a key is to panic.
    pub fn is_poisoned(&self, key: impl ToString) -> bool {
        // Written out only where some key is poisoned.
        self.keyed.load(Relaxed) && self.keys.lock().contains(&key.to_string())
    }

    /// The next message is to kill the unit.
    pub fn poison(&self) {
        self.poison.store(true, Relaxed);
    }

    /// Messages wait a random time up to `most`.
    pub fn set_delay(&self, most: Duration) {
        self.delay.store(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn set_poisoned(&self, key: &str, poisoned: bool) {
        let mut keys = self.keys.lock();
        if poisoned {
            keys.insert(key.to_owned());
        } else {
            keys.remove(key);
        }
        self.keyed.store(!keys.is_empty(), Relaxed);
    }
}

/// Panics where the chaos switch says so.
pub(crate) fn die_if(poisoned: bool) {
    assert!(!poisoned, "poisoned by the chaos switch");
}
