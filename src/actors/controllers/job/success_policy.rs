//! `spec.successPolicy`: indexed jobs that are done before every index has succeeded. Pure.

use k8s_openapi::api::batch::v1::Job;

use super::indexes::Indexes;

/// The message of the first rule that the succeeded indexes meet.
pub fn met(job: &Job, completions: i32, succeeded: &Indexes) -> Option<String> {
    let policy = job.spec.as_ref()?.success_policy.as_ref()?;
    if succeeded.is_empty() {
        return None;
    }
    let at = policy.rules.iter().position(|rule| {
        let enough = |count: i32| rule.succeeded_count.is_some_and(|wanted| count >= wanted);
        let Some(text) = &rule.succeeded_indexes else { return enough(succeeded.len()) };
        let required = Indexes::parse(text, completions);
        let common = required.common(succeeded);
        !required.is_empty() && (common == required.len() || enough(common))
    })?;
    Some(format!("Matched rules at index {at}"))
}
