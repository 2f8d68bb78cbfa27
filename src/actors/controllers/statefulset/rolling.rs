//! Updates: which pods of another template go next. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::RollingUpdateStatefulSetStrategy, core::v1::Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    identity::revision_of,
    plan::{Replica, View},
};

/// Pods that are taken away so that they come back updated; none with `OnDelete`.
pub fn outdated<'a>(view: &View<'a>) -> Vec<&'a Arc<Pod>> {
    let strategy = view.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")) {
        return Vec::new();
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let partition = rolling.and_then(|rolling| rolling.partition).map_or(0, |partition| usize::try_from(partition).unwrap_or(0));
    match rolling.and_then(max_unavailable) {
        Some(most) => several(view, partition, scaled(most, view.replicas.len())),
        None => one(view, partition).into_iter().collect(),
    }
}

fn max_unavailable(rolling: &RollingUpdateStatefulSetStrategy) -> Option<&IntOrString> {
    rolling.max_unavailable.as_ref()
}

/// A number as it is, a percentage of `total` rounded down; at least one.
fn scaled(value: &IntOrString, total: usize) -> usize {
    let number = match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => total * text.trim_end_matches('%').parse::<usize>().unwrap_or(0) / 100,
    };
    number.max(1)
}

fn is_outdated(view: &View<'_>, pod: &Pod) -> bool {
    revision_of(pod) != view.history.update.revision && pod.metadata.deletion_timestamp.is_none()
}

/// The highest outdated one, unless a higher one still has to come up.
fn one<'a>(view: &View<'a>, partition: usize) -> Option<&'a Arc<Pod>> {
    for (_, replica) in view.replicas.iter().skip(partition).rev() {
        match replica {
            Replica::There(pod) if is_outdated(view, pod) => return Some(*pod),
            _ if view.is_unavailable(replica.pod()) => return None,
            _ => {}
        }
    }
    None
}

/// As many of the highest as may be unavailable at once.
fn several<'a>(view: &View<'a>, partition: usize, most: usize) -> Vec<&'a Arc<Pod>> {
    let unavailable = view.replicas.iter().filter(|(_, replica)| view.is_unavailable(replica.pod())).count();
    let outdated = view.replicas.iter().skip(partition).rev().filter_map(|(_, replica)| match replica {
        Replica::There(pod) if is_outdated(view, pod) => Some(*pod),
        _ => None,
    });
    outdated.take(most.saturating_sub(unavailable)).collect()
}
