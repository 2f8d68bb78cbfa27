//! What mutating policies make of an object: parts of it to be applied, and JSON patches
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch`). Pure.

use serde_json::{Value, json};
use troupe_api::{
    expressions::{Fault, Map, Meter, Val, to_json},
    meta::Object,
    patch::{
        json::{self, Unapplied},
        ownership,
    },
    schema::{Kind, Node},
    service::Target,
    status::Status,
};

use super::{policy::Mutation, verdict::MOST};
use crate::admission::{
    expressions::{Activation, Expression, Inputs, Stopped, Surroundings},
    matching::{Matched, shown_schema, taken, taken_strictly},
};

/// Why there is no new object.
#[derive(Debug)]
pub enum Failure {
    /// It takes too long for this thread.
    TooLong,
    /// The policy's fault; its failure policy says whether that counts.
    Message(String),
    /// The request ends.
    Status(Box<Status>),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Message(why)
    }
}

/// The object after a mutation; `inputs` show `object` as it is `matched`.
///
/// # Errors
/// What went wrong.
pub fn patched(
    mutation: &Mutation,
    around: Surroundings<'_>,
    inputs: Inputs<'_>,
    matched: &Matched,
    target: &Target,
    object: &Object,
    meter: &mut Meter,
) -> Result<Object, Failure> {
    let shown = || inputs.shown.object.as_deref().cloned().unwrap_or_default().into_value();
    match mutation {
        Mutation::ApplyConfiguration(expression) => {
            let patch = evaluated(expression, around, inputs, meter, configuration)?;
            let merged = applied(shown(), patch, matched)?;
            taken(matched, target, object, merged).map_err(|status| Failure::Message(format!("error applying patch: {}", status.message)))
        }
        Mutation::JsonPatch(expression) => {
            let operations = evaluated(expression, around, inputs, meter, operations)?;
            match json::apply_operations(operations, shown()) {
                Ok(changed) => taken_strictly(matched, target, object, changed).map_err(|status| Failure::Status(Box::new(status))),
                Err(Unapplied::Test(_)) => Ok(object.clone()),
                Err(Unapplied::Failed(why)) => Err(Failure::Message(format!("JSON Patch: {why}"))),
            }
        }
    }
}

/// What an expression comes to, as JSON.
fn evaluated<T>(
    expression: &Expression,
    around: Surroundings<'_>,
    inputs: Inputs<'_>,
    meter: &mut Meter,
    read: impl FnOnce(&Val<'_>, &mut Meter) -> Result<T, String>,
) -> Result<T, Failure> {
    if let Some(why) = expression.fault() {
        return Err(Failure::Message(why.to_owned()));
    }
    let activation = Activation::new(inputs, around, meter);
    let mut budget = MOST;
    match activation.evaluate(expression, meter, &mut budget) {
        Ok(Ok(value)) => {
            let made = read(&value, meter);
            if meter.ends_early() { Err(Failure::TooLong) } else { made.map_err(Failure::Message) }
        }
        Ok(Err(why)) => Err(Failure::Message(why)),
        Err(Stopped::Budget) => Err(Failure::Message(Stopped::OUT_OF_BUDGET.to_owned())),
        Err(Stopped::TooLong) => Err(Failure::TooLong),
    }
}

/// The part of an object that an expression constructs.
fn configuration(value: &Val<'_>, meter: &mut Meter) -> Result<Value, String> {
    let Val::Map(Map::Message(message)) = value else {
        return Err(format!("unsupported return type from ApplyConfiguration expression: {}", value.type_name()));
    };
    check_names(value, message.name, meter)?;
    to_json(value, meter).map_err(|fault| fault.text().to_owned())
}

/// The operations of a JSON patch that an expression constructs.
fn operations(value: &Val<'_>, meter: &mut Meter) -> Result<Vec<Value>, String> {
    let told = |fault: Fault| fault.text().to_owned();
    let Val::List(list) = value else { return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned()) };
    let mut operations = Vec::with_capacity(list.len());
    for entry in list.iter() {
        let entry = entry.map_err(told)?;
        let Val::Map(Map::Message(message)) = &entry else {
            let found = entry.type_name();
            return Err(format!("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {found}"));
        };
        let text = |name: &str| match message.field(name) {
            Some(Val::String(text)) => text.to_string(),
            _ => String::new(),
        };
        let mut operation = json!({"op": text("op"), "path": text("path")});
        if !text("from").is_empty() {
            operation["from"] = text("from").into();
        }
        if let Some(value) = message.field("value") {
            if let Val::Map(Map::Message(part)) = value {
                check_names(value, part.name, meter)?;
            }
            let unusable = "JSONPath valueExpression evaluated to a type that could not marshal to JSON";
            operation["value"] = to_json(value, meter).map_err(|fault| format!("{unusable}: {}", fault.text()))?;
        }
        operations.push(operation);
    }
    Ok(operations)
}

/// Whether what is constructed is called by where it stands: `Object.spec` in the field `spec` of an `Object`.
fn check_names(value: &Val<'_>, expected: &str, meter: &mut Meter) -> Result<(), String> {
    let mut errors = Vec::new();
    names(value, expected, meter, &mut errors).map_err(|fault| fault.text().to_owned())?;
    if errors.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", errors.join("\n"))) }
}

/// Errors that are told of one patch.
const MOST_ERRORS: usize = 20;

/// Values are no deeper than the expression that made them; a value may stand in many places of another, so each counts.
fn names(value: &Val<'_>, expected: &str, meter: &mut Meter, errors: &mut Vec<String>) -> Result<(), Fault> {
    meter.work(64)?;
    if errors.len() >= MOST_ERRORS {
        return Ok(());
    }
    match value {
        Val::Map(Map::Message(message)) => {
            if message.name != expected {
                let found = message.name;
                errors.push(format!("unexpected type name {found:?}, expected {expected:?}, which matches field name path from root Object type"));
            }
            message.fields.iter().try_for_each(|(name, value)| names(value, &format!("{expected}.{name}"), meter, errors))
        }
        // Documents hold no messages.
        Val::Map(Map::Made(made)) => made.entries.iter().try_for_each(|(_, value)| names(value, expected, meter, errors)),
        Val::List(list) if list.is_made() => list.iter().try_for_each(|value| names(&value?, expected, meter, errors)),
        _ => Ok(()),
    }
}

/// The object with a part of it applied, by the rules of its schema; nobody becomes the owner of anything.
fn applied(shown: Value, mut patch: Value, matched: &Matched) -> Result<Value, Failure> {
    patch["apiVersion"] = matched.kind.api_version().into();
    patch["kind"] = (*matched.kind.kind).into();
    let schema = shown_schema(matched).map_err(|status| Failure::Status(Box::new(status)))?;
    let mut check = Check::default();
    check.value(&patch, &schema.root, "");
    if !check.unknown.is_empty() {
        let told = match &check.unknown[..] {
            [only] => only.clone(),
            all => format!("errors:\n  {}", all.join("\n  ")),
        };
        return Err(Failure::Message(format!("error applying patch: failed to convert patch object to typed object: {told}")));
    }
    if !check.atomic.is_empty() {
        let paths = check.atomic.join(", ");
        return Err(Failure::Message(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"
        )));
    }
    Ok(ownership::merge(shown, &patch, &schema.root))
}

/// What is wrong with a part of an object.
#[derive(Default)]
struct Check {
    unknown: Vec<String>,
    /// Places that are replaced as a whole, which would lose what the patch does not say.
    atomic: Vec<String>,
}

impl Check {
    fn value(&mut self, value: &Value, node: &Node, path: &str) {
        let fits = match (value, &node.kind) {
            (Value::Null, _) => return,
            (Value::Object(_), Kind::Struct(_) | Kind::Map(_) | Kind::Any) | (Value::Array(_), Kind::List(_) | Kind::Any) => true,
            (Value::Object(_) | Value::Array(_), _) | (_, Kind::Struct(_) | Kind::Map(_) | Kind::List(_)) => false,
            _ => return,
        };
        if !fits {
            return self.mismatch(path, node, value);
        }
        if node.is_atomic() {
            self.atomic.push(path.to_owned());
        }
        match (value, &node.kind) {
            (Value::Object(fields), Kind::Struct(_)) => {
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    match node.child(name) {
                        Some(child) => self.value(value, child, &path),
                        None => self.unknown.push(format!("{path}: field not declared in schema")),
                    }
                }
            }
            (Value::Array(entries), Kind::List(item)) => {
                entries.iter().enumerate().for_each(|(at, entry)| self.value(entry, item, &format!("{path}[{at}]")));
            }
            _ => {}
        }
    }

    fn mismatch(&mut self, path: &str, node: &Node, value: &Value) {
        let wanted = match node.kind {
            Kind::Struct(_) | Kind::Map(_) => "map",
            Kind::List(_) => "list",
            _ => "scalar",
        };
        self.unknown.push(format!("{path}: expected {wanted}, got &{value}"));
    }
}
