//! A job with its pods, sorted and counted. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};

use super::{
    failure_policy::{Meaning, judge},
    indexes::Indexes,
    pod::JobPod,
    template::{has_backoff_per_index, is_indexed},
};
use crate::controllers::garbage_collector::graph::ORPHAN;

/// See the module.
pub struct View<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    pub status: JobStatus,
    /// All its pods; those of indexed jobs by index.
    pub pods: Vec<&'a Arc<JobPod>>,
    pub active: Vec<&'a Arc<JobPod>>,
    /// Pods that ended and are in no count yet.
    pub newly_succeeded: Vec<&'a JobPod>,
    pub newly_failed: Vec<&'a JobPod>,
    /// For indexed jobs: indexes that the status knows to have succeeded, and all that did.
    pub known_indexes: Indexes,
    pub succeeded_indexes: Indexes,
    /// With `backoffLimitPerIndex`.
    pub failed_indexes: Option<Indexes>,
    /// Failed pods that stay until another one of their index has taken over the count of failures.
    pub kept_back: BTreeMap<i32, &'a JobPod>,
    pub now: Timestamp,
}

impl<'a> View<'a> {
    pub fn new(job: &'a Job, spec: &'a JobSpec, mut pods: Vec<&'a Arc<JobPod>>, now: Timestamp) -> Self {
        if is_indexed(job) {
            pods.sort_by_key(|pod| pod.index);
        }
        let active = pods.iter().copied().filter(|pod| pod.standing.is_active()).collect();
        let status = job.status.clone().unwrap_or_default();
        let (known_indexes, failed_indexes) = (Indexes::default(), None);
        let mut view = View {
            job,
            spec,
            status,
            pods,
            active,
            newly_succeeded: Vec::new(),
            newly_failed: Vec::new(),
            succeeded_indexes: known_indexes.clone(),
            known_indexes,
            failed_indexes,
            kept_back: BTreeMap::new(),
            now,
        };
        view.newly_succeeded = view.uncounted(|pods| pods.succeeded.as_ref(), |pod| pod.standing.phase == "Succeeded");
        view.newly_failed = view.uncounted(|pods| pods.failed.as_ref(), |pod| has_failed(job, pod));
        if is_indexed(job) {
            view.sort_indexes();
        }
        view
    }

    /// `spec.completions`, of indexed jobs.
    pub fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    /// The pod's index, if it is one that the job has.
    pub fn valid_index(&self, pod: &JobPod) -> Option<i32> {
        pod.index.filter(|index| *index < self.completions())
    }

    fn is_valid(&self, pod: &JobPod) -> bool {
        !is_indexed(self.job) || self.valid_index(pod).is_some()
    }

    fn uncounted(&self, known: impl Fn(&UncountedTerminatedPods) -> Option<&Vec<String>>, ended: impl Fn(&JobPod) -> bool) -> Vec<&'a JobPod> {
        let known = self.status.uncounted_terminated_pods.as_ref().and_then(known);
        let is_known = |pod: &JobPod| known.is_some_and(|known| known.iter().any(|uid| **uid == *pod.meta.uid));
        let pods = self.pods.iter().map(|pod| &***pod);
        pods.filter(|pod| pod.is_tracked() && !is_known(pod) && self.is_valid(pod) && ended(pod)).collect()
    }

    fn sort_indexes(&mut self) {
        let completions = self.completions();
        self.known_indexes = Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), completions);
        self.succeeded_indexes = self.known_indexes.with(&self.tracked(|pod| pod.standing.phase == "Succeeded"));
        if has_backoff_per_index(self.job) {
            let known = Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or_default(), completions);
            self.failed_indexes = Some(known.with(&self.tracked(|pod| fails_index(self.job, pod))));
            self.kept_back = self.kept_back();
        }
    }

    /// Indexes of pods that are still to be counted.
    fn tracked(&self, counts: impl Fn(&JobPod) -> bool) -> BTreeSet<i32> {
        self.pods.iter().filter(|pod| pod.is_tracked() && counts(pod)).filter_map(|pod| self.valid_index(pod)).collect()
    }

    fn kept_back(&self) -> BTreeMap<i32, &'a JobPod> {
        let active: BTreeSet<i32> = self.active.iter().filter_map(|pod| pod.index).collect();
        let failed = self.failed_indexes.clone().unwrap_or_default();
        let mut kept: BTreeMap<i32, &JobPod> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| pod.is_tracked() && has_failed(self.job, pod)) {
            let Some(index) = self.valid_index(pod) else { continue };
            if self.succeeded_indexes.contains(index) || failed.contains(index) || active.contains(&index) {
                continue;
            }
            let is_later = |other: &JobPod| other.all_failures_before() <= pod.all_failures_before() && other.finished_at <= pod.finished_at;
            if kept.get(&index).is_none_or(|other| is_later(other)) {
                kept.insert(index, pod);
            }
        }
        kept
    }

    /// `spec.suspend`.
    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// The job is being deleted.
    pub fn is_deleted(&self) -> bool {
        self.job.metadata.deletion_timestamp.is_some()
    }

    /// It is being deleted, and its pods are freed first: those that it does not have any more have not ended.
    pub fn frees_pods(&self) -> bool {
        self.is_deleted() && self.job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == ORPHAN)
    }
}

/// A pod is replaced only when it has ended, not when it is told to.
pub fn replaces_only_failed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    let policy = spec.and_then(|spec| spec.pod_replacement_policy.as_deref());
    policy == Some("Failed") || spec.is_some_and(|spec| spec.pod_failure_policy.is_some())
}

/// The pod failed, or is deleted before it could succeed where that counts as a failure.
pub fn has_failed(job: &Job, pod: &JobPod) -> bool {
    match pod.standing.phase {
        "Failed" => true,
        "Succeeded" => false,
        _ => pod.standing.is_deleted && !replaces_only_failed(job),
    }
}

fn fails_index(job: &Job, pod: &JobPod) -> bool {
    if !has_failed(job, pod) {
        return false;
    }
    match judge(job, pod) {
        Meaning::FailsIndex => true,
        Meaning::Ignored => false,
        Meaning::Counts | Meaning::FailsJob(_) => {
            let limit = job.spec.as_ref().and_then(|spec| spec.backoff_limit_per_index).unwrap_or(0);
            pod.failures_before >= limit
        }
    }
}
