//! Rules in the expression language: that they compile, and what they may cost
//! (`apiextensions-apiserver/pkg/apis/apiextensions/validation`).

use std::sync::Arc;

use serde_json::Value;

use super::is_enough;
use crate::{
    expressions::{Declaration, Failure, Program, Type, escape},
    resources::{
        custom::validations::{declaration, environment},
        tree::{at, flag, is_empty, text},
        validation::Field,
    },
    status::{FieldError, FieldErrorKind},
};

/// What one rule may cost, wherever it is evaluated in an object.
const MOST_PER_RULE: u64 = 10_000_000;
/// What all rules of a schema may cost.
const MOST_TOGETHER: u64 = 100_000_000;
/// The largest request that upstream takes, in bytes.
const LARGEST: u64 = 3 << 20;
/// How many of the most expensive rules are named.
const MOST_NAMED: usize = 4;

/// Checks the rules of a schema that is right in every other way.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    if !has_rules(schema.value) {
        return;
    }
    let mut costs = Costs::default();
    let declared = declaration(schema.value, true, "selfType");
    let place = Place { declared: declared.as_ref(), times: Some(1), uncorrelated: None };
    visit(errors, schema, place, &mut costs);
    if costs.total > MOST_TOGETHER {
        costs.named.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        errors.extend(costs.named.into_iter().take(MOST_NAMED).map(|(path, _)| FieldError::forbidden(path, detail)));
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(schema.forbidden(too_expensive(what, costs.total, MOST_TOGETHER)));
    }
}

/// Whether a schema, or one within it, has rules.
fn has_rules(schema: &Value) -> bool {
    let is_set = !is_empty(schema, &["x-kubernetes-validations"]);
    let inner = ["items", "additionalProperties"].into_iter().map(|name| at(schema, &[name]));
    let properties = at(schema, &["properties"]).as_object().into_iter().flat_map(|fields| fields.values());
    is_set || inner.chain(properties).any(|inner| inner.is_object() && has_rules(inner))
}

#[derive(Default)]
struct Costs {
    total: u64,
    /// Rules that are at least a hundredth of what all may cost.
    named: Vec<(String, u64)>,
}

impl Costs {
    fn add(&mut self, path: &Field<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= MOST_TOGETHER / 100 {
            self.named.push((path.to_string(), cost));
        }
    }
}

/// Where in an object a schema applies.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// What expressions see there.
    declared: Option<&'a Declaration>,
    /// How often it may be there; `None` where nothing bounds it.
    times: Option<u64>,
    /// The schema within which old and new values cannot be told to be the same.
    uncorrelated: Option<&'a str>,
}

fn visit(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: Place<'_>, costs: &mut Costs) {
    if is_enough(errors) || !has_rules(schema.value) {
        return;
    }
    let times = place.times.and_then(|times| Some(times.saturating_mul(most_within(schema.value)?)));
    let element = place.declared.and_then(Declaration::element);
    let own_path = schema.to_string();
    let values = schema.child("additionalProperties");
    if values.value.is_object() {
        visit(errors, &values, Place { declared: element, times, ..place }, costs);
    }
    let properties = schema.child("properties");
    for (name, property) in properties.entries() {
        // A field that expressions cannot name is a place of its own.
        let unnamed = if escape(name).is_none() { nested(property.value) } else { None };
        let named = escape(name).and_then(|name| place.declared?.fields()?.fields.get(&*name)).map(|field| &field.declaration);
        visit(errors, &property, Place { declared: named.or(unnamed.as_ref()), times, ..place }, costs);
    }
    let items = schema.child("items");
    if items.value.is_object() {
        let correlates = text(schema.value, &["x-kubernetes-list-type"]) == "map";
        let uncorrelated = if correlates { place.uncorrelated } else { place.uncorrelated.or(Some(&*own_path)) };
        visit(errors, &items, Place { declared: element, times, uncorrelated }, costs);
    }
    own(errors, schema, place, costs);
}

fn nested(schema: &Value) -> Option<Declaration> {
    declaration(schema, flag(schema, &["x-kubernetes-embedded-resource"]), "selfType")
}

