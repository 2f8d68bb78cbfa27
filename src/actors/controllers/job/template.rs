//! The pods of a job, and what their annotations say. Pure.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};

use super::{
    FINALIZER,
    failure_policy::{Meaning, judge},
};
use crate::controllers::pod_control::pod_from_template;

/// The index of an indexed job's pod; a label as well.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How many pods of this index failed before.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How many failed before without counting.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Generated names have room for so many characters before their random end.
const MAX_PREFIX: usize = 58;

/// Makes a pod; of an index, for indexed jobs.
pub fn new_pod(job: &Job, index: Option<i32>, replaced: Option<&Pod>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_from_template(&template, job);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    if let Some(index) = index {
        give_index(job, &mut pod, index);
        if has_backoff_per_index(job) {
            count_failures(job, &mut pod, replaced);
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

fn count_failures(job: &Job, pod: &mut Pod, replaced: Option<&Pod>) {
    let (mut failures, mut ignored) = (0, 0);
    if let Some(replaced) = replaced {
        (failures, ignored) = (number(replaced, FAILURES), number(replaced, IGNORED));
        let counter = if judge(job, replaced) == Meaning::Ignored { &mut ignored } else { &mut failures };
        *counter = counter.saturating_add(1);
    }
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(FAILURES.into(), failures.to_string());
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

/// The pod's index, if it says one.
pub fn index_of(pod: &Pod) -> Option<i32> {
    let text = pod.metadata.annotations.as_ref()?.get(INDEX)?;
    text.parse().ok().filter(|index| *index >= 0)
}

/// How many pods of the index failed before this one, counting ones only.
pub fn failures_before(pod: &Pod) -> i32 {
    number(pod, FAILURES)
}

/// How many pods of the index failed before this one.
pub fn all_failures_before(pod: &Pod) -> i32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED))
}

fn number(pod: &Pod, annotation: &str) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    text.and_then(|text| text.parse().ok()).filter(|number| *number >= 0).unwrap_or(0)
}
