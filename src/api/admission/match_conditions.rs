//! Match conditions: expressions that must hold for a webhook or a policy to be asked
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions`).

use std::sync::Arc;

use serde_json::Value;

use super::{Attributes, admission_request::admission_request, matching::Matched};
use crate::{
    aside,
    expressions::{Fault, Meter, Program, Val, from_json},
    resources::{
        tree::text,
        validation::admission::match_conditions::{ENVIRONMENT, compile},
    },
};

/// What one condition may cost, and all together (`k8s.io/apiserver/pkg/apis/cel`).
const MOST_PER_CONDITION: u64 = 1_000_000;
const MOST_TOGETHER: u64 = 2_500_000;
/// What may cost more is evaluated aside.
const CHEAP: u64 = 20_000;

/// A compiled condition. One that does not compile fails whenever it is evaluated; validation lets none in.
#[derive(Debug)]
pub struct Condition {
    expression: Box<str>,
    program: Result<Program, String>,
}

impl Condition {
    pub fn read(condition: &Value) -> Self {
        let expression = text(condition, &["expression"]);
        Condition { expression: expression.into(), program: compile(expression) }
    }

    fn evaluate<'a>(&'a self, variables: &[Option<Val<'a>>], meter: &mut Meter) -> Result<bool, String> {
        let fails = |why: &str| format!("expression '{}' resulted in error: {why}", self.expression);
        let program = self.program.as_ref().map_err(|why| fails(why))?;
        meter.begin();
        match program.evaluate(variables, meter) {
            Ok(Val::Bool(holds)) => Ok(holds),
            Ok(_) => Err(fails("cel expression must evaluate to a bool")),
            Err(fault) => Err(fails(fault.text())),
        }
    }
}

/// Whether all conditions hold. One that does not hold decides, whatever becomes of the others; else one that cannot be evaluated is an
/// error in upstream's words.
pub async fn hold(conditions: &Arc<[Condition]>, matched: &Matched, request: &Attributes<'_>) -> Result<bool, String> {
    if conditions.is_empty() {
        return Ok(true);
    }
    let asked = admission_request(matched, request, "");
    let dear = conditions.iter().filter_map(|condition| condition.program.as_ref().ok()).any(|program| program.cost.most > CHEAP);
    let conditions = conditions.clone();
    aside::compute(if dear { aside::SMALL + 1 } else { 0 }, move || judge(&conditions, &asked)).await
}

fn judge(conditions: &[Condition], asked: &Value) -> Result<bool, String> {
    let [object, old, request] = [0, 1, 2].map(|at| &*ENVIRONMENT.variables[at].declaration);
    let value = |value, declaration| from_json(value, declaration).map(Some);
    let read = |fault: Fault| fault.text().to_owned();
    let variables =
        [value(&asked["object"], object).map_err(read)?, value(&asked["oldObject"], old).map_err(read)?, value(asked, request).map_err(read)?];
    let (mut meter, mut spent, mut failures) = (Meter::new(MOST_PER_CONDITION), 0, Vec::new());
    for condition in conditions {
        if spent > MOST_TOGETHER {
            failures.push("validation failed due to running out of cost budget, no further validation rules will be run".to_owned());
            break;
        }
        match condition.evaluate(&variables, &mut meter) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => failures.push(why),
        }
        spent += meter.spent();
    }
    match &*failures {
        [] => Ok(true),
        [only] => Err(only.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(expressions: &[&str]) -> Result<bool, String> {
        let conditions: Vec<Condition> = expressions.iter().map(|text| Condition::read(&json!({"name": "c", "expression": text}))).collect();
        let asked = json!({
            "operation": "CREATE", "name": "a", "namespace": "n", "dryRun": false, "resource": {"group": "", "version": "v1", "resource": "configmaps"},
            "userInfo": {"username": "ann", "groups": ["g"]}, "object": {"metadata": {"name": "a", "labels": {"x": "y"}}}, "oldObject": null,
        });
        judge(&conditions, &asked)
    }

    #[test]
    fn conditions_are_of_the_object_and_the_request() {
        for (expressions, want) in [
            (&["object.metadata.name == 'a'"][..], Ok(true)),
            (&["object.metadata.labels.x != 'y'"], Ok(false)),
            (&["oldObject == null", "request.operation == 'CREATE'", "'g' in request.userInfo.groups", "!request.dryRun"], Ok(true)),
            (&["request.resource.resource == 'pods'"], Ok(false)),
            (&["has(request.subResource)"], Ok(false)),
            (&["object.metadata.gone == 'x'"], Err("expression 'object.metadata.gone == 'x'' resulted in error: no such key: gone")),
            (&["object.metadata.gone == 'x'", "false"], Ok(false)),
        ] {
            assert_eq!(judged(expressions), want.map_err(str::to_owned), "{expressions:?}");
        }
    }
}
