//! Mutating policies: one after the other, each seeing what those before it made of the object
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/mutating`, `dispatcher.go`).

use std::{
    borrow::Cow,
    mem,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    expressions::Meter,
    meta::Object,
    service::Target,
    status::{Reason, Status, StatusCause},
};

use super::{
    hooks,
    index::{Hook, Index},
    invocation::{Collected, Invocation, Step},
    metrics, patches,
    patches::Failure,
    policy::{Mutation, Policy, Rules},
};
use crate::admission::{
    Asked, Attributes, MutatingPlugin, Operation, Plugin,
    admission_request::without_objects,
    expressions::{Effort, Held, Inputs, Sequel, Shown, Stopped, hold, in_sequence},
    match_metrics::{self, Owner},
    matching::{self, Form, Matched, shown_or_same},
    resource_name::ResourceName,
    webhooks::restore_owners,
};

const NAME: &str = "MutatingAdmissionPolicy";

/// The plugin that asks mutating policies.
pub struct MutatingPolicies(Index);

impl Default for MutatingPolicies {
    fn default() -> Self {
        MutatingPolicies(Index::new("mutatingadmissionpolicies", "mutatingadmissionpolicybindings", &metrics::MUTATING))
    }
}

impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        NAME
    }

    fn operations(&self) -> &'static [Operation] {
        super::super::plugin::ALL_BUT_DELETES
    }
}

#[async_trait]
impl MutatingPlugin for MutatingPolicies {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        // Nothing is left to change of what is deleted.
        if request.operation == Operation::Delete {
            return Ok(());
        }
        let hooks = hooks(&self.0, request).await?;
        if hooks.is_empty() { Ok(()) } else { mutate(&hooks, request).await }
    }
}

async fn mutate(hooks: &[Arc<Hook>], request: &mut Attributes<'_>) -> Result<(), Status> {
    let collected = Collected::of(hooks, request).await?;
    if collected.steps.is_empty() {
        return Ok(());
    }
    let (second, asked) = (request.reinvocation.is_second(), request.take_asked(NAME));
    let requests = collected.matched.iter().map(|matched| collected.asks_request.then(|| without_objects(matched, request)));
    let (requests, collected): (Arc<[Option<Value>]>, _) = (requests.collect(), Arc::new(collected));
    let mut outcome = Outcome { object: request.object().cloned(), asked, ..Outcome::default() };
    let mut effort = Effort::of_request();
    for (steps, foreign) in groups(&collected, request) {
        let foreign = foreign.map(|at| &collected.matched[at].resource);
        let (mut object, mut old) = (outcome.object.take(), request.old.cloned());
        if let Some(ResourceName { row, version }) = foreign {
            for place in [&mut object, &mut old] {
                if let Some(own) = place.take() {
                    *place = Some(request.reads.convert(row, version, &own).await?);
                }
            }
        }
        let asked = mem::take(&mut outcome.asked);
        let (collected, requests, target) = (collected.clone(), requests.clone(), request.target.clone());
        let work = Arc::new(Work { collected, steps, requests, second, asked, target, old, object });
        let aside = work.clone();
        let step: Sequel<Outcome> = Arc::new(move |at: usize, outcome: Outcome, effort: &mut Effort| aside.step(at, outcome, effort));
        let (mut done, after) = in_sequence(effort, work.steps.clone(), |effort| work.run(effort), || (work.begun(), step)).await;
        effort = after;
        if foreign.is_some()
            && let Some(changed) = done.object.take()
        {
            done.object = Some(matching::back(request, changed).await?);
        }
        outcome.join(done);
        if outcome.failed.is_some() {
            break;
        }
    }
    for Counted { policy, binding, elapsed, error } in &outcome.counted {
        metrics::mutated(policy, binding, *elapsed, error.as_deref());
    }
    for (policy, held) in &outcome.conditions {
        match_metrics::evaluated(Owner::Policy(policy), request.operation, held);
    }
    if outcome.dirty {
        outcome.asked.object_changed();
        request.reinvocation.want();
    }
    if let Some(status) = outcome.failed {
        return Err(status);
    }
    if let Some(status) = refusal(request, &outcome.errors) {
        return Err(status);
    }
    let mut warning = None;
    if let (Some(mut changed), Some(object)) = (outcome.object.take().filter(|_| outcome.dirty), request.object_mut()) {
        warning = restore_owners(object, &mut changed);
        *object = changed;
    }
    warning.into_iter().for_each(|warning| request.notices.warn(warning));
    request.keep_asked(NAME, outcome.asked);
    Ok(())
}

/// Tells invocations apart in two rounds.
fn identity(invocation: &Invocation) -> String {
    let params = invocation.params.as_ref().map_or_else(String::new, |params| format!("{}/{}", params.namespace(), params.name()));
    format!("{}/{}/{params}", invocation.policy.name, invocation.binding.name)
}

/// The 403 of a request that policies could not change as they must.
fn refusal(request: &Attributes<'_>, errors: &[PolicyError]) -> Option<Status> {
    let first = errors.first()?;
    let mut status = request.forbidden("");
    status.message = first.text.clone();
    if first.is_invalid {
        status.reason = Reason::Invalid;
    }
    let causes = errors.iter().map(|error| StatusCause { message: error.text.clone(), ..StatusCause::default() });
    status.details.get_or_insert_default().causes.extend(causes);
    Some(status)
}

/// Steps that see the object in one version, with how they are matched where that is not the request's: then it has to be converted for
/// them and back. Only custom resources are.
fn groups(collected: &Collected, request: &Attributes<'_>) -> Vec<(Range<usize>, Option<usize>)> {
    let is_foreign = |at: &usize| {
        let Matched { resource, form, .. } = &collected.matched[*at];
        *form == Form::Whole && resource.row.versions().is_some() && resource.version != request.target.version
    };
    let mut groups: Vec<(Range<usize>, Option<usize>)> = Vec::new();
    for (at, step) in collected.steps.iter().enumerate() {
        let foreign = match step {
            Step::Ask(invocation) => Some(invocation.matched).filter(is_foreign),
            Step::Fail(_) => None,
        };
        match groups.last_mut() {
            Some((range, known)) if *known == foreign => range.end = at + 1,
            _ => groups.push((at..at + 1, foreign)),
        }
    }
    groups
}

/// Everything that policies need to change an object, whatever thread they do it on.
struct Work {
    collected: Arc<Collected>,
    /// Which steps are done.
    steps: Range<usize>,
    /// The request without objects, for each way in which it is matched.
    requests: Arc<[Option<Value>]>,
    second: bool,
    asked: Asked,
    target: Target,
    old: Option<Object>,
    object: Option<Object>,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    object: Option<Object>,
    /// A policy patched the object, even if it is as it was.
    dirty: bool,
    errors: Vec<PolicyError>,
    /// What ends the request at once.
    failed: Option<Status>,
    counted: Vec<Counted>,
    /// What came of the match conditions of policies, by their names.
    conditions: Vec<(Box<str>, Held)>,
    asked: Asked,
}

impl Outcome {
    /// With what came of the steps after it.
    fn join(&mut self, next: Outcome) {
        (self.object, self.asked, self.failed) = (next.object, next.asked, next.failed);
        self.dirty |= next.dirty;
        self.errors.extend(next.errors);
        self.counted.extend(next.counted);
        self.conditions.extend(next.conditions);
    }
}

struct PolicyError {
    text: String,
    /// Not the configuration is at fault but what the policy makes of the object.
    is_invalid: bool,
}

/// A mutation for metrics, which are told only when it is certain that the work is not done again.
struct Counted {
    policy: Box<str>,
    binding: Box<str>,
    elapsed: Duration,
    error: Option<String>,
}

impl Work {
    /// All steps at once.
    fn run(&self, effort: &mut Effort) -> Result<Outcome, Stopped> {
        let mut outcome = self.begun();
        for at in self.steps.clone() {
            outcome = self.step(at, outcome, effort)?;
        }
        Ok(outcome)
    }

    /// Before the first step.
    fn begun(&self) -> Outcome {
        Outcome { object: self.object.clone(), asked: self.asked.clone(), ..Outcome::default() }
    }

    /// One step after others; nothing more where one of them has ended the request.
    fn step(&self, at: usize, mut outcome: Outcome, effort: &mut Effort) -> Result<Outcome, Stopped> {
        match &self.collected.steps[at] {
            _ if outcome.failed.is_some() => {}
            Step::Fail(failure) => {
                let text = told(&failure.policy, failure.binding.as_ref().map(|binding| &*binding.name), &failure.message);
                outcome.errors.push(PolicyError { text, is_invalid: false });
            }
            Step::Ask(invocation) => self.ask(invocation, effort.begin(), &mut outcome)?,
        }
        Ok(outcome)
    }

    fn shown<'a>(&'a self, invocation: &Invocation, object: Option<&'a Object>) -> Shown<'a> {
        let matched = &self.collected.matched[invocation.matched];
        let same = |object: &'a Object| -> Cow<'a, Object> { shown_or_same(matched, &self.target, object) };
        Shown { object: object.map(same), old: self.old.as_ref().map(same), asked: self.requests[invocation.matched].clone() }
    }

    fn ask(&self, invocation: &Invocation, meter: &mut Meter, outcome: &mut Outcome) -> Result<(), Stopped> {
        let (policy, identity) = (&invocation.policy, identity(invocation));
        let applies = self.applies(invocation, meter, outcome)?;
        let is_skipped = self.second && !outcome.asked.is_outdated(&identity);
        let Rules::Mutating { mutations, .. } = &policy.rules else { return Ok(()) };
        if !applies || is_skipped {
            return Ok(());
        }
        let mut changed = false;
        for mutation in mutations {
            let Some(object) = outcome.object.take() else { break };
            let began = Instant::now();
            let (object, error) = match self.patched(invocation, mutation, &object, meter) {
                Ok(new) => {
                    changed |= new != object;
                    outcome.dirty = true;
                    (new, None)
                }
                Err(Failure::TooLong) => return Err(Stopped::TooLong),
                Err(Failure::Message(why)) => {
                    fail(invocation, &why, outcome);
                    (object, Some(why))
                }
                Err(Failure::Status(status)) => {
                    let why = status.message.clone();
                    outcome.failed = Some(*status);
                    (object, Some(why))
                }
            };
            outcome.object = Some(object);
            let (policy, binding) = (policy.name.clone(), invocation.binding.name.clone());
            outcome.counted.push(Counted { policy, binding, elapsed: began.elapsed(), error });
            if outcome.failed.is_some() {
                return Ok(());
            }
        }
        if changed {
            outcome.asked.object_changed();
        }
        if policy.is_reinvoked() {
            outcome.asked.add(&identity);
        }
        Ok(())
    }

    fn patched(&self, invocation: &Invocation, mutation: &Mutation, object: &Object, meter: &mut Meter) -> Result<Object, Failure> {
        let shown = self.shown(invocation, Some(object));
        let (namespace, access) = (self.collected.namespace.as_ref(), self.collected.access.as_ref());
        let inputs = Inputs { shown: &shown, namespace, params: invocation.params.as_ref(), access };
        let matched = &self.collected.matched[invocation.matched];
        patches::patched(mutation, invocation.policy.surroundings(), inputs, matched, &self.target, object, meter)
    }

    /// Whether the policy's conditions hold.
    fn applies(&self, invocation: &Invocation, meter: &mut Meter, outcome: &mut Outcome) -> Result<bool, Stopped> {
        let policy = &invocation.policy;
        if policy.conditions.is_empty() {
            return Ok(true);
        }
        let shown = self.shown(invocation, outcome.object.as_ref());
        let inputs = Inputs { shown: &shown, namespace: None, params: invocation.params.as_ref(), access: self.collected.access.as_ref() };
        let held = hold(&policy.conditions, inputs, policy.surroundings(), meter)?;
        drop(shown);
        let holds = held.holds.clone();
        outcome.conditions.push((policy.name.clone(), held));
        Ok(holds.unwrap_or_else(|why| {
            fail(invocation, &why, outcome);
            false
        }))
    }
}

/// Notes a failure that counts.
fn fail(invocation: &Invocation, why: &str, outcome: &mut Outcome) {
    let policy = &invocation.policy;
    if !policy.ignores_failure {
        outcome.errors.push(PolicyError { text: told(policy, Some(&invocation.binding.name), why), is_invalid: true });
    }
}

fn told(policy: &Policy, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{}' with binding '{binding}' denied request: {why}", policy.name),
        None => format!("policy {:?} denied request: {why}", policy.name),
    }
}
