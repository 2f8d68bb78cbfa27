//! Counting pods exactly once: the status lists them, then their finalizers go, then they are in the numbers. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::batch::v1::{JobCondition, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    failure_policy::{Meaning, judge},
    pod::JobPod,
    template::is_indexed,
    verdict::Verdict,
    view::{View, has_failed},
};

/// The status lists no more pods than this as uncounted.
const MOST_UNCOUNTED: usize = 500;

/// What counting comes to.
pub struct Counted<'a> {
    pub status: JobStatus,
    /// Pods whose finalizer goes once the status is written.
    pub release: Vec<&'a Arc<JobPod>>,
    /// Everything is in the numbers.
    pub complete: bool,
}

/// Counts the pods into `status`.
pub fn count<'a>(view: &View<'a>, mut status: JobStatus, verdict: Option<&Verdict>) -> Counted<'a> {
    let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let (mut succeeded, mut failed) = (uncounted.succeeded.take().unwrap_or_default(), uncounted.failed.take().unwrap_or_default());
    let tracked: BTreeSet<&str> = view.pods.iter().filter(|pod| pod.is_tracked()).map(|pod| &*pod.meta.uid).collect();
    status.succeeded = settle(status.succeeded, &mut succeeded, &tracked);
    status.failed = settle(status.failed, &mut failed, &tracked);
    let (mut release, mut indexes) = (Vec::new(), BTreeSet::new());
    let mut complete = true;
    for pod in view.pods.iter().copied().filter(|pod| pod.is_tracked() && may_go(view, pod, verdict)) {
        release.push(pod);
        let uid = pod.meta.uid.to_string();
        let has_index = !is_indexed(view.job) || view.valid_index(pod).is_some();
        if pod.standing.phase == "Succeeded" && !failed.contains(&uid) {
            match view.valid_index(pod).filter(|_| is_indexed(view.job)) {
                Some(index) => _ = indexes.insert(index),
                None if !is_indexed(view.job) && !succeeded.contains(&uid) => succeeded.push(uid),
                None => {}
            }
        } else if has_failed(view.job, pod) || verdict.is_some_and(|verdict| !verdict.success) {
            // When the job has failed, so has every pod that did not end.
            if has_index && !failed.contains(&uid) && judge(view.job, pod) != Meaning::Ignored {
                failed.push(uid);
            }
        }
        if indexes.len() + succeeded.len() + failed.len() >= MOST_UNCOUNTED {
            complete = false;
            break;
        }
    }
    if is_indexed(view.job) {
        let all = view.succeeded_indexes.with(&indexes);
        status.succeeded = some(all.len());
        status.completed_indexes = (!all.is_empty()).then(|| all.to_string());
        status.failed_indexes = view.failed_indexes.as_ref().map(ToString::to_string);
    }
    complete &= release.is_empty() && succeeded.is_empty() && failed.is_empty();
    uncounted.succeeded = (!succeeded.is_empty()).then_some(succeeded);
    uncounted.failed = (!failed.is_empty()).then_some(failed);
    status.uncounted_terminated_pods = Some(uncounted);
    Counted { status, release, complete }
}

/// Counts the pods that have lost their finalizer.
fn settle(count: Option<i32>, uncounted: &mut Vec<String>, tracked: &BTreeSet<&str>) -> Option<i32> {
    let before = uncounted.len();
    uncounted.retain(|uid| tracked.contains(uid.as_str()));
    let settled = i32::try_from(before - uncounted.len()).unwrap_or(i32::MAX);
    some(count.unwrap_or(0).saturating_add(settled))
}

/// Zeros are left out, as the API writes them.
pub fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

/// Whether a pod can be counted and let go.
fn may_go(view: &View<'_>, pod: &JobPod, verdict: Option<&Verdict>) -> bool {
    if view.is_deleted() || verdict.is_some() || pod.standing.phase == "Succeeded" {
        return true;
    }
    let kept = view.valid_index(pod).and_then(|index| view.kept_back.get(&index));
    has_failed(view.job, pod) && kept.is_none_or(|kept| kept.meta.uid != pod.meta.uid)
}

/// Sets a condition; one that is not there is not set to False. Says whether anything changed.
pub fn set_condition(status: &mut JobStatus, kind: &str, is_true: bool, reason: &str, message: &str, now: Time) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let value = if is_true { "True" } else { "False" };
    let condition = JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: (!reason.is_empty()).then(|| reason.into()),
        message: (!message.is_empty()).then(|| message.into()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    match conditions.iter_mut().find(|known| known.type_ == kind) {
        Some(known) if known.status == value && known.reason == condition.reason && known.message == condition.message => false,
        Some(known) => {
            *known = condition;
            true
        }
        None if is_true => {
            conditions.push(condition);
            true
        }
        None => false,
    }
}
