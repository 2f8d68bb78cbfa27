//! How many pods a job should have now, and which. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    backoff::{self, Backoff},
    pod::JobPod,
    template::{NewPod, has_backoff_per_index, is_indexed},
    view::{View, replaces_only_failed},
};
use crate::controllers::pace;

/// Pods that fail are not replaced sooner than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// Pods to make and to take away.
#[derive(Default)]
pub struct Steps<'a> {
    pub create: Vec<NewPod>,
    pub delete: Vec<&'a Arc<JobPod>>,
    /// Pods are wanted, but only after this time.
    pub wait: Option<Duration>,
    /// Pods are wanted, but too many of those there are wait to run.
    pub held_back: bool,
}

/// The next steps of a job that is not done.
pub fn steps<'a>(view: &View<'a>, succeeded: i32, backoff: &Backoff) -> Steps<'a> {
    let active = view.active.len();
    let wanted = wanted(view, succeeded);
    let surplus = if view.is_suspended() { active } else { active.saturating_sub(wanted) };
    let mut delete = for_removal(view, surplus);
    if view.is_suspended() || !delete.is_empty() {
        if !view.is_suspended() {
            delete.truncate(pace::BURST);
        }
        return Steps { delete, ..Steps::default() };
    }
    let leaving = if replaces_only_failed(view.job) { view.pods.iter().filter(|pod| pod.standing.is_terminating()).count() } else { 0 };
    let missing = wanted.saturating_sub(leaving + active);
    if missing == 0 {
        return Steps::default();
    }
    let room = pace::room(view.pods.iter().map(|pod| pod.standing), &view.spec.template, view.now);
    if room == 0 {
        return Steps { wait: Some(pace::AGAIN), held_back: true, ..Steps::default() };
    }
    let missing = missing.min(room);
    if has_backoff_per_index(view.job) {
        return per_index(view, missing);
    }
    if let Some(left) = backoff.left(view.now) {
        return Steps { wait: Some(left.max(SHORTEST)), ..Steps::default() };
    }
    let create = if is_indexed(view.job) {
        pending(view, missing).into_iter().map(|index| NewPod::of_index(view.job, index, None)).collect()
    } else {
        vec![NewPod::default(); missing]
    };
    Steps { create, ..Steps::default() }
}

/// How many pods should be active.
fn wanted(view: &View<'_>, succeeded: i32) -> usize {
    let parallelism = view.spec.parallelism.unwrap_or(1);
    let wanted = match view.spec.completions {
        Some(completions) => completions.saturating_sub(succeeded).min(parallelism),
        // One success ends it: what runs may go on, nothing is added.
        None if succeeded > 0 => return view.active.len(),
        None => parallelism,
    };
    usize::try_from(wanted).unwrap_or(0)
}

/// Each index waits for itself.
fn per_index<'a>(view: &View<'a>, missing: usize) -> Steps<'a> {
    let (mut create, mut wait) = (Vec::new(), None);
    for index in pending(view, missing) {
        let replaced = view.kept_back.get(&index).copied();
        let failures = replaced.map_or(0, |pod| u32::try_from(pod.all_failures_before()).unwrap_or(0).saturating_add(1));
        match replaced.and_then(|pod| backoff::left(failures, pod.finished_at, view.now)) {
            None => create.push(NewPod::of_index(view.job, index, replaced)),
            Some(left) => wait = Some(wait.map_or(left, |least: Duration| least.min(left))),
        }
    }
    Steps { create, wait: wait.map(|left| left.max(SHORTEST)), ..Steps::default() }
}

/// The lowest indexes that have no pod and are not done.
fn pending(view: &View<'_>, count: usize) -> Vec<i32> {
    let waits = |pod: &JobPod| replaces_only_failed(view.job) && pod.standing.is_terminating();
    let taken = view.active.iter().chain(view.pods.iter().filter(|pod| waits(pod)));
    let taken: BTreeSet<i32> = taken.filter_map(|pod| pod.index).collect();
    let failed = view.failed_indexes.clone().unwrap_or_default();
    view.succeeded_indexes.with(&taken).union(&failed).missing(count, view.completions())
}

/// Active pods to take away: at least so many; with indexes, doubles and strangers in any case.
fn for_removal<'a>(view: &View<'a>, at_least: usize) -> Vec<&'a Arc<JobPod>> {
    let ranked = |mut pods: Vec<&'a Arc<JobPod>>| {
        pods.sort_by_cached_key(|pod| (pod.standing.rank_for_deletion(0, view.now), pod.meta.name.clone()));
        pods
    };
    let (mut doomed, mut left) = (Vec::new(), Vec::new());
    if is_indexed(view.job) {
        let mut by_index: BTreeMap<i32, Vec<&Arc<JobPod>>> = BTreeMap::new();
        for pod in &view.active {
            match view.valid_index(pod) {
                Some(index) => by_index.entry(index).or_default().push(pod),
                None => doomed.push(*pod),
            }
        }
        for pods in by_index.into_values() {
            let mut pods = ranked(pods);
            left.extend(pods.pop());
            doomed.extend(pods);
        }
    } else {
        left.clone_from(&view.active);
    }
    let more = at_least.saturating_sub(doomed.len());
    doomed.extend(ranked(left).into_iter().take(more));
    doomed
}
