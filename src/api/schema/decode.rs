//! Decoding by schema: bytes become an object tree in the form that upstream would store, or an error in its words.
//!
//! Unknown fields are dropped and reported, duplicate fields reported (the last one counts). Quantities and times become
//! canonical, nulls go, and zero values go where Go's `omitempty` drops them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::{Map, Value};

use super::{
    conversion,
    node::{Field, Kind, Node, Schema, Struct},
    raw::{Metered, Raw},
    strict::{self, FieldPath, PROBLEM_LIMIT, StrictProblem},
    yaml::{self, YamlError},
};
use crate::{
    meta::{
        Object, Quantity,
        limits::{Excess, Meter},
        time::{format_micro_time, format_time, parse_time},
    },
    service::FieldValidation,
    status::Status,
};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// A body that decoded.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub object: Object,
    /// Unknown and duplicate fields, in the body's order.
    pub problems: Vec<StrictProblem>,
}

/// Why a body is no object of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even JSON or YAML, nested too deeply, or full of aliases.
    #[error("{0}")]
    Syntax(String),
    /// Too many values for its size.
    #[error("{0}")]
    TooLarge(String),
    /// A value of the wrong type; the text is upstream's.
    #[error("{0}")]
    Type(String),
}

impl DecodeError {
    /// The 400 for a body of this kind.
    pub fn into_status(self, schema: &Schema) -> Status {
        let gvk = &schema.gvk;
        match self {
            DecodeError::Syntax(why) => Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {why}",
                gvk.kind
            )),
            DecodeError::TooLarge(why) => Status::too_large(why),
            DecodeError::Type(why) => strict::cannot_be_handled(&gvk.kind, &gvk.version, why),
        }
    }

    /// The status where no schema is at hand; `refused` is what a refusal begins with.
    pub fn into_bad_request(self, refused: &str) -> Status {
        match self {
            DecodeError::TooLarge(why) => Status::too_large(why),
            DecodeError::Syntax(why) | DecodeError::Type(why) => Status::bad_request(format!("{refused}{why}")),
        }
    }
}

impl From<Excess> for DecodeError {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Depth | Excess::Aliasing => DecodeError::Syntax(excess.to_string()),
            Excess::Cost => DecodeError::TooLarge(excess.to_string()),
        }
    }
}

impl Decoded {
    pub fn unknown(&self) -> impl Iterator<Item = &FieldPath> {
        self.problems.iter().filter_map(|problem| match problem {
            StrictProblem::Unknown(path) => Some(path),
            StrictProblem::Duplicate(_) | StrictProblem::Repeated { .. } => None,
        })
    }

    pub fn duplicate(&self) -> impl Iterator<Item = &FieldPath> {
        self.problems.iter().filter_map(|problem| match problem {
            StrictProblem::Duplicate(path) => Some(path),
            StrictProblem::Unknown(_) | StrictProblem::Repeated { .. } => None,
        })
    }

    /// Applies `fieldValidation`: the object with warnings to send, or a 400.
    pub fn checked(self, validation: FieldValidation, schema: &Schema) -> Result<(Object, Vec<String>), Status> {
        let warnings = strict::check(&self.problems, validation, &schema.gvk.kind, &schema.gvk.version)?;
        Ok((self.object, warnings))
    }
}

/// Parses a body without looking at any schema. What it may hold depends on its size: see [`crate::meta::limits`].
pub fn parse(bytes: &[u8], format: Format) -> Result<Raw, DecodeError> {
    parse_noting(bytes, format).map(|(raw, _)| raw)
}

/// The same with the keys that stand twice in YAML. In what JSON becomes they still stand.
pub(crate) fn parse_noting(bytes: &[u8], format: Format) -> Result<(Raw, Vec<StrictProblem>), DecodeError> {
    let mut meter = Meter::new(bytes.len());
    match format {
        Format::Json => parse_json(bytes, &mut meter).map(|raw| (raw, Vec::new())),
        Format::Yaml => yaml::parse(bytes, &mut meter).map_err(|error| match error {
            YamlError::Excess(Excess::Cost) => Excess::Cost.into(),
            other => DecodeError::Syntax(format!("error converting YAML to JSON: {other}")),
        }),
    }
}

/// Parses JSON that is a part of a document; `meter` counts for the whole.
pub(crate) fn parse_json(bytes: &[u8], meter: &mut Meter) -> Result<Raw, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Metered(meter).deserialize(&mut deserializer).and_then(|raw| deserializer.end().map(|()| raw));
    parsed.map_err(|error| meter.exceeded().map_or_else(|| DecodeError::Syntax(error.to_string()), DecodeError::from))
}

/// Parses what is JSON most of the time and YAML else. Keys that stand twice are noted where it is YAML.
pub(crate) fn parse_either(bytes: &[u8]) -> Result<(Raw, Vec<StrictProblem>), DecodeError> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        match parse_noting(bytes, Format::Json) {
            Err(DecodeError::Syntax(_)) => {}
            parsed => return parsed,
        }
    }
    parse_noting(bytes, Format::Yaml)
}

/// Parses JSON or YAML into a plain tree.
pub fn parse_value(bytes: &[u8], format: Format) -> Result<Value, DecodeError> {
    parse(bytes, format).map(Raw::into_value)
}

/// Why a file is no document of configuration.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Repeated(StrictProblem),
    #[error(transparent)]
    Content(#[from] serde_json::Error),
}

/// Reads a document of configuration by the rules of bodies; a key that stands twice in it is an error.
///
/// # Errors
/// When it is no YAML, or says what its type does not have.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    let (raw, repeated) = parse_noting(text.as_bytes(), Format::Yaml)?;
    match repeated.into_iter().next() {
        Some(problem) => Err(DocumentError::Repeated(problem)),
        None => Ok(serde_json::from_value(raw.into_value())?),
    }
}

