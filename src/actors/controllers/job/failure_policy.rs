//! `spec.podFailurePolicy`: what the failure of a pod means for its job. Pure.

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};

use super::pod::{Exit, JobPod};

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
pub fn judge(job: &Job, pod: &JobPod) -> Meaning {
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
pub fn applied_action<'a>(job: &'a Job, pod: &JobPod) -> Option<&'a str> {
    let policy = job.spec.as_ref()?.pod_failure_policy.as_ref()?;
    policy.rules.iter().find(|rule| matching(rule, pod).is_some()).map(|rule| &*rule.action)
}

/// What about the pod the rule is for, in words.
fn matching(rule: &PodFailurePolicyRule, pod: &JobPod) -> Option<String> {
    let name = format!("{}/{}", pod.meta.namespace, pod.meta.name);
    if let Some(wanted) = &rule.on_exit_codes {
        let Exit { container, code } = pod.exits.iter().find(|exit| is_wanted(wanted, exit))?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref()?;
    let (found, _) = pod
        .conditions
        .iter()
        .find(|(kind, status)| patterns.iter().any(|pattern| *pattern.type_ == **kind && *pattern.status.as_deref().unwrap_or("True") == **status))?;
    Some(format!("Pod {name} has condition {found}"))
}

fn is_wanted(wanted: &PodFailurePolicyOnExitCodesRequirement, exit: &Exit) -> bool {
    let named = wanted.container_name.as_ref().is_none_or(|name| **name == *exit.container);
    let listed = wanted.values.contains(&exit.code);
    named && if wanted.operator == "In" { listed } else { wanted.operator == "NotIn" && !listed }
}
