//! The question, a `ConversionReview` of `apiextensions.k8s.io`, and what its answer means. Pure.
//!
//! Checks and words are upstream's (`apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go`).

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use troupe_api::{
    meta::{GroupVersion, Object},
    resources::validation::{annotations, labels},
    schema::{Format, decode::parse_value},
    status::FieldError,
    stored::StoredObject,
};

use super::metrics::Failure;
use crate::webhook_client::ReviewVersion;

const GROUP: &str = "apiextensions.k8s.io";

/// An object that a webhook is asked about.
#[derive(Debug)]
pub(super) struct Subject {
    pub json: Vec<u8>,
    pub api_version: String,
    kind: String,
    metadata: Map<String, Value>,
}

/// The wrapper that decodes only what a conversion may not change.
#[derive(Deserialize)]
struct Head {
    kind: String,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Subject {
    /// A stored object, with its resourceVersion.
    pub fn of_stored(object: &StoredObject) -> Self {
        let json = object.to_json();
        // It was decoded once, so it has all of this.
        let head = serde_json::from_slice::<Head>(&json).unwrap_or(Head { kind: String::new(), metadata: Map::new() });
        Subject { json, api_version: object.api_version().to_owned(), kind: head.kind, metadata: head.metadata }
    }

    pub fn of_tree(object: &Object) -> Self {
        Subject {
            json: serde_json::to_vec(object.root()).expect("a tree always encodes"),
            api_version: object.api_version().to_owned(),
            kind: object.kind().to_owned(),
            metadata: object.at(&["metadata"]).cloned().unwrap_or_default(),
        }
    }

    /// Its kind as upstream prints it.
    pub fn gvk(&self) -> String {
        format!("{}, Kind={}", self.api_version, self.kind)
    }
}

/// The review that asks for the subjects in the `apiVersion` `wanted`, under the unique name `uid`.
pub(super) fn question(version: ReviewVersion, uid: &str, wanted: &str, subjects: &[Subject]) -> Vec<u8> {
    let length: usize = subjects.iter().map(|subject| subject.json.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 256);
    let (kind, wanted) = (version.of_group(GROUP), Value::from(wanted));
    let head = format!(r#"{{"kind":"ConversionReview","apiVersion":"{kind}","request":{{"uid":"{uid}","desiredAPIVersion":{wanted},"objects":["#);
    body.extend_from_slice(head.as_bytes());
    for (at, subject) in subjects.iter().enumerate() {
        body.extend_from_slice(if at == 0 { b"" } else { b"," });
        body.extend_from_slice(&subject.json);
    }
    body.extend_from_slice(b"]}}");
    body
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: Option<String>,
    api_version: Option<String>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: Option<String>,
    #[serde(borrow)]
    converted_objects: Option<Vec<&'a RawValue>>,
    result: Option<Outcome>,
}

#[derive(Default, Deserialize)]
struct Outcome {
    status: Option<String>,
    message: Option<String>,
}

/// Reads the answer to a question about `subjects`, the first of which is of the kind `gvk`: the objects, and how long each was.
///
/// # Errors
/// In upstream's words, why it is no answer.
pub(super) fn read(
    body: &[u8],
    version: ReviewVersion,
    uid: &str,
    wanted: &str,
    gvk: &str,
    subjects: Vec<Subject>,
) -> Result<Vec<(Object, usize)>, (Failure, String)> {
    let failed = |kind: Failure, why: String| (kind, format!("conversion webhook for {gvk} failed: {why}"));
    let review: Review<'_> =
        serde_json::from_slice(body).map_err(|error| failed(Failure::Call, format!("couldn't get version/kind; json parse error: {error}")))?;
    let objects = objects(review, version, uid).map_err(|why| failed(Failure::Malformed, why))?;
    if objects.len() != subjects.len() {
        let why = format!("conversion webhook for {gvk} returned {} objects, expected {}", objects.len(), subjects.len());
        return Err((Failure::Partial, why));
    }
    let single = subjects.len() == 1;
    let each = objects.into_iter().zip(subjects).enumerate();
    each.map(|(index, (raw, subject))| {
        let object = taken(raw, wanted, subject).map_err(|fault| (Failure::InvalidObject, fault.told(gvk, index, single)))?;
        Ok((object, raw.get().len()))
    })
    .collect()
}

fn objects<'a>(review: Review<'a>, version: ReviewVersion, uid: &str) -> Result<Vec<&'a RawValue>, String> {
    let (api_version, kind) = (review.api_version.unwrap_or_default(), review.kind.unwrap_or_default());
    if version == ReviewVersion::V1 && (&*api_version, &*kind) != (&*version.of_group(GROUP), "ConversionReview") {
        let found = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
        return Err(format!("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {found}, Kind={kind}"));
    }
    let response = review.response.ok_or("no response provided")?;
    let found = response.uid.unwrap_or_default();
    if version == ReviewVersion::V1 && found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let outcome = response.result.unwrap_or_default();
    match (outcome.status.as_deref().unwrap_or_default(), outcome.message.unwrap_or_default()) {
        ("Success", _) => Ok(response.converted_objects.unwrap_or_default()),
        (status, message) if message.is_empty() => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message),
    }
}

