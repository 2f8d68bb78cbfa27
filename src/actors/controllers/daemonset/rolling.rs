//! Rolling updates: which old pods go, and on which nodes a new one comes first. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{DaemonSet, RollingUpdateDaemonSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use troupe_api::resources::int_or_string::{Rounding, scaled};

use super::{
    eligibility::Eligibility,
    model::{Steps, View, Why, min_ready_seconds},
    template::is_updated,
};
use crate::controllers::pod_digest::PodDigest;

/// The next steps of an update; none with `OnDelete`.
pub fn roll<'a>(view: &View<'a>) -> Steps<'a> {
    if !is_rolling(view.set) {
        return Steps::default();
    }
    let desired = view.nodes.values().filter(|eligibility| **eligibility == Eligibility::Wanted).count();
    match max_surge(view.set, desired) {
        0 => replace(view, max_unavailable(view.set, desired).max(1)),
        surge => surge_over(view, surge, desired),
    }
}

fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

fn bounds(set: &DaemonSet) -> Option<&RollingUpdateDaemonSet> {
    set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref().filter(|_| is_rolling(set))
}

/// How many nodes of `desired` may have a new pod beside the old one.
pub fn max_surge(set: &DaemonSet, desired: usize) -> usize {
    share(bounds(set).and_then(|bounds| bounds.max_surge.as_ref()), desired)
}

/// How many nodes of `desired` may be without an available pod.
pub fn max_unavailable(set: &DaemonSet, desired: usize) -> usize {
    share(bounds(set).and_then(|bounds| bounds.max_unavailable.as_ref()), desired)
}

/// Whether a node may ever have two pods.
pub fn allows_surge(set: &DaemonSet) -> bool {
    max_surge(set, 1) > 0
}

/// A number as it is, a percentage of `total` rounded up.
fn share(value: Option<&IntOrString>, total: usize) -> usize {
    let total = i32::try_from(total).unwrap_or(i32::MAX);
    value.and_then(|value| scaled(value, total, Rounding::Up)).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

/// The pods of a node that stay: the new one and the old one.
struct Pair<'a> {
    new: Option<&'a Arc<PodDigest>>,
    old: Option<&'a Arc<PodDigest>>,
}

/// `None` where there are several of one sort: placing them comes first.
fn pair<'a>(view: &View<'a>, pods: &[&'a Arc<PodDigest>]) -> Option<Pair<'a>> {
    let mut pair = Pair { new: None, old: None };
    for pod in pods.iter().filter(|pod| !pod.standing.is_deleted) {
        let slot = if is_updated(view.set, pod, view.hash) { &mut pair.new } else { &mut pair.old };
        if slot.replace(*pod).is_some() {
            return None;
        }
    }
    Some(pair)
}

fn available(view: &View<'_>, pod: &PodDigest) -> bool {
    pod.standing.is_available(min_ready_seconds(view), view.now)
}

/// Without surge: broken old pods go at once, others while no more than `most` nodes are without an available pod.
fn replace<'a>(view: &View<'a>, most: usize) -> Steps<'a> {
    let mut unavailable = 0;
    let (mut doomed, mut candidates) = (Vec::new(), Vec::new());
    for pods in view.pods.values() {
        match pair(view, pods) {
            Some(Pair { new: Some(new), old: None }) => unavailable += usize::from(!available(view, new)),
            Some(Pair { new: None, old: Some(old) }) if available(view, old) => candidates.push(old),
            Some(Pair { new: None, old: Some(old) }) => {
                doomed.push(old);
                unavailable += 1;
            }
            _ => unavailable += 1,
        }
    }
    doomed.extend(candidates.into_iter().take(most.saturating_sub(unavailable)));
    Steps { create: Vec::new(), delete: doomed.into_iter().map(|pod| (pod, Why::Surplus)).collect() }
}

/// With surge: new pods come first, on at most `surge` nodes whose old pod is available; old ones go when the new one is.
fn surge_over<'a>(view: &View<'a>, surge: usize, desired: usize) -> Steps<'a> {
    let (mut surging, mut up) = (0, 0);
    let (mut doomed, mut strays) = (Vec::new(), Vec::new());
    let (mut create, mut candidates) = (Vec::new(), Vec::new());
    for (node, pods) in &view.pods {
        let Some(Pair { new, old }) = pair(view, pods) else {
            surging += 1;
            continue;
        };
        up += usize::from(old.or(new).is_some_and(|pod| available(view, pod)));
        match (old, new) {
            (None, _) => {}
            (Some(_), Some(new)) if !available(view, new) => surging += 1,
            (Some(old), Some(_)) => doomed.push(old),
            (Some(old), None) => match (view.nodes.get(node), available(view, old)) {
                (None, _) => {}
                (Some(Eligibility::Wanted), true) => candidates.push(*node),
                (Some(Eligibility::Wanted), false) => create.push(*node),
                (Some(_), true) => strays.push(old),
                (Some(_), false) => doomed.push(old),
            },
        }
    }
    // An available pod on a node that lost its claim goes when another node can spare it.
    doomed.extend(strays.into_iter().take(up.saturating_sub(desired)));
    create.extend(candidates.into_iter().take(surge.saturating_sub(surging)));
    Steps { create, delete: doomed.into_iter().map(|pod| (pod, Why::Surplus)).collect() }
}
