//! From a schema as it was written to its rules.

use std::sync::Arc;

use serde_json::Value;

use super::{Place, Rule, declare};
use crate::{
    expressions::{Declaration, Environment, Failure, Program, Type, escape},
    resources::{
        custom::paths,
        tree::{at, flag, items, text},
    },
    status::FieldErrorKind,
};

/// The position of `oldSelf` among the variables.
const OLD: usize = 1;

/// What rules may name: the value, and the old one.
pub fn environment(declaration: &Arc<Declaration>, optional_old: bool) -> Environment {
    let environment = Environment::default().with("self", declaration.clone());
    if optional_old { environment.with_optional("oldSelf", declaration.clone()) } else { environment.with("oldSelf", declaration.clone()) }
}

/// The rules of `rules`, a schema or one within `allOf`, for values that `schema` describes. Adds to `cost` what they may cost, where values
/// stand `times` times. `None` where there are none.
pub(super) fn place(rules: &Value, schema: &Value, declared: Option<&Declaration>, times: u64, cost: &mut u64) -> Option<Place> {
    let declaration = declared.cloned().map(Arc::new);
    let compiled = own(rules, schema, declaration.as_ref(), times, cost);
    let element = declared.and_then(Declaration::element);
    let inner = |field: &str, times: u64, cost: &mut u64| {
        let (rules, schema) = (at(rules, &[field]), at(schema, &[field]));
        let both = rules.is_object() && schema.is_object();
        both.then(|| place(rules, schema, element, times, cost)).flatten().map(Box::new)
    };
    let each = times.saturating_mul(declared.map_or(1, |declared| declared.most.max(1)));
    let (items, values) = (inner("items", each, cost), inner("additionalProperties", each, cost));
    let mut properties = Vec::new();
    for (name, property) in at(rules, &["properties"]).as_object().into_iter().flatten() {
        let spine = at(schema, &["properties", name]);
        if !spine.is_object() {
            continue;
        }
        let field = match escape(name) {
            Some(escaped) => {
                declared.and_then(|declared| declared.fields()).and_then(|fields| fields.fields.get(&*escaped)).map(|f| f.declaration.clone())
            }
            None => declare::declaration(spine, flag(spine, &["x-kubernetes-embedded-resource"]), "self"),
        };
        // What expressions do not see has no rules.
        let Some(field) = field else { continue };
        if let Some(place) = place(property, spine, Some(&field), times, cost) {
            properties.push((name.as_str().into(), place));
        }
    }
    properties.sort_by(|(a, _): &(Box<str>, Place), (b, _)| a.cmp(b));
    let all = self::items(rules, &["allOf"]).iter().filter_map(|one| place(one, schema, declared, times, cost)).collect::<Vec<_>>();
    if compiled.is_empty() && items.is_none() && values.is_none() && properties.is_empty() && all.is_empty() {
        return None;
    }
    let keys = (text(schema, &["x-kubernetes-list-type"]) == "map")
        .then(|| self::items(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).map(Box::from).collect());
    Some(Place { rules: compiled, kind: text(schema, &["type"]).into(), declaration, properties, values, items, keys, all })
}

fn own(rules: &Value, schema: &Value, declaration: Option<&Arc<Declaration>>, times: u64, cost: &mut u64) -> Vec<Rule> {
    let Some(declaration) = declaration else { return Vec::new() };
    let written = items(rules, &["x-kubernetes-validations"]).iter().filter(|rule| !text(rule, &["rule"]).trim().is_empty());
    let compiled: Vec<Rule> = written.map(|written| rule(written, schema, declaration)).collect();
    for program in compiled.iter().filter_map(|rule| rule.program.as_ref().ok()) {
        *cost = cost.saturating_add(program.cost.most.saturating_mul(times));
    }
    compiled
}

fn rule(written: &Value, schema: &Value, declaration: &Arc<Declaration>) -> Rule {
    let optional_old = flag(written, &["optionalOldSelf"]);
    let environment = environment(declaration, optional_old);
    let program = Program::compile(text(written, &["rule"]), &Type::Bool, &environment).map_err(|failure| match failure {
        Failure::Compilation(why) => format!("compilation failed: {why}"),
        Failure::WrongType(_) => "cel expression must evaluate to a bool".to_owned(),
        Failure::Instantiation(why) => why,
    });
    let (message, message_expression) = (text(written, &["message"]), text(written, &["messageExpression"]));
    let message_program = Some(message_expression).filter(|text| !text.is_empty());
    let shown = if message.is_empty() { text(written, &["rule"]) } else { message }.trim();
    Rule {
        uses_old: program.as_ref().is_ok_and(|program| program.uses(OLD)),
        program,
        message_program: message_program.and_then(|text| Program::compile(text, &Type::String, &environment).ok()),
        message_expression: message_expression.into(),
        message: message.trim().into(),
        shown: shown.into(),
        reason: match text(written, &["reason"]) {
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            _ => FieldErrorKind::Invalid,
        },
        field_path: field_path(text(written, &["fieldPath"]), schema).into(),
        optional_old,
    }
}

/// A path below the rule, as errors write it.
fn field_path(path: &str, schema: &Value) -> String {
    paths::resolve(path, schema, true).map_or_else(|_| String::new(), |found| found.names.join("."))
}
