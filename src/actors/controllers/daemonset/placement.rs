//! Where pods are missing, and which ones are too many. Pure.

use std::{sync::Arc, time::Duration};

use super::{
    backoff::Backoff,
    eligibility::Eligibility,
    model::{Steps, View, Why, min_ready_seconds},
    rolling::allows_surge,
    template::HASH_LABEL,
};
use crate::controllers::pod_digest::PodDigest;

/// Brings each node to the pods it should have, whatever their template.
pub fn place<'a>(view: &View<'a>, backoff: &Backoff) -> Steps<'a> {
    let mut steps = Steps::default();
    for (node, pods) in &view.pods {
        match view.nodes.get(node) {
            Some(Eligibility::Wanted) if pods.is_empty() => steps.create.push(node),
            Some(Eligibility::Unwanted) => remove_all(pods, &mut steps),
            Some(eligibility) => keep_one(view, node, *eligibility, pods, backoff, &mut steps),
            // Nobody else looks after pods that wait for a node that is gone.
            None => steps.delete.extend(pods.iter().filter(|pod| !pod.standing.is_assigned).map(|pod| (*pod, Why::Surplus))),
        }
    }
    steps
}

fn remove_all<'a>(pods: &[&'a Arc<PodDigest>], steps: &mut Steps<'a>) {
    let staying = pods.iter().filter(|pod| !pod.standing.is_deleted);
    steps.delete.extend(staying.map(|pod| (*pod, Why::Surplus)));
}

fn keep_one<'a>(view: &View<'a>, node: &'a str, eligibility: Eligibility, pods: &[&'a Arc<PodDigest>], backoff: &Backoff, steps: &mut Steps<'a>) {
    let mut running = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.standing.is_deleted) {
        match pod.standing.phase {
            "Failed" if backoff.left(node, view.now).is_some() => {}
            "Failed" => steps.delete.push((pod, Why::Failed { node: node.to_owned() })),
            "Succeeded" => steps.delete.push((pod, Why::Succeeded { node: node.to_owned() })),
            _ => running.push(*pod),
        }
    }
    if !allows_surge(view.set) {
        steps.delete.extend(running.into_iter().skip(1).map(|pod| (pod, Why::Surplus)));
        return;
    }
    match running[..] {
        [] if eligibility == Eligibility::Wanted => steps.create.push(node),
        [] | [_] => {}
        _ => keep_pair(view, &running, steps),
    }
}

/// With surge, an old and a new pod may stand side by side while the old one is ready and the new one not available.
fn keep_pair<'a>(view: &View<'a>, running: &[&'a Arc<PodDigest>], steps: &mut Steps<'a>) {
    let (mut new, mut old) = (None, None);
    for pod in running {
        let kept = if pod.meta.labels.get(HASH_LABEL) == Some(view.hash) { &mut new } else { &mut old };
        if kept.is_none() {
            *kept = Some(*pod);
        } else {
            steps.delete.push((pod, Why::Surplus));
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!old.standing.is_ready || new.standing.is_available(min_ready_seconds(view), view.now))
    {
        steps.delete.push((old, Why::Surplus));
    }
}

/// How long each node's failed pod is still left alone.
pub fn pauses(view: &View<'_>, backoff: &Backoff) -> Vec<Duration> {
    let failed = |pods: &[&Arc<PodDigest>]| pods.iter().any(|pod| pod.standing.phase == "Failed" && !pod.standing.is_deleted);
    view.pods.iter().filter(|(_, pods)| failed(pods)).filter_map(|(node, _)| backoff.left(node, view.now)).collect()
}