/// What is wrong with an object of an answer; upstream words it differently for an object that was asked for alone.
enum Fault {
    Undecodable(String),
    OfAnotherKind(String),
    Changed(String),
    Metadata(String),
}

impl Fault {
    fn told(self, gvk: &str, index: usize, single: bool) -> String {
        let begin = format!("conversion webhook for {gvk} returned");
        match (self, single) {
            (Fault::Undecodable(why), true) => why,
            (Fault::OfAnotherKind(why), true) => format!("{begin} invalid object at index 0: {why}"),
            (Fault::Changed(why), true) => format!("{begin} invalid object: {why}"),
            (Fault::Metadata(why), true) => format!("{begin} invalid metadata: {why}"),
            (Fault::Metadata(why), false) => format!("{begin} invalid metadata in object at index {index}: {why}"),
            (Fault::Undecodable(why) | Fault::OfAnotherKind(why) | Fault::Changed(why), false) => {
                format!("{begin} invalid converted object at index {index}: {why}")
            }
        }
    }
}

/// The object that a webhook made of a subject, with the metadata that no webhook changes.
fn taken(raw: &RawValue, wanted: &str, subject: Subject) -> Result<Object, Fault> {
    let value = parse_value(raw.get().as_bytes(), Format::Json).map_err(|error| Fault::Undecodable(error.to_string()))?;
    let mut object = Object::from_value(value).ok_or_else(|| Fault::Undecodable("the object is no JSON object".to_owned()))?;
    if object.kind().is_empty() {
        return Err(Fault::Undecodable("Object 'Kind' is missing".to_owned()));
    }
    let (expected, received) = (GroupVersion::parse(wanted), GroupVersion::parse(object.api_version()));
    if expected != received {
        let why = format!("invalid groupVersion (expected {wanted}, received {})", object.api_version());
        return Err(Fault::OfAnotherKind(why));
    }
    if object.kind() != subject.kind {
        return Err(Fault::OfAnotherKind(format!("invalid kind (expected {}, received {})", subject.kind, object.kind())));
    }
    for (name, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (before, after) = (subject.metadata.get(field).and_then(Value::as_str).unwrap_or_default(), object.str(&["metadata", field]));
        if before != after {
            return Err(Fault::Changed(format!("must have the same {name}: {before} != {after}")));
        }
    }
    let metadata = restored(object.remove(&["metadata"]), subject.metadata).map_err(Fault::Metadata)?;
    object.root_mut().insert("metadata".to_owned(), Value::Object(metadata));
    Ok(object)
}

/// The metadata of a converted object: all of the original but labels and annotations, which are the webhook's.
fn restored(converted: Option<Value>, mut original: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut converted = match converted {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(fields)) => fields,
        Some(other) => return Err(format!("invalid metadata of type {} in converted object", go_type(&other))),
    };
    for field in ["labels", "annotations"] {
        let own = match converted.remove(field) {
            None | Some(Value::Null) => {
                original.remove(field);
                continue;
            }
            Some(Value::Object(own)) => own,
            Some(other) => return Err(format!("invalid metadata.{field} of type {} in converted object", go_type(&other))),
        };
        if let Some((key, value)) = own.iter().find(|(_, value)| !value.is_string()) {
            return Err(format!("metadata.{field}[{key}] must be a string, but is {} in converted object", go_type(value)));
        }
        let own = Value::Object(own);
        if original.get(field) != Some(&own) {
            let mut errors = Vec::new();
            match field {
                "labels" => labels::labels(&mut errors, "metadata.labels", &own),
                _ => annotations(&mut errors, "metadata.annotation", &own),
            }
            if !errors.is_empty() {
                return Err(aggregate(&errors));
            }
        }
        original.insert(field.to_owned(), own);
    }
    Ok(original)
}

fn aggregate(errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if let [one] = &*texts { one.clone() } else { format!("[{}]", texts.join(", ")) }
}

/// The type of a value as Go prints it.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What the fuzzer asks.
#[doc(hidden)]
pub mod fuzzing {
    use super::*;

    /// Reads an answer to a question `u` about one object, in the newer and in the older form: how many objects it has, if it is an answer.
    pub fn counts(body: &[u8]) -> [Option<usize>; 2] {
        [ReviewVersion::V1, ReviewVersion::V1Beta1].map(|version| {
            let metadata = Map::from_iter([("name".to_owned(), Value::from("a"))]);
            let subject = Subject { json: Vec::new(), api_version: "example.com/v1".into(), kind: "Widget".into(), metadata };
            read(body, version, "u", "example.com/v2", "example.com/v1, Kind=Widget", vec![subject]).ok().map(|objects| objects.len())
        })
    }
}
