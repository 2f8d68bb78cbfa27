//! The status of a DaemonSet. Pure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::{
    eligibility::Eligibility,
    model::{View, min_ready_seconds},
    template::is_updated,
};
use crate::controllers::pods;

/// Counts nodes, by the first pod of each.
pub fn status(view: &View<'_>) -> DaemonSetStatus {
    let min_ready = min_ready_seconds(view);
    let (mut desired, mut current, mut misscheduled, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for (node, eligibility) in &view.nodes {
        let first = view.pods.get(node).and_then(|pods| pods.first());
        if *eligibility != Eligibility::Wanted {
            misscheduled += i32::from(first.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = first else { continue };
        current += 1;
        ready += i32::from(pod.standing.is_ready);
        available += i32::from(pod.standing.is_available(min_ready, view.now));
        updated += i32::from(is_updated(view.set, pod, view.hash));
    }
    // Zeros are left out, as the API writes them.
    let some = |number: i32| (number != 0).then_some(number);
    let before = view.set.status.clone().unwrap_or_default();
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misscheduled,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: view.set.metadata.generation,
        collision_count: before.collision_count,
        conditions: before.conditions,
    }
}

/// When the first ready pod that is not available yet becomes so.
pub fn next_available(view: &View<'_>) -> Option<Duration> {
    pods::next_available(view.pods.values().flatten().map(|pod| pod.standing), min_ready_seconds(view), view.now)
}
