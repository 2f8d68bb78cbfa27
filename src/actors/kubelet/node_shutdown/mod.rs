//! Graceful node shutdown (KEP-2000): pods end by their priorities before the machine does.
//!
//! In: what logind tells, the periods of the configuration. Out: pods that end, no more that begin, and a node that is not ready.

pub mod logind;
pub mod plan;
mod state;
pub mod systemd;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, atomic::Ordering};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_api::meta::Cause;
use troupe_cri::names::PodIdentity;

use self::{
    logind::LogindBus,
    plan::Period,
    systemd::SystemBus,
    watch::{Parts, ShutdownEffects},
};
use super::{
    context::NodeContext,
    events::Note,
    node::{NodeReporter, ReportNow},
    pods::{AllPods, Pods, Terminate},
};
use crate::{
    pod_phase::is_finished,
    runtime::{
        host::{Unit, UnitAddr, UnitContext},
        system::System,
        unit::Policy,
    },
};

/// How pods end with their node.
#[derive(Clone)]
pub struct ShutdownSettings {
    /// By rising priority; none where pods have no time of their own. [default: none]
    pub periods: Vec<Period>,
    /// [default: the system's bus]
    pub bus: Arc<dyn LogindBus>,
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        ShutdownSettings { periods: Vec::new(), bus: Arc::new(SystemBus::default()) }
    }
}

/// The reason of the node's event.
const EVENT: &str = "Shutdown";

/// The unit that does it.
pub struct NodeShutdown {
    context: Arc<NodeContext>,
    parts: Parts,
}

impl NodeShutdown {
    /// Starts it below `kubelet/shutdown`, if pods are to have any time.
    pub fn start(
        system: &System,
        settings: &ShutdownSettings,
        context: &Arc<NodeContext>,
        (all, pods): (&AllPods, &UnitAddr<Pods>),
        reporter: Option<UnitAddr<NodeReporter>>,
    ) {
        if settings.periods.is_empty() {
            return;
        }
        let effects = KubeletEffects { context: context.clone(), all: all.clone(), pods: pods.clone(), reporter };
        let parts = Parts {
            bus: settings.bus.clone(),
            effects: Arc::new(effects),
            periods: Arc::from(settings.periods.as_slice()),
            root: context.root.clone(),
            clock: context.clock.clone(),
        };
        let context = context.clone();
        system.spawn("kubelet/shutdown", Policy::default(), move |_| NodeShutdown { context: context.clone(), parts: parts.clone() });
    }
}

impl Unit for NodeShutdown {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.spawn(watch::run(self.parts.clone()));
    }

    fn observe(&self) -> Value {
        let periods = self.parts.periods.iter().map(|Period { priority, grace }| json!({"priority": priority, "seconds": grace}));
        json!({"shuttingDown": self.context.shutting_down.load(Ordering::Relaxed), "periods": periods.collect::<Vec<_>>()})
    }
}

/// What it does to this kubelet.
struct KubeletEffects {
    context: Arc<NodeContext>,
    all: AllPods,
    pods: UnitAddr<Pods>,
    reporter: Option<UnitAddr<NodeReporter>>,
}

impl ShutdownEffects for KubeletEffects {
    fn tell(&self, message: &'static str) {
        self.context.events.node(&self.context.node_name, Note::normal(EVENT, message));
    }

    fn set_shutting_down(&self, is_active: bool) {
        self.context.shutting_down.store(is_active, Ordering::Relaxed);
        if let Some(reporter) = &self.reporter {
            reporter.wake(ReportNow, Cause::default());
        }
    }

    fn active_pods(&self) -> Vec<Arc<Pod>> {
        (self.all)().unwrap_or_default().into_iter().filter(|pod| !is_finished(pod)).collect()
    }

    fn terminate(&self, pod: &Pod, grace: u64) {
        self.pods.wake(Terminate { id: PodIdentity::of(pod), grace }, Cause::default());
    }

    fn has_ended(&self, pod: &Pod) -> bool {
        // It goes when the pod's containers have ended and its volumes are unmounted.
        !self.context.paths(pod.metadata.uid.as_deref().unwrap_or_default()).root().exists()
    }
}
