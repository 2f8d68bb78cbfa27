//! Updates: which pods of another template go next. Pure.

use k8s_openapi::{api::apps::v1::RollingUpdateStatefulSetStrategy, apimachinery::pkg::util::intstr::IntOrString};
use troupe_api::resources::int_or_string::{Rounding, scaled};

use super::{identity::Ordinal, member::MemberDigest, model::View};

/// Pods that are taken away so that they come back updated; none with `OnDelete`.
pub fn outdated<'a>(view: &View<'a>) -> Vec<&'a MemberDigest> {
    let strategy = view.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")) {
        return Vec::new();
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0).max(0);
    let from = view.range.start + Ordinal::from(partition);
    match rolling.and_then(max_unavailable) {
        Some(most) => several(view, from, at_least_one(most, view.size())),
        None => one(view, from).into_iter().collect(),
    }
}

fn max_unavailable(rolling: &RollingUpdateStatefulSetStrategy) -> Option<&IntOrString> {
    rolling.max_unavailable.as_ref()
}

/// A number as it is, a percentage of `total` rounded down; at least one.
fn at_least_one(value: &IntOrString, total: usize) -> usize {
    let total = i32::try_from(total).unwrap_or(i32::MAX);
    scaled(value, total, Rounding::Down).and_then(|number| usize::try_from(number).ok()).unwrap_or(0).max(1)
}

fn is_outdated(view: &View<'_>, pod: &MemberDigest) -> bool {
    pod.revision() != view.history.update.revision && !pod.standing.is_deleted
}

/// The highest outdated one, unless a higher one still has to come up.
fn one<'a>(view: &View<'a>, from: Ordinal) -> Option<&'a MemberDigest> {
    let mut next = view.range.end;
    for (ordinal, pod) in view.there.range(from..).rev() {
        next -= 1;
        if *ordinal != next {
            // The one between is missing.
            return None;
        }
        if is_outdated(view, pod) {
            return Some(*pod);
        }
        if view.is_unavailable(pod) {
            return None;
        }
    }
    None
}

/// As many of the highest as may be unavailable at once.
fn several<'a>(view: &View<'a>, from: Ordinal, most: usize) -> Vec<&'a MemberDigest> {
    let unavailable = view.missing_count() + view.there.values().filter(|pod| view.is_unavailable(pod)).count();
    let outdated = view.there.range(from..).rev().map(|(_, pod)| *pod).filter(|pod| is_outdated(view, pod));
    outdated.take(most.saturating_sub(unavailable)).collect()
}
