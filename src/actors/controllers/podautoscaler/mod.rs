//! Horizontal pod autoscaling: gives the targets of HorizontalPodAutoscalers the size that their metrics ask for.
//!
//! Every period (15 seconds), and when an autoscaler is changed, its target's scale and its metrics are read (`measure`); the metrics become proposals
//! (`replicas`), the highest of which is bounded by the autoscaler's rates (`behavior`) and becomes target size and status (`plan`).

mod behavior;
mod conditions;
mod foreign;
mod known;
mod measure;
pub mod metrics;
mod options;
mod plan;
mod pod;
mod replicas;
mod scale;
#[cfg(test)]
mod tests;
mod zero;

use k8s_openapi::api::{
    autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus},
    core::v1::Pod,
};
use parking_lot::Mutex;
use troupe_api::meta::{LabelSelector, ObjectKey, time::passed};

pub use self::options::{AutoscalerOptions, Starting};
use self::{
    known::{Autoscalers, Known},
    measure::Measuring,
    plan::Plan,
    pod::ScaledPod,
    scale::Scale,
};
use super::{by_label, writes::write_status};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module. Keys are autoscalers.
pub struct HorizontalController {
    autoscalers: Cache<HorizontalPodAutoscaler>,
    pods: Cache<Pod>,
    digests: Digests<Pod, ScaledPod>,
    known: Mutex<Autoscalers>,
    options: AutoscalerOptions,
}

impl HorizontalController {
    pub fn new(caches: &Caches) -> Self {
        let (pods, options) = (caches.cache::<Pod>(), AutoscalerOptions::default());
        HorizontalController { autoscalers: caches.cache(), digests: pods.digests(), pods, known: Mutex::default(), options }
    }

    /// The same where other options hold.
    #[must_use]
    pub fn with(self, options: AutoscalerOptions) -> Self {
        HorizontalController { options, ..self }
    }

    /// What is known of an autoscaler; an earlier one of its name is forgotten.
    fn recall(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler) -> Known {
        let uid = autoscaler.metadata.uid.clone().unwrap_or_default();
        let known = self.known.lock().get(key).filter(|known| known.uid == uid).cloned();
        let mut known = known.unwrap_or_else(|| Known { uid, ..Known::default() });
        known.past.stabilizing(self.options.downscale_stabilization);
        known
    }

    /// Decides by the metrics of the target's pods.
    async fn measured(
        &self,
        key: &ObjectKey,
        autoscaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
        scale: &Scale,
        known: &mut Known,
        cx: &ReconcileContext,
    ) -> Plan {
        let now = cx.now();
        if scale.selector().is_empty() {
            let condition = ("InvalidSelector", "the HPA target's scale is missing a selector");
            return plan::without_selector(status, ("SelectorRequired", "selector is required".into()), condition, now);
        }
        let selector = match LabelSelector::parse(scale.selector()) {
            Ok(selector) => selector,
            Err(error) => {
                let why = format!("couldn't convert selector into a corresponding internal selector object: {error}");
                return plan::without_selector(status, ("InvalidSelector", why.clone()), ("InvalidSelector", &why), now);
            }
        };
        by_label::filed(&self.pods).await;
        let pods = by_label::selected(&self.pods, &key.namespace, &selector).await;
        known.selector = Some(selector.clone());
        let sharing = self.known.lock().sharing(key, &pods);
        if sharing.len() > 1 {
            let why = ambiguous(scale.selector(), &sharing);
            return plan::without_selector(status, ("AmbiguousSelector", why.clone()), ("AmbiguousSelector", &why), now);
        }
        let pods = self.digests.read(&pods).await;
        let (current, replicas) = (scale.current(), scale.replicas());
        let measuring = Measuring {
            client: cx.client(),
            autoscaler,
            selector: &selector,
            pods: &pods,
            current,
            replicas,
            tolerance: self.options.tolerance,
            starting: self.options.starting,
            now,
        };
        let outcomes = measuring.all().await;
        plan::by_metrics(autoscaler, status, &outcomes, &mut known.past, now)
    }

