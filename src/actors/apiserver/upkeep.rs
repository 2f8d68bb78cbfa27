//! Upkeep: mends the address and port ranges now and then.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::services::{Repair, Suspects};
use crate::runtime::{host::UnitContext, unit::Unit};

const REPAIR_EVERY: Duration = Duration::from_secs(180);

/// The unit at `apiserver/upkeep`.
pub struct Upkeep {
    repair: Arc<Repair>,
    suspects: Suspects,
    repairs: u64,
    last_error: Option<String>,
}

impl Upkeep {
    pub fn new(repair: Arc<Repair>) -> Self {
        Upkeep { repair, suspects: Suspects::default(), repairs: 0, last_error: None }
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
    }

    fn observe(&self) -> Value {
        json!({"repairs": self.repairs, "lastError": self.last_error})
    }
}
