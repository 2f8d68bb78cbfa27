//! Decoding by schema: bytes become an object tree in the form that upstream would store, or an error in its words.
//!
//! Unknown fields are dropped and reported, duplicate fields reported (the last one counts). Quantities and times become
//! canonical, nulls go, and zero values go where Go's `omitempty` drops them.

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::Value;

use super::{
    error::DecodeError,
    json_syntax,
    node::Schema,
    raw::{Metered, Raw},
    strict::{self, FieldPath, StrictProblem},
    walk::{Reading, Walk},
    yaml::{self, YamlError},
};
use crate::{
    meta::{
        Object,
        limits::{Excess, Meter},
        request::FieldValidation,
    },
    status::Status,
};

/// What Go's decoder reads the kind of a body into, as its errors name it.
const KIND_AND_VERSION: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

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
            other => DecodeError::Yaml(other.to_string()),
        }),
    }
}

/// Parses JSON that is a part of a document; `meter` counts for the whole.
pub fn parse_json(bytes: &[u8], meter: &mut Meter) -> Result<Raw, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Metered(meter).deserialize(&mut deserializer).and_then(|raw| deserializer.end().map(|()| raw));
    let syntax = |error: serde_json::Error| DecodeError::Syntax(json_syntax::describe(bytes).unwrap_or_else(|| error.to_string()));
    parsed.map_err(|error| meter.exceeded().map_or_else(|| syntax(error), DecodeError::from))
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

/// Where a problem of a custom resource is told: its metadata is decoded before the rest is pruned, which sorts what it finds.
fn told_at(problem: &StrictProblem) -> (u8, &str) {
    match problem {
        StrictProblem::Unknown(path) if path.0.starts_with("metadata.") => (1, ""),
        StrictProblem::Unknown(path) => (2, &path.0),
        StrictProblem::Duplicate(_) | StrictProblem::Repeated { .. } => (0, ""),
    }
}

impl Schema {
    /// Decodes a body strictly. One that is null, as an empty one is in YAML, is an object that says nothing.
    pub fn decode(&self, bytes: &[u8], format: Format) -> Result<Decoded, DecodeError> {
        let (raw, mut problems) = parse_noting(bytes, format)?;
        let fields = match raw {
            Raw::Object(fields) => fields,
            Raw::Null => Vec::new(),
            other => {
                let found = other.describe(false);
                return Err(DecodeError::Syntax(format!("json: cannot unmarshal {found} into Go value of type {KIND_AND_VERSION}")));
            }
        };
        let mut decoded = self.decode_raw(Raw::Object(fields))?;
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

    /// Brings what a strategic merge patch made into the form of a decoded body. See [`super::conversion`].
    pub fn convert(&self, raw: Raw) -> Result<Decoded, DecodeError> {
        self.walk(raw, Reading::Converted)
    }

    fn walk(&self, raw: Raw, reading: Reading) -> Result<Decoded, DecodeError> {
        let root = self.root_struct();
        let mut walk = Walk::new(reading);
        match raw {
            Raw::Object(fields) => {
                let object = Object::new(walk.object(root, fields)?);
                if root.lenient && reading == Reading::Body {
                    walk.problems.sort_by(|left, right| told_at(left).cmp(&told_at(right)));
                }
                Ok(Decoded { object, problems: walk.problems })
            }
            other => Err(DecodeError::Type(format!("json: cannot unmarshal {} into Go value of type {}", other.describe(false), root.go_name()))),
        }
    }
}
