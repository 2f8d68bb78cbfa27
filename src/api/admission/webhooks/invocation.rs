//! A webhook that is to be asked about a request, and the object in the form that it wants.

use std::sync::Arc;

use super::{conditions::conditions, configuration::Hook};
use crate::{
    admission::{
        Request,
        view::{Form, View},
    },
    status::Status,
};

/// A question to a webhook.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub hook: Arc<Hook>,
    /// How it sees the object.
    pub view: View,
}

/// How `hook` is to be asked about the request; `None` if it is not concerned.
///
/// # Errors
/// 404 when a namespace whose labels count does not exist; what [`conditions`] refuses.
pub async fn invocation(hook: &Arc<Hook>, request: &Request<'_>, form: Form) -> Result<Option<Invocation>, Status> {
    let Some(view) = hook.constraints.view(request, form).await? else { return Ok(None) };
    let invocation = Invocation { hook: hook.clone(), view };
    Ok(conditions(&invocation, request).await?.then_some(invocation))
}
