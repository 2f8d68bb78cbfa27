//! One question to one webhook.

use std::time::Instant;

use troupe_api::{
    aside,
    spans::{self, Active, SpanKind},
    status::Status,
};
use uuid::Uuid;

use super::{
    Webhooks,
    failure::Failure,
    invocation::Invocation,
    refusals::is_failure,
    response::{self, Unusable, Verdict},
    review::review,
};
use crate::admission::Attributes;

/// The longest answer: a patch of the largest object in base64, and some words around it.
const LONGEST_ANSWER: usize = 5 << 20;

/// The span of a question, under upstream's name, if the request is sampled.
fn call_span(invocation: &Invocation, request: &Attributes<'_>, mutating: bool, uid: &str) -> Option<Active> {
    let name = if mutating { "Call mutating webhook" } else { "Call validating webhook" };
    let mut span = spans::begin(name, SpanKind::Internal)?;
    span.set("configuration", invocation.hook.configuration.as_str());
    span.set("webhook", invocation.hook.name.as_str());
    span.set("resource", request.target.group_resource().to_string());
    span.set("subresource", &*request.target.subresource);
    span.set("operation", format!("{:?}", request.operation).to_uppercase());
    span.set("UID", uid);
    Some(span)
}

impl Webhooks {
    /// Asks a webhook and passes on what it says beside its verdict.
    ///
    /// # Errors
    /// When it says no, and when it says nothing that can be used.
    pub(super) async fn ask(&self, invocation: &Invocation, request: &Attributes<'_>, mutating: bool) -> Result<Verdict, Failure> {
        let hook = &invocation.hook;
        if request.dry_run && !hook.takes_dry_run {
            return Err(Failure::Server(Status::bad_request(format!("admission webhook {:?} does not support dry run", hook.name))));
        }
        let Some(version) = hook.version else {
            const WHY: &str = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Failure::Calling { reason: WHY.into(), code: 400 });
        };
        let uid = Uuid::new_v4().to_string();
        let body = review(version, invocation, request, &uid).to_string().into_bytes();
        let posted = self.client.post(&hook.client, body, hook.timeout, LONGEST_ANSWER);
        let answer = match call_span(invocation, request, mutating, &uid) {
            Some(span) => spans::within(span.scope(), posted).await,
            None => posted.await,
        };
        let answer = answer.map_err(|why| Failure::calling(format!("failed to call webhook: {why}")))?;
        let read = aside::compute(answer.len(), move || response::read(&answer, version, &uid, mutating)).await;
        let verdict = read.map_err(|why| match why {
            Unusable::Malformed(why) => Failure::calling(format!("failed to call webhook: {why}")),
            Unusable::Invalid(why) => Failure::calling(format!("received invalid webhook response: {why}")),
        })?;
        for (name, text) in &verdict.annotations {
            request.notices.annotate(format!("{}/{name}", hook.name), text);
        }
        for warning in &verdict.warnings {
            request.notices.warn(warning);
        }
        match verdict.allowed {
            true => Ok(verdict),
            false => Err(Failure::Denied(response::denied(&hook.name, verdict.status.as_ref()))),
        }
    }

    /// Counts what came of a question, and decides whether the request fails by it: `None` if the webhook's failure is ignored.
    pub(super) fn judged(&self, invocation: &Invocation, request: &Attributes<'_>, kind: &str, began: Instant, failure: Failure) -> Option<Status> {
        let hook = &invocation.hook;
        super::metrics::asked(hook, kind, request.operation, began, Some(&failure));
        if let (true, Failure::Calling { reason, .. }) = (hook.ignores_failure, &failure) {
            tracing::warn!(webhook = hook.name, reason, "a webhook failed and is ignored");
            return None;
        }
        let failed = is_failure(&failure);
        let status = failure.into_status(&hook.name);
        self.refusals.note(hook, self.configuration_kind, request, failed, &status);
        Some(status)
    }
}
