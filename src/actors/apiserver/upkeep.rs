//! Upkeep: mends the address and port ranges now and then.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::core::Core;
use crate::runtime::{host::UnitContext, unit::Unit};

const REPAIR_EVERY: Duration = Duration::from_secs(180);

/// The unit at `apiserver/upkeep`.
pub struct Upkeep {
    core: Arc<Core>,
    repairs: u64,
    last_error: Option<String>,
}

impl Upkeep {
    pub fn new(core: Arc<Core>) -> Self {
        Upkeep { core, repairs: 0, last_error: None }
    }

    fn repair(&mut self, cx: &mut UnitContext<'_, Self>) {
        let core = self.core.clone();
        cx.spawn_then(async move { core.repair_services().await }, |unit, result, _| {
            unit.repairs += 1;
            unit.last_error = result.err().map(|status| status.to_string());
            if let Some(error) = &unit.last_error {
                tracing::warn!(%error, "cannot repair service ranges, will retry");
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
