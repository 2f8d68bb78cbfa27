//! One unit per Service: turns it and all its slices into rules whenever any of them changes.

use std::sync::Arc;

use actix::Message;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;

use super::{
    index::SliceIndex,
    layout::ServiceTable,
    plan::{NodeView, ServicePlan, plan},
};
use crate::{
    rules::SetRules,
    runtime::{
        cache::Lister,
        envelope::Reply,
        host::{On, Unit, UnitAddr, UnitContext},
    },
};

/// Something this Service's rules depend on changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PlanRules {
    /// Also when nothing changed: the table has forgotten.
    pub report_anyway: bool,
}

/// The rules of one Service.
pub struct ServiceRules {
    key: ObjectKey,
    services: Lister<Service>,
    slices: Arc<SliceIndex>,
    node: Arc<NodeView>,
    table: UnitAddr<ServiceTable>,
    reported: Option<Arc<ServicePlan>>,
    plans: u64,
    /// A plan is being made on a thread of its own.
    planning: bool,
    /// Something changed since it was begun.
    again: bool,
    /// The next plan is told even if nothing changed.
    anyway: bool,
}

/// From how many ports on a Service is planned on a thread of its own.
const LARGE: usize = 256;

impl ServiceRules {
    pub fn new(key: ObjectKey, services: Lister<Service>, slices: Arc<SliceIndex>, node: Arc<NodeView>, table: UnitAddr<ServiceTable>) -> Self {
        ServiceRules { key, services, slices, node, table, reported: None, plans: 0, planning: false, again: false, anyway: false }
    }

    fn report(&mut self, anyway: bool, cx: &mut UnitContext<'_, Self>) {
        self.anyway |= anyway;
        if self.planning {
            self.again = true;
            return;
        }
        // A Service that is gone is the router's to report.
        let Some(service) = self.services.get(&self.key) else { return };
        let (slices, node) = (self.slices.of(&self.key), self.node.clone());
        let ports = service.object.spec.as_ref().and_then(|spec| spec.ports.as_ref()).map_or(0, Vec::len);
        if ports <= LARGE {
            return self.planned(plan(&service.object, &slices, &node), cx);
        }
        self.planning = true;
        let work = tokio::task::spawn_blocking(move || plan(&service.object, &slices, &node));
        cx.spawn_then(work, |unit, planned, cx| {
            unit.planning = false;
            match planned {
                Ok(planned) => unit.planned(planned, cx),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
            if std::mem::take(&mut unit.again) {
                unit.report(false, cx);
            }
        });
    }

    fn planned(&mut self, planned: ServicePlan, cx: &mut UnitContext<'_, Self>) {
        self.plans += 1;
        if !std::mem::take(&mut self.anyway) && self.reported.as_deref() == Some(&planned) {
            tracing::debug!(service = %self.key, "rules unchanged");
            return;
        }
        let planned = Arc::new(planned);
        self.reported = Some(planned.clone());
        // Sent past the mailbox's bound: it replaces whatever the table had for this key, and the router repeats it when the table restarts.
        self.table.wake(SetRules { owner: self.key.clone(), plan: Some(planned) }, cx.cause().clone());
    }
}

impl Unit for ServiceRules {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.report(true, cx);
    }

    fn observe(&self) -> Value {
        let rules = self.reported.as_ref().map(|plan| &plan.rules);
        json!({
            "plans": self.plans,
            "chains": rules.map_or(0, |rules| rules.chains.len()),
            "lines": rules.map_or(0, |rules| rules.lines.len()),
        })
    }
}

impl On<PlanRules> for ServiceRules {
    fn on(&mut self, message: PlanRules, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.report(message.report_anyway, cx);
        Reply::Now(())
    }
}