    /// One look at an autoscaler: what follows from it, and how it went.
    async fn look(
        &self,
        key: &ObjectKey,
        autoscaler: &HorizontalPodAutoscaler,
        known: &mut Known,
        cx: &ReconcileContext,
    ) -> Result<(), ReconcileError> {
        let began = cx.system().instant();
        let took = || cx.system().instant().saturating_duration_since(began);
        let spec = &autoscaler.spec;
        let scale = match Scale::of(cx.client(), &key.namespace, &spec.scale_target_ref).await {
            Ok(scale) => scale,
            Err(why) => {
                cx.tell(autoscaler, true, "FailedGetScale", why.as_str());
                metrics::looked(None, true, took());
                return self.write(autoscaler, plan::without_scale(autoscaler, &why, cx.now()), cx).await;
            }
        };
        let (current, now) = (scale.current(), cx.now());
        known.past.begin(current, now);
        let status = plan::begun(autoscaler, current, now);
        let to_zero = self.options.scales_to_zero;
        let planned = match plan::way(autoscaler, current, to_zero) {
            plan::Way::Metrics => self.measured(key, autoscaler, status, &scale, known, cx).await,
            way => plan::without_metrics(status, way, current, to_zero, now),
        };
        let Plan { mut status, scale: rescale, events, error } = planned;
        for (reason, message) in events {
            cx.tell(autoscaler, true, reason, message);
        }
        let (mut change, mut failed) = (None, error.is_some());
        if let Some(rescale) = rescale {
            let result = scale.set(cx.client(), rescale.replicas).await;
            let before = autoscaler.status.as_ref().map_or(0, |status| status.desired_replicas);
            plan::rescaled(&mut status, before, &rescale, &result, now);
            let size = format!("New size: {}; reason: {}", rescale.replicas, rescale.reason);
            match &result {
                Ok(()) => {
                    change = Some((current, rescale.replicas));
                    zero::scaled(&mut status, autoscaler, (current, rescale.replicas), to_zero, now);
                    known.past.scaled(spec.behavior.as_ref(), current, rescale.replicas, now);
                    cx.tell(autoscaler, false, "SuccessfulRescale", size);
                }
                Err(why) => {
                    failed = true;
                    cx.tell(autoscaler, true, "FailedRescale", format!("{size}; error: {why}"));
                }
            }
        }
        if let Some(error) = error {
            tracing::debug!(autoscaler = %key, %error, "not all metrics could be had");
        }
        let written = self.write(autoscaler, status, cx).await;
        metrics::looked(change, failed || written.is_err(), took());
        written
    }

    async fn write(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
        cx: &ReconcileContext,
    ) -> Result<(), ReconcileError> {
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = HorizontalPodAutoscaler { status: Some(status), ..autoscaler.clone() };
        let written = write_status(&updated, &self.autoscalers, cx).await;
        if let Err(status) = &written {
            cx.tell(autoscaler, true, "FailedUpdateStatus", status.to_string());
        }
        Ok(written?)
    }
}

/// No more autoscalers are named: each of those that share pods says who they are.
const MOST_NAMED: usize = 10;

fn ambiguous(selector: &str, sharing: &[ObjectKey]) -> String {
    let mut names: Vec<String> = sharing.iter().take(MOST_NAMED).map(|key| format!("{}/{}", key.namespace, key.name)).collect();
    if sharing.len() > MOST_NAMED {
        names.push(format!("and {} more", sharing.len() - MOST_NAMED));
    }
    let end = selector.floor_char_boundary(1024);
    let more = if end < selector.len() { "..." } else { "" };
    format!("pods by selector {}{more} are controlled by multiple HPAs: [{}]", &selector[..end], names.join(" "))
}

impl Controller for HorizontalController {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    const EVENT_SOURCE: Option<&'static str> = Some("horizontal-pod-autoscaler");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<HorizontalPodAutoscaler>();
        watches.reads::<Pod>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(autoscaler) = self.autoscalers.get(key).map(|cached| cached.object) else {
            self.known.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let (period, mut known) = (self.options.period, self.recall(key, &autoscaler));
        // A status that was written wakes the key, too.
        if let Some((looked, spec)) = &known.looked
            && *spec == autoscaler.spec
            && let Some(left) = period.checked_sub(passed(*looked, cx.now(), period)).filter(|left| !left.is_zero())
        {
            return Ok(Outcome::RequeueAfter(left));
        }
        known.looked = Some((cx.now(), autoscaler.spec.clone()));
        let done = self.look(key, &autoscaler, &mut known, cx).await;
        self.known.lock().insert(key.clone(), known);
        done.map(|()| Outcome::RequeueAfter(period))
    }
}
