//! The pods of a job, and what their annotations say. Pure.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};

use super::{
    FINALIZER,
    failure_policy::{Meaning, judge},
    pod::{FAILURES, IGNORED, INDEX, JobPod},
};
use crate::controllers::pod_control::pod_from_template;

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Generated names have room for so many characters before their random end.
const MAX_PREFIX: usize = 58;

/// A pod that is to be made; of an index, for indexed jobs. What it is in full is the template times the number of pods: it is made when
/// its turn comes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewPod {
    pub index: Option<i32>,
    /// What the failures of its index say, where indexes fail one by one.
    pub failures: Failures,
}

/// How many pods of an index failed, and how many did without counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    counted: i32,
    ignored: i32,
}

impl NewPod {
    /// A pod of an index, in place of one that failed.
    pub fn of_index(job: &Job, index: i32, replaced: Option<&JobPod>) -> Self {
        let failures = if has_backoff_per_index(job) { failures_with(job, replaced) } else { Failures::default() };
        NewPod { index: Some(index), failures }
    }

    pub fn make(&self, job: &Job) -> Pod {
        new_pod(job, self.index, self.failures)
    }
}

fn new_pod(job: &Job, index: Option<i32>, failures: Failures) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_from_template(&template, job);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    if let Some(index) = index {
        give_index(job, &mut pod, index);
        if has_backoff_per_index(job) {
            tell_failures(&mut pod, failures);
        }
    }
    pod
}

fn give_index(job: &Job, pod: &mut Pod, index: i32) {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let end = format!("-{index}-");
    let room = MAX_PREFIX - end.len();
    pod.metadata.generate_name = Some(format!("{}{end}", if name.len() > room { &name[..room] } else { name }));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        tell_index(container);
    }
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..ObjectFieldSelector::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    variables.push(EnvVar { name: INDEX_VARIABLE.into(), value_from: Some(source), ..EnvVar::default() });
}

fn failures_with(job: &Job, replaced: Option<&JobPod>) -> Failures {
    let Some(replaced) = replaced else { return Failures::default() };
    let mut failures = Failures { counted: replaced.failures_before, ignored: replaced.ignored_before };
    let counter = if judge(job, replaced) == Meaning::Ignored { &mut failures.ignored } else { &mut failures.counted };
    *counter = counter.saturating_add(1);
    failures
}

fn tell_failures(pod: &mut Pod, Failures { counted, ignored }: Failures) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(FAILURES.into(), counted.to_string());
    if ignored > 0 {
        annotations.insert(IGNORED.into(), ignored.to_string());
    }
}

/// `completionMode: Indexed`.
pub fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Indexes fail one by one.
pub fn has_backoff_per_index(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.backoff_limit_per_index).is_some()
}
