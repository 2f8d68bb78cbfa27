//! What is followed for domain names alone: to which addresses none leads.

use std::{sync::Arc, time::Duration};

use troupe_api::meta::Cause;

use super::PolicyRouter;
use crate::{
    network_policy::{inside::Inside, messages::InsideTouched, model::PeerSet, pod_rules::PlanRules},
    runtime::{
        envelope::Reply,
        host::{On, UnitContext},
    },
};

/// How long the rules of all policies wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

impl PolicyRouter {
    /// Follows it from now on, if that has not begun yet; `None` before anything is followed.
    pub(super) fn follow_inside(&mut self, cx: &mut UnitContext<'_, Self>) -> Option<Arc<Inside>> {
        if let Some(inside) = &self.inside {
            return Some(inside.clone());
        }
        let router = cx.address();
        let touched = move |cause: &Cause| router.wake(InsideTouched, cause.clone());
        let inside = Arc::new(Inside::new(self.followed.as_ref()?, &self.options.inside, touched));
        self.inside = Some(inside.clone());
        let filled = inside.filled();
        cx.spawn_then(async move { tokio::time::timeout(PATIENCE, filled).await }, |unit, in_time, cx| match in_time {
            Ok(()) => unit.inside_filled(cx),
            Err(_) => unit.inside_late(cx),
        });
        Some(inside)
    }

    fn inside_filled(&self, cx: &UnitContext<'_, Self>) {
        if let Some(inside) = &self.inside {
            inside.set_whole();
        }
        self.wake_domains(cx);
    }

    /// Others' rules go on, and no name leads anywhere until all is known.
    fn inside_late(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(inside) = self.inside.clone() else { return };
        tracing::error!("it is not known yet which addresses the cluster has, no policy lets anything through by a domain name until then");
        inside.set_late();
        self.wake_domains(cx);
        cx.spawn_then(inside.filled(), |unit, (), cx| unit.inside_filled(cx));
    }

    fn wake_domains(&self, cx: &UnitContext<'_, Self>) {
        for (id, (_, set)) in self.uses.all() {
            if let (PeerSet::Domain(_), Some(unit)) = (set, self.peers.get(&id)) {
                unit.wake(PlanRules { report_anyway: false }, cx.cause().clone());
            }
        }
    }
}

impl On<InsideTouched> for PolicyRouter {
    fn on(&mut self, _: InsideTouched, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.wake_domains(cx);
        Reply::Now(())
    }
}
