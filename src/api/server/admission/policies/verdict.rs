//! What a validating policy says of a request (`k8s.io/apiserver/pkg/admission/plugin/policy/validating`, `validator.go`). Pure.

use std::time::{Duration, Instant};

use troupe_api::expressions::{Meter, Val};

use super::policy::{Annotation, Policy, Rules, Validation};
use crate::admission::expressions::{Activation, Held, Inputs, Stopped, hold};

/// What the validations of a policy may cost together, with their messages; and its annotations (`RuntimeCELCostBudget`).
pub const MOST: u64 = 10_000_000;
/// The longest message that an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 << 10;

/// How an expression ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    Admit,
    Deny,
    Error,
}

/// What follows from a validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub evaluation: Evaluation,
    /// Whether the request is fine as far as this goes.
    pub admits: bool,
    pub message: String,
    /// Why it is refused, as a Status has it; `Invalid` where nothing is said.
    pub reason: Option<Box<str>>,
    pub elapsed: Duration,
}

/// An annotation for the audit event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotated {
    Publish { key: Box<str>, value: String },
    Failed { message: String, elapsed: Duration },
}

/// Everything that a policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub decisions: Vec<Decision>,
    pub annotations: Vec<Annotated>,
    /// What came of its match conditions, if it has any.
    pub conditions: Option<Held>,
}

impl Said {
    /// Of a policy that fails as a whole.
    fn failed(policy: &Policy, message: String) -> Self {
        let decision = Decision { evaluation: Evaluation::Error, admits: policy.ignores_failure, message, reason: None, elapsed: Duration::ZERO };
        Said { decisions: vec![decision], ..Said::default() }
    }
}

/// Asks a policy.
///
/// # Errors
/// It takes too long for this thread.
pub fn verdict(policy: &Policy, inputs: Inputs<'_>, meter: &mut Meter) -> Result<Said, Stopped> {
    let Rules::Validating { validations, annotations } = &policy.rules else { return Ok(Said::default()) };
    let mut conditions = None;
    if !policy.conditions.is_empty() {
        let held = hold(&policy.conditions, Inputs { namespace: None, ..inputs }, policy.surroundings(), meter)?;
        let said = match &held.holds {
            Ok(true) => None,
            Err(why) if !policy.ignores_failure => Some(Said::failed(policy, why.clone())),
            Ok(false) | Err(_) => Some(Said::default()),
        };
        conditions = Some(held);
        if let Some(said) = said {
            return Ok(Said { conditions, ..said });
        }
    }
    let said = match judged(policy, validations, inputs, meter) {
        Ok(decisions) => annotated(policy, annotations, inputs, meter).map(|annotations| Said { decisions, annotations, conditions: None }),
        Err(stopped) => Err(stopped),
    };
    match said {
        Ok(said) => Ok(Said { conditions, ..said }),
        Err(Stopped::Budget) => Ok(Said { conditions, ..Said::failed(policy, Stopped::OUT_OF_BUDGET.to_owned()) }),
        Err(stopped) => Err(stopped),
    }
}

/// What became of a validation: whether it holds, or why nobody knows.
type Validated = (Result<bool, String>, Duration);

fn judged(policy: &Policy, validations: &[Validation], inputs: Inputs<'_>, meter: &mut Meter) -> Result<Vec<Decision>, Stopped> {
    let mut budget = MOST;
    let activation = Activation::new(inputs, policy.surroundings(), meter);
    let mut held: Vec<Validated> = Vec::with_capacity(validations.len());
    for validation in validations {
        let began = Instant::now();
        let value = activation.evaluate(&validation.expression, meter, &mut budget)?;
        held.push((value.map(|value| matches!(value, Val::Bool(true))), began.elapsed()));
    }
    drop(activation);
    // Messages are made only where one is wanted.
    let messages = match held.iter().any(|(holds, _)| *holds == Ok(false)) {
        true => match messages(policy, validations, inputs, meter, &mut budget) {
            Err(Stopped::TooLong) => return Err(Stopped::TooLong),
            messages => messages.ok(),
        },
        false => Some(Vec::new()),
    };
    let decision = |(at, (holds, elapsed)): (usize, Validated)| {
        let (evaluation, message) = match (holds, &messages) {
            (Err(why), _) => (Evaluation::Error, why),
            (_, None) => (Evaluation::Error, format!("failed messageExpression: {}", Stopped::OUT_OF_BUDGET)),
            (Ok(true), _) => (Evaluation::Admit, String::new()),
            (Ok(false), Some(messages)) => (Evaluation::Deny, message(&validations[at], messages.get(at).cloned().flatten())),
        };
        let admits = evaluation == Evaluation::Admit || evaluation == Evaluation::Error && policy.ignores_failure;
        let reason = if evaluation == Evaluation::Deny { validations[at].reason.clone() } else { None };
        Decision { evaluation, admits, message, reason, elapsed }
    };
    Ok(held.into_iter().enumerate().map(decision).collect())
}

/// The messages that expressions make; `None` where one makes none that can be shown.
fn messages(
    policy: &Policy,
    validations: &[Validation],
    inputs: Inputs<'_>,
    meter: &mut Meter,
    budget: &mut u64,
) -> Result<Vec<Option<String>>, Stopped> {
    let activation = Activation::new(Inputs { access: None, ..inputs }, policy.surroundings(), meter);
    let mut messages = Vec::with_capacity(validations.len());
    for validation in validations {
        let Some(expression) = &validation.message_expression else {
            messages.push(None);
            continue;
        };
        let made = match activation.evaluate(expression, meter, budget)? {
            Ok(Val::String(text)) => Some(text.trim().to_owned()),
            _ => None,
        };
        messages.push(made.filter(|text| text.len() <= LONGEST_MESSAGE && !text.contains('\n')));
    }
    Ok(messages)
}

fn message(validation: &Validation, made: Option<String>) -> String {
    let written = || Some(validation.message.trim().to_owned()).filter(|text| !text.is_empty());
    let made = made.filter(|text| !text.is_empty()).or_else(written);
    made.unwrap_or_else(|| format!("failed expression: {}", validation.expression.text().trim()))
}

fn annotated(policy: &Policy, annotations: &[Annotation], inputs: Inputs<'_>, meter: &mut Meter) -> Result<Vec<Annotated>, Stopped> {
    if annotations.is_empty() {
        return Ok(Vec::new());
    }
    let (activation, mut budget) = (Activation::new(inputs, policy.surroundings(), meter), MOST);
    let mut said = Vec::new();
    for annotation in annotations {
        let began = Instant::now();
        match activation.evaluate(&annotation.value, meter, &mut budget)? {
            Ok(Val::String(text)) if !text.trim().is_empty() => {
                said.push(Annotated::Publish { key: annotation.key.clone(), value: text.trim().to_owned() });
            }
            Ok(Val::String(_) | Val::Null) => {}
            Ok(other) => {
                let (text, found) = (annotation.value.text(), other.type_name());
                let message =
                    format!("valueExpression '{text}' resulted in unsupported return type: {found}. Return type must be either string or null.");
                said.push(Annotated::Failed { message, elapsed: began.elapsed() });
            }
            Err(_) if policy.ignores_failure => {}
            Err(message) => said.push(Annotated::Failed { message, elapsed: began.elapsed() }),
        }
    }
    Ok(said)
}
