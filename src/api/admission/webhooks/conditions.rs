//! Match conditions: expressions that must hold for a webhook to be asked.

use super::configuration::Hook;
use crate::{admission::Request, status::Status};

/// Whether the webhook's match conditions hold. Nothing evaluates expressions yet, so each counts as one whose evaluation fails:
/// the webhook is not asked if its failures are ignored, and otherwise the request is refused.
///
/// # Errors
/// 403 in upstream's form.
pub fn conditions(hook: &Hook, request: &Request<'_>) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    if hook.ignores_failure {
        return Ok(false);
    }
    let why = hook.conditions.iter().map(|name| format!("webhook match condition {name:?} is not evaluated: expressions are not supported"));
    Err(request.forbidden(why.collect::<Vec<_>>().join(", ")))
}