impl Schema {
    /// Decodes a body strictly.
    pub fn decode(&self, bytes: &[u8], format: Format) -> Result<Decoded, DecodeError> {
        let (raw, mut problems) = parse_noting(bytes, format)?;
        let mut decoded = self.decode_raw(raw)?;
        problems.append(&mut decoded.problems);
        Ok(Decoded { problems, ..decoded })
    }

    /// Brings a tree made in this process into the same form as a decoded body.
    pub fn normalise(&self, object: Object) -> Result<Decoded, DecodeError> {
        self.decode_raw(Raw::from(object.into_value()))
    }

    /// Decodes a body that is parsed already.
    pub fn decode_raw(&self, raw: Raw) -> Result<Decoded, DecodeError> {
        self.walk(raw, Reading::Body)
    }

    /// Decodes the body of a server-side apply: zero values stay, since their applier owns them.
    pub fn decode_applied(&self, raw: Raw) -> Result<Decoded, DecodeError> {
        self.walk(raw, Reading::Applied)
    }

    /// Brings what a strategic merge patch made into the form of a decoded body. See [`conversion`].
    pub fn convert(&self, raw: Raw) -> Result<Decoded, DecodeError> {
        self.walk(raw, Reading::Converted)
    }

    fn walk(&self, raw: Raw, reading: Reading) -> Result<Decoded, DecodeError> {
        let root = self.root_struct();
        let mut walk = Walk { problems: Vec::new(), path: String::new(), fields: String::new(), reading };
        match raw {
            Raw::Object(fields) => {
                let object = Object::new(walk.object(root, fields)?);
                Ok(Decoded { object, problems: walk.problems })
            }
            other => Err(DecodeError::Type(format!("json: cannot unmarshal {} into Go value of type {}", other.describe(false), root.go_name()))),
        }
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Body,
    /// Zero values stay although Go would not write them.
    Applied,
    /// Types are converted instead of decoded.
    Converted,
}

/// One pass over a document.
struct Walk {
    problems: Vec<StrictProblem>,
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
    fn object(&mut self, holder: &Struct, raw: Vec<(String, Raw)>) -> Result<Map<String, Value>, DecodeError> {
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
                    object.insert(name.clone(), value.into_value());
                }
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
        if mark > 0 {
            self.fields.push('.');
        }
        self.fields.push_str(&field.name);
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
            (Kind::Any, raw) => Ok(raw.into_value()),
            (Kind::Struct(reference), Raw::Object(fields)) => Ok(Value::Object(self.object(reference.get(), fields)?)),
            (Kind::List(item), Raw::List(items)) => self.list(item, items, holder),
            (Kind::Map(value), Raw::Object(entries)) => self.map(value, entries, holder),
            (_, raw) if holder.holder.lenient && is_lenient(node) => Ok(raw.into_value()),
            (_, raw) => self.scalar(node, raw, holder),
        }
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
        for (name, raw) in entries {
            let mark = self.enter(&name);
            if map.contains_key(&name) {
                self.report(StrictProblem::Duplicate);
            }
            let value = self.value(node, raw, holder)?;
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
            (Kind::IntOrString, raw) => Err(plain_type_error(&raw, "int32")),
            (Kind::Quantity, raw) => quantity(raw),
            (Kind::Time, Raw::String(text)) => time(&text, format_time),
            (Kind::MicroTime, Raw::String(text)) => time(&text, format_micro_time),
            (Kind::Time | Kind::MicroTime, raw) => Err(plain_type_error(&raw, "string")),
            (Kind::Bytes, Raw::String(text)) => bytes(&text).map_err(|error| match self.reading {
                Reading::Converted => DecodeError::Type(format!("error decoding from json: {error}")),
                Reading::Body | Reading::Applied => error,
            }),
            (_, raw) => Err(self.type_error(node, &raw, holder)),
        }
    }

    fn type_error(&self, node: &Node, raw: &Raw, Holder { holder }: Holder<'_>) -> DecodeError {
        if self.reading == Reading::Converted {
            return DecodeError::Type(conversion::mismatch(node, raw));
        }
        let exact = matches!(node.kind, Kind::Int32 | Kind::Int64 | Kind::Double);
        DecodeError::Type(format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
            raw.describe(exact),
            holder.name,
            self.fields,
            go_type(node)
        ))
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
        Kind::Any => "runtime.RawExtension".into(),
        Kind::Struct(reference) => reference.get().go_name(),
        Kind::List(item) => format!("[]{}", go_type(item)),
        Kind::Map(value) => format!("map[string]{}", go_type(value)),
    }
}

fn plain_type_error(raw: &Raw, go_type: &str) -> DecodeError {
    let exact = go_type == "int32";
    DecodeError::Type(format!("json: cannot unmarshal {} into Go value of type {go_type}", raw.describe(exact)))
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

fn time(text: &str, write: fn(jiff::Timestamp) -> String) -> Result<Value, DecodeError> {
    parse_time(text)
        .map(|time| write(time).into())
        .map_err(|_| DecodeError::Type(format!("parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\"")))
}

fn bytes(text: &str) -> Result<Value, DecodeError> {
    let text = text.replace(['\r', '\n'], "");
    match STANDARD.decode(&text) {
        Ok(_) => Ok(text.into()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(DecodeError::Type(format!("illegal base64 data at input byte {at}")))
        }
        Err(_) => Err(DecodeError::Type(format!("illegal base64 data at input byte {}", text.len()))),
    }
}
