//! How large a value may be, and which ones there are to choose from.

use serde_json::{Number, Value};

use crate::{
    formats::{self, Format},
    pattern::{Kept, Pattern},
    resources::tree::{at, flag, items, text},
    status::{FieldError, FieldErrorKind},
};

/// States of a pattern that are tried in the time in which a value is looked at.
const STATES_A_STEP: usize = 64;
/// The bytes of choices that an error tells.
const MOST_SHOWN: usize = 8 << 10;

/// What a value is compared with.
#[derive(Debug)]
pub(super) struct Bounds {
    choices: Box<[Value]>,
    /// The choices as errors tell them, not all where they are many.
    shown: Box<str>,
    pub pattern: Option<Pattern>,
    format: Option<(Box<str>, Format)>,
    /// The format of an integer, which says how large it may be; empty of all else.
    integer_format: Box<str>,
    /// The format that is told in place of the type where a value is of another one; empty where the type is.
    told_format: Box<str>,
    minimum: Option<(Number, bool)>,
    maximum: Option<(Number, bool)>,
    multiple_of: Option<Number>,
    length: (Option<u64>, Option<u64>),
    items: (Option<u64>, Option<u64>),
    properties: (Option<u64>, Option<u64>),
}

/// The format of a schema, if it is one that upstream knows of this type; others it strips.
fn told_format<'a>(kind: &str, format: &'a str) -> &'a str {
    let is_known = match kind {
        "string" => formats::format(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if is_known { format } else { "" }
}

impl Bounds {
    /// `None` where the schema says nothing of the kind.
    pub fn new(schema: &Value, kept: &Kept) -> Option<Self> {
        let count = |name: &str| at(schema, &[name]).as_u64();
        let limit = |bound: &str, exclusive: &str| at(schema, &[bound]).as_number().map(|number| (number.clone(), flag(schema, &[exclusive])));
        let format = text(schema, &["format"]);
        let made = Bounds {
            choices: items(schema, &["enum"]).into(),
            shown: shown(items(schema, &["enum"])),
            pattern: Some(text(schema, &["pattern"])).filter(|pattern| !pattern.is_empty()).map(|pattern| Pattern::new(pattern, kept)),
            format: formats::format(format).filter(|_| matches!(text(schema, &["type"]), "" | "string")).map(|check| (format.into(), check)),
            integer_format: if text(schema, &["type"]) == "integer" { format.into() } else { Box::default() },
            told_format: told_format(text(schema, &["type"]), format).into(),
            minimum: limit("minimum", "exclusiveMinimum"),
            maximum: limit("maximum", "exclusiveMaximum"),
            multiple_of: at(schema, &["multipleOf"]).as_number().cloned(),
            length: (count("minLength"), count("maxLength")),
            items: (count("minItems"), count("maxItems")),
            properties: (count("minProperties"), count("maxProperties")),
        };
        (!made.says_nothing()).then_some(made)
    }

    fn says_nothing(&self) -> bool {
        let counts = [self.length, self.items, self.properties];
        self.choices.is_empty()
            && self.pattern.is_none()
            && self.format.is_none()
            && self.integer_format.is_empty()
            && self.told_format.is_empty()
            && self.minimum.is_none()
            && self.maximum.is_none()
            && self.multiple_of.is_none()
            && counts.iter().all(|(least, most)| least.is_none() && most.is_none())
    }

    /// `int32` of an integer that is one; empty where nothing is said.
    pub fn integer_format(&self) -> &str {
        &self.integer_format
    }

    /// `int32` or `date` where a value of another type is told to be none of these; empty where the type is told.
    pub fn told_format(&self) -> &str {
        &self.told_format
    }

    /// How much comparing costs, in values looked at.
    pub fn cost(&self, value: &Value) -> usize {
        let length = value.as_str().map_or(0, str::len);
        let tried = self.pattern.as_ref().map_or(0, |pattern| {
            let compiled = if pattern.is_cold() { 20_000 } else { 1 };
            length.saturating_mul(pattern.weight) / STATES_A_STEP + compiled
        });
        self.choices.len() / 4 + tried + length / 32
    }

    /// What is wrong with a value.
    pub fn check(&self, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| is_same(choice, value)) {
            errors.push(FieldError { kind: FieldErrorKind::NotSupported, ..FieldError::invalid(path, value.clone(), &*self.shown) });
        }
        match value {
            Value::Number(number) => self.number(path, number, errors),
            Value::String(text) => self.text(path, text, errors),
            Value::Array(entries) => count(path, entries.len(), self.items, "items", errors),
            Value::Object(fields) => count(path, fields.len(), self.properties, "properties", errors),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn number(&self, path: &str, number: &Number, errors: &mut Vec<FieldError>) {
        let mut fault = |words: String| errors.push(FieldError::invalid(path, number.clone(), format!("{path} in body should be {words}")));
        if let Some((limit, exclusive)) = &self.maximum
            && let Some(order) = compare(number, limit)
            && (order.is_gt() || *exclusive && order.is_eq())
        {
            fault(format!("less than{} {}", if *exclusive { "" } else { " or equal to" }, written(limit)));
        }
        if let Some((limit, exclusive)) = &self.minimum
            && let Some(order) = compare(number, limit)
            && (order.is_lt() || *exclusive && order.is_eq())
        {
            fault(format!("greater than{} {}", if *exclusive { "" } else { " or equal to" }, written(limit)));
        }
        if let Some(step) = &self.multiple_of
            && !is_multiple(number, step)
        {
            fault(format!("a multiple of {step}"));
        }
    }

    fn text(&self, path: &str, text: &str, errors: &mut Vec<FieldError>) {
        errors.extend(self.length_or_pattern(path, text));
        if let Some((name, check)) = &self.format
            && !check(text)
        {
            let detail = format!("{path} in body must be of type {name}: {text:?}");
            errors.push(FieldError { kind: FieldErrorKind::TypeInvalid, ..FieldError::invalid(path, text, detail) });
        }
    }

    /// What is wrong with a text's length, or else with the pattern that it should match.
    fn length_or_pattern(&self, path: &str, text: &str) -> Option<FieldError> {
        let length = || text.chars().count() as u64;
        if let Some(most) = self.length.1.filter(|most| text.len() as u64 > *most && length() > *most) {
            return Some(FieldError::too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        if let Some(least) = self.length.0.filter(|least| length() < *least) {
            return Some(FieldError::invalid(path, text, format!("{path} in body should be at least {least} chars long")));
        }
        let pattern = self.pattern.as_ref()?;
        match pattern.matches(text) {
            Some(true) => None,
            Some(false) => Some(FieldError::invalid(path, text, format!("{path} in body should match '{}'", pattern.text))),
            None => Some(FieldError::invalid(path, text, "the pattern for it is too large to be tried")),
        }
    }
}

/// What is wrong with how many entries or fields there are. The whole object stands at no field, as upstream tells of it.
fn count(path: &str, length: usize, (least, most): (Option<u64>, Option<u64>), what: &str, errors: &mut Vec<FieldError>) {
    let field = if path.is_empty() { "<nil>" } else { path };
    if let Some(most) = most.filter(|most| length as u64 > *most) {
        errors.push(FieldError::too_many(field, length, usize::try_from(most).unwrap_or(usize::MAX)));
    }
    if let Some(least) = least.filter(|least| (length as u64) < *least) {
        errors.push(FieldError::invalid(field, length, format!("{path} in body should have at least {least} {what}")));
    }
}

/// What is wrong with the size of a number that should be an integer, at no field as upstream
/// (`IsValueValidAgainstRange` of `kube-openapi/pkg/validation/validate`).
pub(super) fn outside(format: &str, number: &Number, path: &str) -> Option<FieldError> {
    let text = if number.is_f64() { number.as_f64().unwrap_or_default().to_string() } else { number.to_string() };
    let fits = match format {
        "int32" => text.parse::<i32>().is_ok(),
        "uint32" => text.parse::<u32>().is_ok(),
        "uint64" => text.parse::<u64>().is_ok(),
        _ => text.parse::<i64>().is_ok(),
    };
    let format = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
    (!fits).then(|| FieldError::invalid("<nil>", "", format!("Checked value must be of type integer {format} in {path}")))
}

/// `supported values: "a", "b"`
fn shown(choices: &[Value]) -> Box<str> {
    let mut text = "supported values: ".to_owned();
    for (index, choice) in choices.iter().enumerate() {
        let choice = format!("{:?}", choice.as_str().map_or_else(|| choice.to_string(), str::to_owned));
        let comma = if index > 0 { ", " } else { "" };
        if text.len() + choice.len() > MOST_SHOWN {
            text.push_str(&format!("{comma}... ({} more)", choices.len() - index));
            break;
        }
        text.push_str(comma);
        text.push_str(&choice);
    }
    text.into()
}

/// A limit as Go writes it: without a fraction that is none.
fn written(limit: &Number) -> String {
    limit.as_f64().filter(|_| limit.is_f64()).map_or_else(|| limit.to_string(), |limit| limit.to_string())
}

fn compare(left: &Number, right: &Number) -> Option<std::cmp::Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare(left, right).is_some_and(|order| order.is_eq()),
        _ => left == right,
    }
}

fn is_multiple(number: &Number, step: &Number) -> bool {
    match (number.as_i64(), step.as_i64()) {
        (Some(number), Some(step)) => step != 0 && number.checked_rem(step).is_none_or(|rest| rest == 0),
        _ => {
            let (number, step) = (number.as_f64().unwrap_or(0.0), step.as_f64().unwrap_or(0.0));
            step > 0.0 && (number / step).fract() == 0.0
        }
    }
}
