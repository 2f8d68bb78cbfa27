//! One pass over a parsed document by its schema: types as Go would decode them, zero values as it would write them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::civil::DateTime;
use serde_json::{Map, Value};

use super::{
    conversion, duplicates,
    error::DecodeError,
    node::{Field, Kind, Node, Struct},
    raw::Raw,
    strict::{FieldPath, PROBLEM_LIMIT, StrictProblem},
};
use crate::meta::{
    Quantity,
    rfc3339::{self, read_micro_time, read_time, written_micro_time, written_time},
};

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Body,
    /// Zero values stay although Go would not write them.
    Applied,
    /// Types are converted instead of decoded.
    Converted,
}

/// One pass over a document.
pub(super) struct Walk {
    pub problems: Vec<StrictProblem>,
    /// `spec.containers[0]`
    path: String,
    /// `spec.containers`: struct fields only, as Go's type errors show them.
    fields: String,
    reading: Reading,
}

/// The innermost struct around a value, for type errors.
#[derive(Clone, Copy)]
struct Holder<'a> {
    holder: &'a Struct,
}

impl Walk {
    pub fn new(reading: Reading) -> Self {
        Walk { problems: Vec::new(), path: String::new(), fields: String::new(), reading }
    }

    /// The fields of a struct.
    ///
    /// # Errors
    /// When a value is of the wrong type.
    pub fn object(&mut self, holder: &Struct, raw: Vec<(String, Raw)>) -> Result<Map<String, Value>, DecodeError> {
        let mut object = Map::new();
        // Short, whatever a client sends: names of fields that there are, and unknown ones as long as they are reported.
        let mut seen: Vec<String> = Vec::with_capacity(raw.len().min(holder.fields().len()));
        for (name, value) in raw {
            let mark = self.enter(&name);
            let field = holder.field(&name);
            let keeps_any = field.is_none() && holder.preserve_unknown;
            let repeated = if keeps_any { object.contains_key(&name) } else { seen.contains(&name) };
            if repeated {
                self.report(StrictProblem::Duplicate);
            }
            match field {
                Some(field) => {
                    let decoded = self.field(holder, field, value)?;
                    if keeps(field, &decoded) || (self.reading == Reading::Applied && !decoded.is_null()) {
                        object.insert(name.clone(), decoded);
                    } else {
                        object.remove(&name);
                    }
                }
                None if keeps_any => {
                    object.insert(name.clone(), self.free(value));
                }
                // Upstream's types take anything for an object of which nothing is said; pruning takes it away.
                None if self.reading == Reading::Applied && holder.lenient && holder.fields().is_empty() => {}
                None => self.report(StrictProblem::Unknown),
            }
            self.path.truncate(mark);
            if !repeated && !keeps_any && (field.is_some() || self.problems.len() < PROBLEM_LIMIT) {
                seen.push(name);
            }
        }
        Ok(object)
    }

    fn field(&mut self, holder: &Struct, field: &Field, value: Raw) -> Result<Value, DecodeError> {
        let mark = self.fields.len();
        // The metadata of custom resources is decoded by itself.
        if !(holder.lenient && mark == 0 && &*field.name == "metadata") {
            if mark > 0 {
                self.fields.push('.');
            }
            self.fields.push_str(embedded(holder, field));
            self.fields.push_str(&field.name);
        }
        let decoded = self.value(&field.node, value, Holder { holder })?;
        self.fields.truncate(mark);
        Ok(decoded)
    }

    /// Extends the path by a field name or key; returns the length to cut back to.
    fn enter(&mut self, name: &str) -> usize {
        let mark = self.path.len();
        if mark > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        mark
    }

    fn report(&mut self, problem: fn(FieldPath) -> StrictProblem) {
        if self.problems.len() < PROBLEM_LIMIT {
            self.problems.push(problem(FieldPath::shown(&self.path)));
        }
    }

    fn value(&mut self, node: &Node, raw: Raw, holder: Holder<'_>) -> Result<Value, DecodeError> {
        match (&node.kind, raw) {
            (_, Raw::Null) => Ok(Value::Null),
            (Kind::Any, raw) if holder.holder.lenient => Ok(self.free(raw)),
            (Kind::Any, raw) => Ok(raw.into_value()),
            (Kind::Struct(reference), Raw::Object(fields)) => Ok(Value::Object(self.object(reference.get(), fields)?)),
            (Kind::List(item), Raw::List(items)) => self.list(item, items, holder),
            (Kind::Map(value), Raw::Object(entries)) => self.map(value, entries, holder),
            (_, raw) if holder.holder.lenient && is_lenient(node) => Ok(self.free(raw)),
            (_, raw) => self.scalar(node, raw, holder),
        }
    }

