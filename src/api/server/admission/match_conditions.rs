//! Match conditions of webhooks: expressions that must hold for one to be asked
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions`).

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use troupe_api::resources::validation::admission::environment::Compiler;

use super::{
    Attributes,
    expressions::{Access, Condition, Effort, Held, Inputs, Shown, Stopped, Surroundings, Work, hold, in_time},
    matching::Matched,
};

static COMPILER: LazyLock<Compiler> = LazyLock::new(|| Compiler::new(false, false));

/// Compiles conditions.
pub fn read(conditions: &[Value]) -> Arc<[Condition]> {
    let mut compiler = Compiler::new(false, false);
    conditions.iter().map(|condition| Condition::read(condition, &mut compiler)).collect()
}

/// Whether all conditions hold. One that does not hold decides, whatever becomes of the others; else one that cannot be evaluated is an
/// error in upstream's words.
pub async fn all_hold(conditions: &Arc<[Condition]>, matched: &Matched, request: &Attributes<'_>) -> Held {
    let (shown, access) = (Shown::of(matched, request, true), Access::of(request));
    let here = |effort: &mut Effort| judged(conditions, &shown, &access, effort);
    let owned = || -> Work<Held> {
        let (conditions, shown, access) = (conditions.clone(), shown.to_owned(), access.clone());
        Box::new(move |effort: &mut Effort| judged(&conditions, &shown, &access, effort))
    };
    in_time(here, owned).await
}

fn judged(conditions: &[Condition], shown: &Shown<'_>, access: &Access, effort: &mut Effort) -> Result<Held, Stopped> {
    let inputs = Inputs { shown, namespace: None, params: None, access: Some(access) };
    hold(conditions, inputs, Surroundings { variables: &[], compiler: &COMPILER }, effort.begin())
}
