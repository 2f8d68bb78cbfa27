//! One unit per Service: turns it and all its slices into rules whenever any of them changes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix::Message;
use arc_swap::ArcSwap;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use troupe_api::meta::{Cause, ObjectKey, Revision};

use super::{
    budget::{self, TooManyRules},
    claims::{Claim, Claims},
    index::SliceIndex,
    layout::ServiceTable,
    plan::{NodeView, Unplanned, plan_while},
    service::Taken,
};
use crate::{
    rules::{Packed, SetRules},
    runtime::{
        cache::Lister,
        controller::ReconcileContext,
        envelope::Reply,
        events::EventRecorder,
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

/// Wakes the unit of a Service, for a cause.
pub type Touch = Box<dyn Fn(ObjectKey, &Cause) + Send + Sync>;

/// What the rules of every Service are made with.
pub struct Means {
    pub services: Lister<Service>,
    pub slices: Arc<SliceIndex>,
    /// Another one when the node's zone changes: a plan reads it once.
    pub node: Arc<ArcSwap<NodeView>>,
    pub table: UnitAddr<ServiceTable>,
    /// Who has which address.
    pub claims: Claims,
    /// Wakes the unit of another Service.
    pub touch: Touch,
    pub events: Option<EventRecorder>,
}

/// The rules of one Service.
pub struct ServiceRules {
    key: ObjectKey,
    means: Arc<Means>,
    reported: Option<Arc<Packed>>,
    /// It asks for more than it may have.
    excess: Option<TooManyRules>,
    plans: u32,
    /// A plan is being made on a thread of its own.
    planning: Option<Box<Planning>>,
    /// Something changed since it was begun.
    again: bool,
    /// The next plan is told even if nothing changed.
    anyway: bool,
}

/// From how many pairs of ports and endpoints, or addresses, on a Service is planned on a thread of its own.
const LARGE: usize = 2048;

/// How many large Services are planned at a time.
static LARGE_PLANS: Semaphore = Semaphore::const_new(2);

/// A plan under way. Who drops this, because the Service is gone or another one now, abandons it.
struct Planning {
    revision: Revision,
    wanted: Arc<AtomicBool>,
}

impl Planning {
    fn abandon(&self) {
        self.wanted.store(false, Ordering::Relaxed);
    }
}

impl Drop for Planning {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl ServiceRules {
    pub fn new(key: ObjectKey, means: Arc<Means>) -> Self {
        ServiceRules { key, means, reported: None, excess: None, plans: 0, planning: None, again: false, anyway: false }
    }

    fn report(&mut self, anyway: bool, cx: &mut UnitContext<'_, Self>) {
        self.anyway |= anyway;
        // A Service that is gone is the router's to report.
        let stored = self.means.services.stored(&self.key);
        if let Some(planning) = &self.planning {
            self.again = true;
            // Endpoints come and go all the time: a plan for older ones is better than none.
            if stored.is_none_or(|stored| stored.revision != planning.revision) {
                planning.abandon();
            }
            return;
        }
        let Some(revision) = stored.as_ref().map(|stored| stored.revision) else { return };
        let Some(service) = stored.and_then(|stored| Lister::<Service>::decode_once(&stored)) else { return };
        let (slices, node, taken) = (self.means.slices.of(&self.key), self.means.node.load_full(), self.claim(&service, cx.cause()));
        if !is_large(&service, &slices) {
            return self.planned(plan_while(&service, &slices, &node, &taken, &|| true).map(Packed::from), cx);
        }
        let wanted = Arc::new(AtomicBool::new(true));
        self.planning = Some(Box::new(Planning { revision, wanted: wanted.clone() }));
        let work = async move {
            let place = LARGE_PLANS.acquire().await;
            let work = move || plan_while(&service, &slices, &node, &taken, &|| wanted.load(Ordering::Relaxed)).map(Packed::from);
            let planned = tokio::task::spawn_blocking(work).await;
            drop(place);
            planned
        };
        cx.spawn_then(work, |unit, planned, cx| {
            unit.planning = None;
            match planned {
                Ok(planned) => unit.planned(planned, cx),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
            if std::mem::take(&mut unit.again) {
                unit.report(false, cx);
            }
        });
    }

    /// Says what the Service claims, wakes whom that concerns, and tells what others have of it.
    fn claim(&self, service: &Service, cause: &Cause) -> Taken {
        let Means { claims, services, node, touch, .. } = &*self.means;
        for other in claims.set(&self.key, Claim::of(service, node.load().family())) {
            touch(other, cause);
        }
        if !services.contains(&self.key) {
            // The router may have heard of its end already.
            claims.set(&self.key, None).into_iter().for_each(|other| touch(other, cause));
        }
        claims.taken(&self.key)
    }

    fn planned(&mut self, planned: Result<Packed, Unplanned>, cx: &mut UnitContext<'_, Self>) {
        // Else a late plan might come behind the router's word that the Service is gone.
        if !self.means.services.contains(&self.key) {
            return;
        }
        let planned = match planned {
            Ok(planned) => {
                self.excess = None;
                planned
            }
            Err(Unplanned::Abandoned) => return,
            Err(Unplanned::TooManyRules(excess)) => {
                self.tell(excess);
                Packed::default()
            }
        };
        self.plans = self.plans.saturating_add(1);
        if !std::mem::take(&mut self.anyway) && self.reported.as_deref() == Some(&planned) {
            tracing::debug!(service = %self.key, "rules unchanged");
            return;
        }
        let planned = Arc::new(planned);
        self.reported = Some(planned.clone());
        // Sent past the mailbox's bound: it replaces whatever the table had for this key, and the router repeats it when the table restarts.
        self.means.table.wake(SetRules { owner: self.key.clone(), plan: Some(planned) }, cx.cause().clone());
    }

    /// Says, once, that the Service gets no rules.
    fn tell(&mut self, excess: TooManyRules) {
        if self.excess.replace(excess) == Some(excess) {
            return;
        }
        tracing::warn!(service = %self.key, %excess, "a Service gets no rules: it would need too many");
        if let (Some(recorder), Some(service)) = (&self.means.events, self.means.services.get(&self.key)) {
            recorder.warning(&ReconcileContext::reference(&*service.object), budget::REASON, excess.message());
        }
    }
}

fn is_large(service: &Service, slices: &[Arc<EndpointSlice>]) -> bool {
    let Some(spec) = &service.spec else { return false };
    let ports = spec.ports.as_ref().map_or(0, Vec::len);
    let endpoints: usize = slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).sum();
    let addresses = spec.external_ips.as_ref().map_or(0, Vec::len) + spec.load_balancer_source_ranges.as_ref().map_or(0, Vec::len);
    ports.saturating_mul(endpoints + 8) + addresses > LARGE
}

impl Unit for ServiceRules {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.report(true, cx);
    }

    fn observe(&self) -> Value {
        let rules = self.reported.as_ref().map(|plan| plan.rules.unpack());
        json!({
            "plans": self.plans,
            "chains": rules.as_ref().map_or(0, |rules| rules.chains.len()),
            "lines": rules.map_or(0, |rules| rules.lines.len()),
            "tooManyRules": self.excess.map(|excess| excess.to_string()),
        })
    }
}

impl On<PlanRules> for ServiceRules {
    fn on(&mut self, message: PlanRules, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.report(message.report_anyway, cx);
        Reply::Now(())
    }
}