    /// A value of a custom resource that no schema describes.
    fn free(&mut self, raw: Raw) -> Value {
        duplicates::find(&mut self.path, &raw, &mut self.problems);
        raw.into_untyped()
    }

    fn list(&mut self, item: &Node, items: Vec<Raw>, holder: Holder<'_>) -> Result<Value, DecodeError> {
        let mut list = Vec::with_capacity(items.len());
        for (index, raw) in items.into_iter().enumerate() {
            let mark = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            let value = self.value(item, raw, holder)?;
            list.push(if value.is_null() { zero(item) } else { value });
            self.path.truncate(mark);
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, node: &Node, entries: Vec<(String, Raw)>, holder: Holder<'_>) -> Result<Value, DecodeError> {
        let mut map = Map::new();
        let is_resources = matches!(node.kind, Kind::Quantity) && holder.holder.full_name.starts_with("api.core.");
        for (name, raw) in entries {
            let mark = self.enter(&name);
            if map.contains_key(&name) {
                self.report(StrictProblem::Duplicate);
            }
            let value = self.value(node, raw, holder)?;
            let value = if is_resources { in_thousandths(value) } else { value };
            if !value.is_null() || node.nullable || !holder.holder.lenient {
                map.insert(name, if value.is_null() { zero(node) } else { value });
            }
            self.path.truncate(mark);
        }
        Ok(Value::Object(map))
    }

    fn scalar(&mut self, node: &Node, raw: Raw, holder: Holder<'_>) -> Result<Value, DecodeError> {
        let whole = |number: &serde_json::Number, fits: fn(i64) -> bool| number.as_i64().filter(|number| fits(*number));
        let raw = match (&node.kind, raw) {
            (Kind::Int32 | Kind::Int64, Raw::Number(number)) if self.reading == Reading::Converted => {
                Raw::Number(conversion::integer(&number).map_or(number, Into::into))
            }
            (_, raw) => raw,
        };
        match (&node.kind, raw) {
            (Kind::String, Raw::String(text)) => Ok(text.into()),
            (Kind::Bool, Raw::Bool(flag)) => Ok(flag.into()),
            (Kind::Double, Raw::Number(number)) => Ok(number.into()),
            (Kind::Int64, Raw::Number(number)) if number.is_i64() || whole(&number, |_| true).is_some() => Ok(number.into()),
            (Kind::Int32, Raw::Number(number)) if whole(&number, |number| i32::try_from(number).is_ok()).is_some() => Ok(number.into()),
            (Kind::IntOrString, Raw::String(text)) => Ok(text.into()),
            (Kind::IntOrString, Raw::Number(number)) if whole(&number, |number| i32::try_from(number).is_ok()).is_some() => Ok(number.into()),
            (Kind::IntOrString, raw) => Err(self.own_type_error(&raw, "int32", holder)),
            (Kind::Quantity, raw) => quantity(raw),
            (Kind::Time, Raw::String(text)) => time(read_time(&text), written_time),
            (Kind::MicroTime, Raw::String(text)) => time(read_micro_time(&text), written_micro_time),
            (Kind::Duration, Raw::String(text)) => Ok(text.into()),
            (Kind::Time | Kind::MicroTime | Kind::Duration, raw) => Err(self.own_type_error(&raw, "string", holder)),
            (Kind::Bytes, Raw::String(text)) => bytes(&text).map_err(|error| match self.reading {
                Reading::Converted => DecodeError::Type(format!("error decoding from json: {error}")),
                Reading::Body | Reading::Applied => error,
            }),
            (_, raw) => Err(self.type_error(node, &raw, holder)),
        }
    }

    fn type_error(&self, node: &Node, raw: &Raw, holder: Holder<'_>) -> DecodeError {
        if self.reading == Reading::Converted {
            return DecodeError::Type(conversion::mismatch(node, raw));
        }
        let exact = matches!(node.kind, Kind::Int32 | Kind::Int64 | Kind::Double);
        self.go_type_error(&raw.describe(exact), &go_type(node), holder)
    }

    /// The error of types that decode themselves. Go's decoder adds where they stand, its converter does not.
    fn own_type_error(&self, raw: &Raw, go_type: &str, holder: Holder<'_>) -> DecodeError {
        let found = raw.describe(go_type == "int32");
        match self.reading {
            Reading::Body => self.go_type_error(&found, go_type, holder),
            Reading::Applied | Reading::Converted => DecodeError::Type(format!("json: cannot unmarshal {found} into Go value of type {go_type}")),
        }
    }

    fn go_type_error(&self, found: &str, go_type: &str, Holder { holder }: Holder<'_>) -> DecodeError {
        DecodeError::Type(match &*self.fields {
            "" => format!("json: cannot unmarshal {found} into Go value of type {go_type}"),
            fields => format!("json: cannot unmarshal {found} into Go struct field {}.{fields} of type {go_type}", holder.name),
        })
    }
}

/// The structs around a field that JSON has inline, as Go's decoder names them in its errors.
fn embedded(holder: &Struct, field: &Field) -> &'static str {
    let depth = field.numbers.len();
    if depth < 2 {
        return "";
    }
    match &*holder.name {
        "Volume" => "VolumeSource.",
        "PersistentVolumeSpec" => "PersistentVolumeSource.",
        "Probe" => "ProbeHandler.",
        "EphemeralContainer" => "EphemeralContainerCommon.",
        "IngressRule" => "IngressRuleValue.",
        "RuleWithOperations" => "Rule.",
        "NamedRuleWithOperations" if depth == 2 => "RuleWithOperations.",
        "NamedRuleWithOperations" => "RuleWithOperations.Rule.",
        "DeviceClaimConfiguration" | "DeviceClassConfiguration" | "DeviceAllocationConfiguration" => "DeviceConfiguration.",
        _ if &*field.name == "name" => "LocalObjectReference.",
        _ => "",
    }
}

