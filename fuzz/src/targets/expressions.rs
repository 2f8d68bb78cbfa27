//! Expressions of the API's language, and the documents that they are evaluated against.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::{Value, json};
use troupe_api::{
    expressions::{Environment, Meter, Program, Type, from_json},
    resources::custom::validations,
};

use crate::budget;

/// What one evaluation may cost, as for rules of definitions.
const MOST: u64 = 1_000_000;
/// The longest that compiling and evaluating may take together, a hundred times what it takes on an idle machine.
const LONGEST: Duration = Duration::from_secs(10);

/// A variable with a field of every type.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "f": {"type": "number"}, "s": text, "b": {"type": "boolean"}, "bytes": {"type": "string", "format": "byte"},
        "d": {"type": "string", "format": "duration"}, "t": {"type": "string", "format": "date-time"}, "e": {"x-kubernetes-int-or-string": true},
        "l": {"type": "array", "items": {"type": "integer", "nullable": true}}, "m": {"type": "object", "additionalProperties": text},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
            "type": "object", "properties": {"k": text, "v": {"type": "array", "items": text}}}},
        "o": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": text, "x-y": text}},
    }});
    let declared = validations::declaration(&schema, true, "self").expect("a schema of an object");
    Environment::default().with("self", Arc::new(declared))
});

/// An expression, a zero byte, and a document. Neither may end it all, and both have an end.
pub fn expressions(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else { return };
    let document: Value = parts.next().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_else(|| json!({}));
    let begun = budget::processor_time();
    for wanted in [Type::Bool, Type::String] {
        let Ok(program) = Program::compile(text, &wanted, &ENVIRONMENT) else { continue };
        assert!(program.cost.least <= program.cost.most, "{text:?} costs {:?}", program.cost);
        let declaration = &ENVIRONMENT.variables[0].declaration;
        let Ok(value) = from_json(&document, declaration) else { continue };
        let mut meter = Meter::new(MOST);
        let first = program.evaluate(&[Some(value.clone())], &mut meter);
        let spent = meter.spent();
        let mut another = Meter::new(MOST);
        let again = program.evaluate(&[Some(value)], &mut another);
        assert!(first.is_ok() == again.is_ok() && spent == another.spent(), "{text:?} comes to something else the second time");
    }
    let took = budget::processor_time().saturating_sub(begun);
    assert!(took < LONGEST, "{text:?} took {took:?}");
}
