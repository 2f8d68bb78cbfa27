//! Match conditions of webhooks and policies (`k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions`).

use std::time::{Duration, Instant};

use serde_json::Value;
use troupe_api::{
    expressions::{Meter, Val},
    resources::{
        tree::text,
        validation::admission::environment::{Compiler, Wanted},
    },
};

use super::{Activation, Expression, Inputs, Stopped, Surroundings};

/// What all conditions of a webhook or a policy may cost together.
const MOST: u64 = 2_500_000;

/// A compiled condition. One that does not compile fails whenever it is evaluated; validation lets none in.
#[derive(Debug)]
pub struct Condition(pub Expression);

impl Condition {
    pub fn read(condition: &Value, compiler: &mut Compiler) -> Self {
        Condition(Expression::compile(text(condition, &["expression"]), compiler, Wanted::Condition))
    }
}

/// What came of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whether all hold, or why nobody knows in upstream's words.
    pub holds: Result<bool, String>,
    /// How many could not be evaluated.
    pub failures: usize,
    pub elapsed: Duration,
}

/// Whether all conditions hold. One that does not hold decides; else those that cannot be evaluated do.
///
/// # Errors
/// Evaluation takes too long for this thread.
pub fn hold(conditions: &[Condition], inputs: Inputs<'_>, around: Surroundings<'_>, meter: &mut Meter) -> Result<Held, Stopped> {
    let began = Instant::now();
    let (holds, failures) = judged(conditions, inputs, around, meter)?;
    Ok(Held { holds, failures, elapsed: began.elapsed() })
}

fn judged(
    conditions: &[Condition],
    inputs: Inputs<'_>,
    around: Surroundings<'_>,
    meter: &mut Meter,
) -> Result<(Result<bool, String>, usize), Stopped> {
    let activation = Activation::new(inputs, around, meter);
    let (mut budget, mut failures, mut all) = (MOST, Vec::new(), true);
    for condition in conditions {
        match activation.evaluate(&condition.0, meter, &mut budget) {
            Ok(Ok(Val::Bool(true))) => {}
            Ok(Ok(Val::Bool(false))) => all = false,
            Ok(Ok(_)) => failures.push("cel expression must evaluate to a bool".to_owned()),
            Ok(Err(why)) => failures.push(why),
            Err(Stopped::Budget) => return Ok((Err(Stopped::OUT_OF_BUDGET.to_owned()), 0)),
            Err(Stopped::TooLong) => return Err(Stopped::TooLong),
        }
        if !all {
            return Ok((Ok(false), failures.len()));
        }
    }
    let holds = match &*failures {
        [] => Ok(true),
        [only] => Err(only.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    };
    Ok((holds, failures.len()))
}
