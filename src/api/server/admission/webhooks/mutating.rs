//! Mutating webhooks: one after the other, each seeing what those before it made of the object.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    aside,
    meta::Object,
    patch::{json as json_patch, ownership::ManagedFields},
    schema::{Format, decode::parse_value},
    status::Status,
};

use super::{Webhooks, annotations, configuration::Hook, failure::Failure, invocation::Invocation, metrics};
use crate::admission::{Attributes, MutatingPlugin, Plugin, matching};

/// What metrics call them.
pub(super) const KIND: &str = "admit";

/// The name of the plugin.
const NAME: &str = "MutatingAdmissionWebhook";

/// The plugin that asks mutating webhooks.
pub struct MutatingWebhooks(pub(super) Webhooks);

impl Plugin for MutatingWebhooks {
    fn name(&self) -> &'static str {
        NAME
    }
}

#[async_trait]
impl MutatingPlugin for MutatingWebhooks {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        let hooks = self.0.hooks(request)?;
        if hooks.is_empty() { Ok(()) } else { self.0.mutate(&hooks, request).await }
    }
}

impl Webhooks {
    /// Lets the webhooks change the object.
    ///
    /// # Errors
    /// When one refuses, or fails and that counts.
    async fn mutate(&self, hooks: &[Arc<Hook>], request: &mut Attributes<'_>) -> Result<(), Status> {
        let (second, mut asked) = (request.reinvocation.is_second(), request.take_asked(NAME));
        for (index, hook) in hooks.iter().enumerate() {
            let Some(invocation) = Invocation::of(hook, KIND, request).await? else { continue };
            if second && !asked.is_outdated(&hook.id) {
                continue;
            }
            let place = format!("round_{}_index_{index}", u8::from(second));
            if self.mutate_by(&invocation, request, &place).await? {
                asked.object_changed();
                request.reinvocation.want();
            }
            if hook.reinvoked {
                asked.add(&hook.id);
            }
        }
        request.keep_asked(NAME, asked);
        Ok(())
    }

    /// Whether the webhook changed the object.
    async fn mutate_by(&self, invocation: &Invocation, request: &mut Attributes<'_>, place: &str) -> Result<bool, Status> {
        let (hook, began) = (&invocation.hook, Instant::now());
        let outcome = self.changed(invocation, request, place).await;
        let mutated = matches!(outcome, Ok(Some(_)));
        request.notices.annotate(format!("{}{place}", annotations::MUTATION), annotations::mutation(hook, mutated));
        match outcome {
            Ok(changed) => {
                metrics::asked(hook, KIND, request.operation, began, None);
                if let (Some(changed), Some(object)) = (changed, request.object_mut()) {
                    *object = changed;
                }
                Ok(mutated)
            }
            Err(failure) => match self.judged(invocation, request, KIND, began, failure) {
                Some(status) => Err(status),
                None => {
                    request.notices.annotate(format!("{}{place}", annotations::FAILED_OPEN), hook.name.clone());
                    Ok(false)
                }
            },
        }
    }

    /// The object as the webhook wants it; `None` if it is fine as it is.
    async fn changed(&self, invocation: &Invocation, request: &Attributes<'_>, place: &str) -> Result<Option<Object>, Failure> {
        let patch = aside::elsewhere(self.ask(invocation, request, true)).await?.patch;
        if patch.is_empty() {
            return Ok(None);
        }
        let Some(object) = request.object() else {
            return match operations(&patch)?.is_some() {
                true => Err(Failure::Server(unchangeable(&invocation.hook.name))),
                false => Ok(None),
            };
        };
        let (shown, object, target) = (matching::shown(&invocation.matched, request, object), object.clone(), request.target.clone());
        let (invocation, is_told) = (invocation.clone(), request.notices.records_requests());
        let computed = aside::compute(patch.len(), move || {
            let Some(operations) = operations(&patch)? else { return Ok(None) };
            let told = is_told.then(|| annotations::patch(&invocation.hook, &operations));
            let applied = json_patch::apply_operations(operations, shown.into_value());
            let changed = applied.map_err(|why| Failure::Server(Status::internal(why)))?;
            let taken = matching::taken(&invocation.matched, &target, &object, changed).map_err(Failure::Server)?;
            Ok(Some((taken, object, told)))
        });
        let Some((taken, object, told)) = computed.await? else { return Ok(None) };
        if let Some(told) = told {
            request.notices.annotate(format!("{}{place}", annotations::PATCH), told);
        }
        let mut taken = matching::back(request, taken).await.map_err(Failure::Server)?;
        let warning = restore_owners(&object, &mut taken);
        if taken == object {
            return Ok(None);
        }
        warning.into_iter().for_each(|warning| request.notices.warn(warning));
        Ok(Some(taken))
    }
}

/// The operations of a patch; `None` where it does nothing at all.
fn operations(patch: &[u8]) -> Result<Option<Vec<Value>>, Failure> {
    let undecodable = |why: String| Failure::calling(format!("received undecodable patch in webhook response: {why}"));
    match parse_value(patch, Format::Json).map_err(|error| undecodable(error.to_string()))? {
        Value::Array(operations) => Ok(Some(operations).filter(|operations| !operations.is_empty())),
        Value::Null => Ok(None),
        _ => Err(undecodable("json: cannot unmarshal object into Go value of type jsonpatch.Patch".into())),
    }
}

/// Takes back what a webhook did to managedFields if nobody can read them any more; the text is for whoever writes.
pub fn restore_owners(before: &Object, after: &mut Object) -> Option<&'static str> {
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
