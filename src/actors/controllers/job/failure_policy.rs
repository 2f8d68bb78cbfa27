//! `spec.podFailurePolicy`: what the failure of a pod means for its job. Pure.

use k8s_openapi::api::{
    batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::{ContainerStatus, Pod},
};

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It counts towards the limits.
    Counts,
    /// It is as if it had not been.
    Ignored,
    /// Its index has failed.
    FailsIndex,
    /// The job has failed, for this reason.
    FailsJob(String),
}

/// Judges a failed pod by the first rule that matches.
pub fn judge(job: &Job, pod: &Pod) -> Meaning {
    let rules = job.spec.iter().flat_map(|spec| spec.pod_failure_policy.iter()).flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let Some(what) = matching(rule, pod) else { continue };
        match rule.action.as_str() {
            "Ignore" => return Meaning::Ignored,
            "FailIndex" => return Meaning::FailsIndex,
            "Count" => return Meaning::Counts,
            "FailJob" => return Meaning::FailsJob(format!("{what} matching FailJob rule at index {at}")),
            _ => {}
        }
    }
    Meaning::Counts
}

/// The action of the first rule that matches a failed pod.
pub fn applied_action<'a>(job: &'a Job, pod: &Pod) -> Option<&'a str> {
    let policy = job.spec.as_ref()?.pod_failure_policy.as_ref()?;
    policy.rules.iter().find(|rule| matching(rule, pod).is_some()).map(|rule| &*rule.action)
}

/// What about the pod the rule is for, in words.
fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    if let Some(wanted) = &rule.on_exit_codes {
        let mut statuses = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let (container, code) =
            statuses.find_map(|status| Some((&status.name, exit_code(status).filter(|code| is_wanted(wanted, status, *code))?)))?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref()?;
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|condition| {
        patterns.iter().any(|pattern| pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status)
    })?;
    Some(format!("Pod {name} has condition {}", found.type_))
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn is_wanted(wanted: &PodFailurePolicyOnExitCodesRequirement, status: &ContainerStatus, code: i32) -> bool {
    let named = wanted.container_name.as_ref().is_none_or(|name| *name == status.name);
    let listed = wanted.values.contains(&code);
    named && code != 0 && if wanted.operator == "In" { listed } else { wanted.operator == "NotIn" && !listed }
}
