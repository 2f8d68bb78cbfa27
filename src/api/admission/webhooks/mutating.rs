//! Mutating webhooks: one after the other, each seeing what those before it made of the object.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use serde_json::{Value, json};

use super::{
    Webhooks,
    configuration::Hook,
    failure::Failure,
    invocation::{Invocation, invocation},
    metrics,
};
use crate::{
    admission::{
        Request,
        view::{self, Form},
    },
    aside,
    meta::Object,
    patch::{json as json_patch, ownership::ManagedFields},
    schema::{Format, decode::parse_value},
    status::Status,
};

/// What metrics call them.
const KIND: &str = "admit";

/// What webhooks did in the rounds of one request: who changes an object may concern those who were asked before.
#[derive(Default)]
pub struct Rounds {
    /// Whether this is the second round, in which nobody is asked for the first time.
    second: bool,
    /// A webhook changed the object.
    changed: bool,
    /// The webhooks that were asked, want to be asked again, and saw all changes so far.
    asked: BTreeSet<String>,
    /// Those that something changed after.
    outdated: BTreeSet<String>,
    /// The object after the webhooks of the first round.
    last: Option<Object>,
}

impl Rounds {
    /// Built-in plugins and webhooks see the object once more.
    pub fn again(&mut self) {
        self.second = true;
    }

    /// Whether a webhook changed the object.
    pub fn changed(&self) -> bool {
        self.changed
    }

    fn object_changed(&mut self) {
        self.outdated.append(&mut self.asked);
    }
}

impl Webhooks {
    /// Lets the webhooks change the object.
    ///
    /// # Errors
    /// When one refuses, or fails and that counts.
    pub async fn mutate(&self, hooks: &[Arc<Hook>], request: &mut Request<'_>, rounds: &mut Rounds) -> Result<(), Status> {
        if rounds.second && rounds.last.as_ref() != request.object.as_deref() {
            rounds.object_changed();
        }
        for (index, hook) in hooks.iter().enumerate() {
            let form = Form::of(request);
            let Some(invocation) = invocation(hook, request, form).await? else { continue };
            if rounds.second && !rounds.outdated.contains(&hook.id) {
                continue;
            }
            let place = format!("round_{}_index_{index}", u8::from(rounds.second));
            let changed = self.mutate_by(&invocation, request, &place).await?;
            if changed {
                rounds.object_changed();
                rounds.changed = true;
            }
            if hook.reinvoked {
                rounds.asked.insert(hook.id.clone());
            }
        }
        if !rounds.second {
            rounds.last = request.object.as_deref().cloned();
        }
        Ok(())
    }

    /// Whether the webhook changed the object.
    async fn mutate_by(&self, invocation: &Invocation, request: &mut Request<'_>, place: &str) -> Result<bool, Status> {
        let (hook, began) = (&invocation.hook, Instant::now());
        let outcome = self.changed(invocation, request).await;
        let mutated = matches!(outcome, Ok(Some(_)));
        let annotation = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated}).to_string();
        request.notices.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), annotation);
        match outcome {
            Ok(changed) => {
                metrics::asked(hook, KIND, request.operation, began, None);
                if let (Some(changed), Some(object)) = (changed, request.object.as_deref_mut()) {
                    *object = changed;
                }
                Ok(mutated)
            }
            Err(failure) => match self.judged(invocation, request, KIND, began, failure) {
                Some(status) => Err(status),
                None => {
                    request.notices.annotate(format!("failed-open.mutation.webhook.admission.k8s.io/{place}"), hook.name.clone());
                    Ok(false)
                }
            },
        }
    }

    /// The object as the webhook wants it; `None` if it is fine as it is.
    async fn changed(&self, invocation: &Invocation, request: &Request<'_>) -> Result<Option<Object>, Failure> {
        let patch = aside::elsewhere(self.ask(invocation, request, true)).await?.patch;
        if patch.is_empty() {
            return Ok(None);
        }
        let Some(object) = request.object.as_deref() else {
            return match has_operations(&patch)? {
                true => Err(Failure::Server(unchangeable(&invocation.hook.name))),
                false => Ok(None),
            };
        };
        let (shown, object, target) = (view::shown(&invocation.view, request, object), object.clone(), request.target.clone());
        let seen = invocation.view.clone();
        let computed = aside::compute(patch.len(), move || {
            if !has_operations(&patch)? {
                return Ok(None);
            }
            let (changed, _) = json_patch::apply(&patch, shown.into_value()).map_err(|status| Failure::Server(Status::internal(status.message)))?;
            let mut taken = view::taken(&seen, &target, &object, changed, false).map_err(|why| Failure::Server(why.into()))?;
            let warning = restore_owners(&object, &mut taken);
            Ok((taken != object).then_some((taken, warning)))
        });
        let Some((taken, warning)) = computed.await? else { return Ok(None) };
        warning.into_iter().for_each(|warning| request.notices.warn(warning));
        Ok(Some(taken))
    }
}

/// Whether a patch does anything at all.
fn has_operations(patch: &[u8]) -> Result<bool, Failure> {
    let undecodable = |why: String| Failure::calling(format!("received undecodable patch in webhook response: {why}"));
    match parse_value(patch, Format::Json).map_err(|error| undecodable(error.to_string()))? {
        Value::Array(operations) => Ok(!operations.is_empty()),
        Value::Null => Ok(false),
        _ => Err(undecodable("json: cannot unmarshal object into Go value of type jsonpatch.Patch".into())),
    }
}

/// Takes back what a webhook did to managedFields if nobody can read them any more; the text is for whoever writes.
fn restore_owners(before: &Object, after: &mut Object) -> Option<&'static str> {
    const PATH: [&str; 2] = ["metadata", "managedFields"];
    if after.get(&PATH) == before.get(&PATH) || ManagedFields::read(after).is_some() {
        return None;
    }
    match before.get(&PATH) {
        Some(owners) => after.set(&PATH, owners.clone()),
        None => drop(after.remove(&PATH)),
    }
    Some(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: an entry is malformed",
    )
}

fn unchangeable(webhook: &str) -> Status {
    Status::internal(format!("admission webhook {webhook:?} attempted to modify the object, which is not supported for this operation"))
}