/// How many values stand below one; `None` where nothing bounds them.
fn most_within(schema: &Value) -> Option<u64> {
    let bound = |field: &str| at(schema, &[field]).as_i64().map(|most| u64::try_from(most).unwrap_or(0));
    match text(schema, &["type"]) {
        "object" if !at(schema, &["additionalProperties"]).is_null() => bound("maxProperties"),
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}

fn own(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: Place<'_>, costs: &mut Costs) {
    let rules = schema.child("x-kubernetes-validations");
    if rules.items().is_empty() {
        return;
    }
    let Some(declared) = place.declared else {
        let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural \
                      schema to CEL declarations";
        errors.push(FieldError { kind: FieldErrorKind::Internal, field: rules.to_string(), value: None, detail: detail.to_owned() });
        return;
    };
    let declared = Arc::new(declared.clone());
    let times = place.times.unwrap_or(LARGEST / (declared.least + 1));
    for rule in rules.each() {
        one(errors, &rule, &declared, times, place.uncorrelated, costs);
    }
}

fn one(errors: &mut Vec<FieldError>, rule: &Field<'_>, declared: &Arc<Declaration>, times: u64, uncorrelated: Option<&str>, costs: &mut Costs) {
    let environment = environment(declared, flag(rule.value, &["optionalOldSelf"]));
    let (expression, optional_old) = (rule.child("rule"), rule.child("optionalOldSelf"));
    let shown = Shown(rule);
    let program = match Program::compile(expression.text(), &Type::Bool, &environment) {
        Ok(program) => program,
        Err(failure) => {
            errors.push(shown.invalid(
                &expression,
                match failure {
                    Failure::Compilation(why) => format!("compilation failed: {why}"),
                    Failure::WrongType(_) => "cel expression must evaluate to a bool".to_owned(),
                    Failure::Instantiation(why) => why,
                },
            ));
            return;
        }
    };
    let cost = program.cost.most.saturating_mul(times);
    if cost > MOST_PER_RULE {
        errors.push(expression.forbidden(too_expensive("estimated rule cost", cost, MOST_PER_RULE)));
    }
    costs.add(&expression, cost);
    let message = rule.child("messageExpression");
    if !message.text().is_empty() {
        match Program::compile(message.text(), &Type::String, &environment) {
            Ok(program) => {
                let cost = program.cost.most;
                if cost > MOST_PER_RULE {
                    errors.push(message.forbidden(too_expensive("estimated messageExpression cost", cost, MOST_PER_RULE)));
                }
                costs.add(&message, cost);
            }
            Err(Failure::Instantiation(why)) => errors.push(shown.invalid(&message, why.replacen("program", "messageExpression", 1))),
            Err(Failure::Compilation(why)) => errors.push(shown.invalid(&message, format!("messageExpression compilation failed: {why}"))),
            Err(Failure::WrongType(_)) => errors.push(shown.invalid(&message, "messageExpression must evaluate to a string".to_owned())),
        }
    }
    match (program.uses(1), uncorrelated) {
        (true, Some(path)) => {
            errors.push(expression.invalid(format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {path}")))
        }
        (false, _) if optional_old.is_set() => errors.push(optional_old.invalid("may not be set if oldSelf is not used in rule")),
        _ => {}
    }
}

/// A rule as upstream shows it in errors.
struct Shown<'a>(&'a Field<'a>);

impl Shown<'_> {
    fn invalid(&self, field: &Field<'_>, detail: String) -> FieldError {
        let part = |name: &str| Value::from(at(self.0.value, &[name]).as_str().unwrap_or(""));
        let or_null = |name: &str| at(self.0.value, &[name]).clone();
        let value = format!(
            "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
            part("rule"),
            part("message"),
            part("messageExpression"),
            or_null("reason"),
            part("fieldPath"),
            or_null("optionalOldSelf"),
        );
        FieldError { kind: FieldErrorKind::Invalid, field: field.to_string(), value: Some(value), detail }
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, \
         maps, and strings are declared)"
    )
}
