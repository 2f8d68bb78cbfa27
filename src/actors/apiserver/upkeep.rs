//! Upkeep: mends the address and port ranges now and then, and lets go of old snapshots while memory is short.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use troupe_api::memory::MemoryGauge;

use super::{
    cache::CacheTable,
    read::Reader,
    services::{Repair, Suspects},
};
use crate::runtime::host::{Unit, UnitContext};

const REPAIR_EVERY: Duration = Duration::from_secs(180);
const LOOK_AT_MEMORY: Duration = Duration::from_millis(500);

/// The unit at `apiserver/upkeep`.
pub struct Upkeep {
    repair: Arc<Repair>,
    caches: Arc<CacheTable>,
    reader: Arc<Reader>,
    memory: Arc<dyn MemoryGauge>,
    suspects: Suspects,
    repairs: u64,
    last_error: Option<String>,
}

impl Upkeep {
    pub fn new(repair: Arc<Repair>, caches: Arc<CacheTable>, reader: Arc<Reader>, memory: Arc<dyn MemoryGauge>) -> Self {
        Upkeep { repair, caches, reader, memory, suspects: Suspects::default(), repairs: 0, last_error: None }
    }

    fn repair(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (repair, suspects) = (self.repair.clone(), self.suspects.clone());
        cx.spawn_then(async move { repair.run(&suspects).await }, |unit, result, _| {
            unit.repairs += 1;
            unit.last_error = result.as_ref().err().map(ToString::to_string);
            match result {
                Ok(suspects) => unit.suspects = suspects,
                Err(error) => tracing::warn!(%error, "cannot repair service ranges, will retry"),
            }
        });
    }
}

impl Unit for Upkeep {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.every(REPAIR_EVERY, Self::repair);
        cx.every(LOOK_AT_MEMORY, |unit, _| {
            unit.reader.look_at_slow_watches(&*unit.memory);
            // Old versions of objects live as long as the snapshots that pages are cut from.
            if unit.memory.is_short() {
                unit.caches.routes().values().for_each(|route| route.cache.unpin());
            }
        });
    }

    fn observe(&self) -> Value {
        json!({"repairs": self.repairs, "lastError": self.last_error})
    }
}
