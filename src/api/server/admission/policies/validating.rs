//! Validating policies: all that concern a request are asked, and bindings say what follows
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/validating`, `dispatcher.go`).

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;
use troupe_api::status::{Reason, Status, StatusCause};

use super::{
    hooks,
    index::{Hook, Index},
    invocation::{Collected, Invocation, Step},
    metrics,
    policy::Binding,
    verdict::{Annotated, Decision, Evaluation, Said, verdict},
};
use crate::admission::{
    Attributes, Plugin, ValidatingPlugin,
    expressions::{Effort, Inputs, Part, Shown, Stopped, in_turns},
    go_json,
    match_metrics::{self, Owner},
};

/// The longest value of an annotation, in bytes.
const LONGEST_ANNOTATION: usize = 10 << 10;
const FAILURE_ANNOTATION: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The plugin that asks validating policies.
pub struct ValidatingPolicies(Index);

impl Default for ValidatingPolicies {
    fn default() -> Self {
        ValidatingPolicies(Index::new("validatingadmissionpolicies", "validatingadmissionpolicybindings", &metrics::VALIDATING))
    }
}

impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }
}

#[async_trait]
impl ValidatingPlugin for ValidatingPolicies {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let hooks = hooks(&self.0, request).await?;
        if hooks.is_empty() { Ok(()) } else { validate(&hooks, request).await }
    }
}

async fn validate(hooks: &[Arc<Hook>], request: &Attributes<'_>) -> Result<(), Status> {
    let collected = Collected::of(hooks, request).await?;
    if collected.steps.is_empty() {
        return Ok(());
    }
    let collected = Arc::new(collected);
    let shown: Vec<Shown<'_>> = collected.matched.iter().map(|matched| Shown::of(matched, request, collected.asks_request)).collect();
    let parts = collected.steps.len();
    let here = |effort: &mut Effort| -> Result<Vec<Said>, Stopped> { (0..parts).map(|at| said(&collected, at, &shown, effort)).collect() };
    let owned = || -> Part<Said> {
        let (collected, shown) = (collected.clone(), shown.iter().map(Shown::to_owned).collect::<Vec<_>>());
        Arc::new(move |at: usize, effort: &mut Effort| said(&collected, at, &shown, effort))
    };
    let said = in_turns(parts, here, owned).await;
    Consequences::new(request).of(&collected.steps, said)
}

/// What a step says; nothing where it fails before.
fn said(collected: &Collected, at: usize, shown: &[Shown<'_>], effort: &mut Effort) -> Result<Said, Stopped> {
    match &collected.steps[at] {
        Step::Ask(Invocation { policy, matched, params, .. }) => {
            let (namespace, access) = (collected.namespace.as_ref(), collected.access.as_ref());
            verdict(policy, Inputs { shown: &shown[*matched], namespace, params: params.as_ref(), access }, effort.begin())
        }
        Step::Fail(_) => Ok(Said::default()),
    }
}

/// What follows for a request from what policies say.
struct Consequences<'a, 'r> {
    request: &'a Attributes<'r>,
    denied: Option<Status>,
    /// A failure that bindings want in the audit event stands there already.
    published: bool,
    /// By policy and key.
    annotations: BTreeMap<String, Vec<String>>,
}

impl<'a, 'r> Consequences<'a, 'r> {
    fn new(request: &'a Attributes<'r>) -> Self {
        Consequences { request, denied: None, published: false, annotations: BTreeMap::new() }
    }

    fn of(mut self, steps: &[Step], said: Vec<Said>) -> Result<(), Status> {
        for (step, said) in steps.iter().zip(said) {
            match step {
                Step::Ask(invocation) => self.follow(invocation, said),
                Step::Fail(failure) => {
                    self.deny(&failure.policy.name, failure.binding.as_ref().map(|binding| &*binding.name), &failure.message, None);
                }
            }
        }
        for (key, values) in self.annotations {
            self.request.notices.annotate(key, values.join(", "));
        }
        self.denied.map_or(Ok(()), Err)
    }

    fn follow(&mut self, invocation: &Invocation, said: Said) {
        let (policy, binding) = (&*invocation.policy.name, &invocation.binding);
        if let Some(held) = &said.conditions {
            match_metrics::evaluated(Owner::Policy(policy), self.request.operation, held);
        }
        for (index, decision) in said.decisions.iter().enumerate() {
            if decision.admits {
                if decision.evaluation == Evaluation::Error {
                    metrics::validated(policy, &binding.name, "allow", decision.elapsed, Some(&decision.message));
                }
                continue;
            }
            for action in &binding.actions {
                self.act(policy, binding, action, index, decision);
            }
        }
        for annotation in said.annotations {
            self.annotate(policy, binding, annotation);
        }
    }

    fn act(&mut self, policy: &str, binding: &Binding, action: &str, index: usize, decision: &Decision) {
        let taken = match action {
            "Deny" => {
                self.deny(policy, Some(&binding.name), &decision.message, decision.reason.as_deref());
                "deny"
            }
            "Audit" => {
                self.publish(binding, index, decision);
                "audit"
            }
            "Warn" => {
                let (binding, message) = (&binding.name, &decision.message);
                let warning = format!("Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}");
                self.request.notices.warn(warning);
                "warn"
            }
            _ => return,
        };
        metrics::validated(policy, &binding.name, taken, decision.elapsed, Some(&decision.message));
    }

    fn annotate(&mut self, policy: &str, binding: &Binding, annotation: Annotated) {
        match annotation {
            Annotated::Publish { key, mut value } => {
                value.truncate(value.floor_char_boundary(LONGEST_ANNOTATION));
                let values = self.annotations.entry(format!("{policy}/{key}")).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            Annotated::Failed { message, elapsed } => {
                self.deny(policy, Some(&binding.name), &message, None);
                metrics::validated(policy, &binding.name, "deny", elapsed, Some(&message));
            }
        }
    }

    /// The first refusal is the one that is told.
    fn deny(&mut self, policy: &str, binding: Option<&str>, message: &str, reason: Option<&str>) {
        if self.denied.is_some() {
            return;
        }
        let by = binding.map_or_else(String::new, |binding| format!(" with binding '{binding}'"));
        let message = format!("ValidatingAdmissionPolicy '{policy}'{by} denied request: {message}");
        let mut status = self.request.forbidden(&message);
        (status.code, status.reason) = match reason {
            Some("Forbidden") => (403, Reason::Forbidden),
            Some("Unauthorized") => (401, Reason::Unauthorized),
            Some("RequestEntityTooLarge") => (413, Reason::RequestEntityTooLarge),
            _ => (422, Reason::Invalid),
        };
        status.details.get_or_insert_default().causes.push(StatusCause { message, ..StatusCause::default() });
        self.denied = Some(status);
    }

    fn publish(&mut self, binding: &Binding, index: usize, decision: &Decision) {
        if std::mem::replace(&mut self.published, true) {
            return;
        }
        let failure = ValidationFailure {
            message: &decision.message,
            policy: &binding.policy,
            binding: &binding.name,
            expression_index: index,
            validation_actions: &binding.actions,
        };
        self.request.notices.annotate(FAILURE_ANNOTATION, go_json::text(&[failure]));
    }
}

/// A failure as the audit event has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValidationFailure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [String],
}
