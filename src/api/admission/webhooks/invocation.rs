//! A webhook that is to be asked about a request, and the object in the form that it wants.

use std::sync::Arc;

use super::configuration::Hook;
use crate::{
    admission::{Attributes, match_conditions, matching::Matched},
    status::Status,
};

/// A question to a webhook.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub hook: Arc<Hook>,
    pub matched: Matched,
}

impl Invocation {
    /// How `hook` is to be asked about the request; `None` if it is not concerned.
    ///
    /// # Errors
    /// 404 when a namespace whose labels count does not exist; 403 when conditions cannot be evaluated and failures are not ignored.
    pub async fn of(hook: &Arc<Hook>, request: &Attributes<'_>) -> Result<Option<Self>, Status> {
        let Some(matched) = hook.resources.matched(request).await? else { return Ok(None) };
        match match_conditions::all_hold(&hook.conditions, &matched, request).await {
            Ok(true) => Ok(Some(Invocation { hook: hook.clone(), matched })),
            Ok(false) => Ok(None),
            Err(_) if hook.ignores_failure => Ok(None),
            Err(why) => Err(request.forbidden(why)),
        }
    }
}