/// Whether a value of another type may stand here until validation sees it.
fn is_lenient(node: &Node) -> bool {
    match &node.kind {
        Kind::Struct(reference) => reference.get().lenient,
        Kind::List(_) | Kind::Map(_) => true,
        _ => false,
    }
}

/// Whether Go would write this value of a field.
pub(super) fn keeps(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => field.node.nullable,
        _ if field.pointer || !field.omit_empty => true,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0) || matches!(field.node.kind, Kind::IntOrString),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty() || !matches!(field.node.kind, Kind::Map(_)),
    }
}

/// What Go makes of a null among list items and map values.
fn zero(node: &Node) -> Value {
    match node.kind {
        _ if node.nullable => Value::Null,
        Kind::String | Kind::Bytes => "".into(),
        Kind::Int32 | Kind::Int64 | Kind::IntOrString | Kind::Double => 0.into(),
        Kind::Bool => false.into(),
        Kind::Quantity => "0".into(),
        Kind::Duration => "0s".into(),
        Kind::Struct(ref reference) if reference.get().lenient => Value::Null,
        Kind::Struct(_) => Value::Object(Map::new()),
        Kind::Time | Kind::MicroTime | Kind::Any | Kind::List(_) | Kind::Map(_) => Value::Null,
    }
}

/// The type as Go prints it.
fn go_type(node: &Node) -> String {
    match &node.kind {
        Kind::String => "string".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Bool => "bool".into(),
        Kind::Double => "float64".into(),
        Kind::IntOrString => "intstr.IntOrString".into(),
        Kind::Quantity => "resource.Quantity".into(),
        Kind::Time => "v1.Time".into(),
        Kind::MicroTime => "v1.MicroTime".into(),
        Kind::Duration => "v1.Duration".into(),
        Kind::Any => "runtime.RawExtension".into(),
        Kind::Struct(reference) => reference.get().go_name(),
        Kind::List(item) => format!("[]{}", go_type(item)),
        Kind::Map(value) if matches!(value.kind, Kind::Quantity) => "v1.ResourceList".into(),
        Kind::Map(value) => format!("map[string]{}", go_type(value)),
    }
}

fn quantity(raw: Raw) -> Result<Value, DecodeError> {
    let text = match raw {
        Raw::String(text) => text,
        Raw::Number(number) => number.to_string(),
        other => other.into_value().to_string(),
    };
    match Quantity::parse(text.trim()) {
        Ok(quantity) => Ok(quantity.to_string().into()),
        Err(error) => Err(DecodeError::Type(error.to_string())),
    }
}

/// An amount of a resource as upstream keeps it: rounded up to thousandths.
fn in_thousandths(amount: Value) -> Value {
    match amount.as_str().and_then(|text| Quantity::parse(text).ok()).filter(|amount| !amount.is_of_thousandths()) {
        Some(finer) => finer.in_thousandths().to_string().into(),
        None => amount,
    }
}

fn time(read: Result<DateTime, String>, write: fn(DateTime) -> String) -> Result<Value, DecodeError> {
    let time = read.map_err(DecodeError::Type)?;
    Ok(if time == rfc3339::ZERO { Value::Null } else { write(time).into() })
}

fn bytes(text: &str) -> Result<Value, DecodeError> {
    let text = text.replace(['\r', '\n'], "");
    match STANDARD.decode(&text) {
        Ok(_) => Ok(text.into()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(DecodeError::Type(format!("illegal base64 data at input byte {at}")))
        }
        // The group that lacks something is the fault; where its padding begins, the end.
        Err(_) => {
            let at = if text.ends_with('=') { text.len() } else { text.len() - text.len() % 4 };
            Err(DecodeError::Type(format!("illegal base64 data at input byte {at}")))
        }
    }
}
