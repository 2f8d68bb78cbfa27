//! Writes the condition `Available` of API services.

use std::sync::Arc;

use troupe_api::{
    meta::{Cause, Object},
    status::Status,
};
use troupe_api_server::aggregation::description::{AVAILABLE, available_condition};

use super::{
    super::{definitions::Conditions, write::Change, writer::Writer},
    Parts,
    availability::Verdict,
    metrics, target,
};

/// Has the object say what was found. Conditions of others stay.
pub async fn write(parts: &Parts, name: &str, before: &Object, verdict: &Verdict) -> Result<(), Status> {
    metrics::found(name, verdict.is_available());
    if says(before, verdict) {
        return Ok(());
    }
    let Some(target) = target(parts, name, "status") else { return Ok(()) };
    let (wanted, now) = (verdict.clone(), parts.clock.now());
    let change = Change::Transform(Arc::new(move |current| {
        let mut new = current.clone();
        let mut conditions = Conditions { list: new.list(&["status", "conditions"]).to_vec(), now };
        conditions.set(AVAILABLE, wanted.status, wanted.reason, &wanted.message);
        new.set(&["status", "conditions"], conditions.list);
        Ok(new)
    }));
    match parts.path.update(&Writer::server(target, Cause::default()), change, Vec::new()).await {
        Ok(_) => {
            let was_available = available_condition(before).is_some_and(|condition| condition["status"] == "True");
            if was_available && !verdict.is_available() {
                metrics::lost(name, verdict.reason);
            }
            Ok(())
        }
        Err(status) if status.is_not_found() => Ok(()),
        Err(status) => Err(status),
    }
}

fn says(object: &Object, verdict: &Verdict) -> bool {
    available_condition(object).is_some_and(|condition| {
        condition["status"] == verdict.status && condition["reason"] == verdict.reason && condition["message"] == *verdict.message
    })
}

/// What is said of what this server answers itself.
pub fn local() -> Verdict {
    Verdict { status: "True", reason: "Local", message: "Local APIServices are always available".into() }
}
