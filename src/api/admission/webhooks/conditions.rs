//! Match conditions: expressions that must hold for a webhook to be asked
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions`).

use std::sync::LazyLock;

use super::{invocation::Invocation, review::asked};
use crate::{
    admission::{
        Request,
        expressions::{Access, Effort, Inputs, Stopped, Surroundings, hold, in_time},
        view::{self, Shown},
    },
    resources::validation::admission::environment::Compiler,
    status::Status,
};

static COMPILER: LazyLock<Compiler> = LazyLock::new(|| Compiler::new(false, false));

/// Whether the webhook's match conditions hold. One that does not hold decides, whatever becomes of the others; else one that cannot be
/// evaluated counts as a call that failed.
///
/// # Errors
/// 403 in upstream's form, where failures are not ignored.
pub async fn conditions(invocation: &Invocation, request: &Request<'_>) -> Result<bool, Status> {
    let hook = &invocation.hook;
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let view = &invocation.view;
    let object = |object| view::shown_or_same(view, request, object);
    let shown = Shown {
        view: view.clone(),
        object: request.object.as_deref().map(object),
        old: request.old.map(object),
        asked: Some(asked(view, request)),
    };
    let access = Access::of(request);
    let judged = |shown: &Shown<'_>, access: &Access, hook: &super::configuration::Hook, effort: &mut Effort| {
        let inputs = Inputs { shown, namespace: None, params: None, access: Some(access) };
        hold(&hook.conditions, inputs, Surroundings { variables: &[], compiler: &COMPILER }, effort.begin())
    };
    let outcome: Result<bool, String> = in_time(
        |effort| judged(&shown, &access, hook, effort),
        || {
            let (shown, access, hook) = (shown.into_owned(), access.clone(), hook.clone());
            Box::new(move |effort: &mut Effort| -> Result<Result<bool, String>, Stopped> { judged(&shown, &access, &hook, effort) })
        },
    )
    .await;
    match outcome {
        Ok(hold) => Ok(hold),
        Err(_) if hook.ignores_failure => Ok(false),
        Err(why) => Err(request.forbidden(why)),
    }
}
