//! Shows which writes webhooks kept from happening lately, to whoever looks at the actors (`troupe why`).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::meta::Clock;
use troupe_api_server::admission::WebhookRefusals;

use crate::runtime::host::{Unit, UnitContext};

/// How often old ones are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The unit at `apiserver/webhooks`.
pub struct ShownRefusals {
    refusals: Arc<WebhookRefusals>,
    clock: Arc<dyn Clock>,
}

impl ShownRefusals {
    pub fn new(refusals: Arc<WebhookRefusals>, clock: Arc<dyn Clock>) -> Self {
        ShownRefusals { refusals, clock }
    }
}

impl Unit for ShownRefusals {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.every(FORGET_EVERY, |unit, _| drop(unit.refusals.recent(unit.clock.now())));
    }

    fn observe(&self) -> Value {
        json!({"refused": self.refusals.recent(self.clock.now())})
    }
}
