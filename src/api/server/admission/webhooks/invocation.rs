//! A webhook that is to be asked about a request, and the object in the form that it wants.

use std::sync::Arc;

use troupe_api::status::Status;

use super::configuration::Hook;
use crate::admission::{
    Attributes, match_conditions,
    match_metrics::{self, Owner},
    matching::Matched,
};

/// A question to a webhook.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub hook: Arc<Hook>,
    pub matched: Matched,
}

impl Invocation {
    /// How `hook`, of the kind that metrics call `kind`, is to be asked about the request; `None` if it is not concerned.
    ///
    /// # Errors
    /// 404 when a namespace whose labels count does not exist; 403 when conditions cannot be evaluated and failures are not ignored.
    pub async fn of(hook: &Arc<Hook>, kind: &'static str, request: &Attributes<'_>) -> Result<Option<Self>, Status> {
        let Some(matched) = hook.resources.matched(request).await? else { return Ok(None) };
        let invocation = Invocation { hook: hook.clone(), matched };
        if hook.conditions.is_empty() {
            return Ok(Some(invocation));
        }
        let held = match_conditions::all_hold(&hook.conditions, &invocation.matched, request).await;
        let owner = Owner::Webhook(&hook.name, kind);
        match_metrics::evaluated(owner, request.operation, &held);
        match held.holds {
            Ok(true) => return Ok(Some(invocation)),
            Err(why) if !hook.ignores_failure => return Err(request.forbidden(why)),
            Ok(false) | Err(_) => match_metrics::excluded(owner, request.operation),
        }
        Ok(None)
    }
}
