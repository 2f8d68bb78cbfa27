//! Bodies: objects in JSON, YAML and protobuf, options of deletions, what the store holds.

use bytes::Bytes;
use serde_json::Value;
use troupe_api::{
    meta::{GroupVersionKind, Object, Revision},
    schema::{Format, Schema, Schemas},
    service::FieldValidation,
    stored::{StoredObject, encode_for_store},
};
use troupe_api_server::{
    admission::webhook_fuzzing,
    conversion,
    http::fuzzing::{self, InputFormat, Query},
};

use super::at_once;
use crate::budget;

/// The kinds whose bodies are decoded: small and large ones, and one that keeps fields nobody knows.
const KINDS: [(&str, &str, &str); 6] = [
    ("", "v1", "Pod"),
    ("", "v1", "ConfigMap"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("", "v1", "Secret"),
];

/// The schema that the first byte chooses, and the rest.
pub fn chosen(data: &[u8]) -> Option<(std::sync::Arc<Schema>, &[u8])> {
    let (first, rest) = data.split_first()?;
    let (group, version, kind) = KINDS[usize::from(*first) % KINDS.len()];
    Some((Schemas::builtin().get(&GroupVersionKind::new(group, version, kind))?, rest))
}

pub fn json(data: &[u8]) {
    decode(data, Format::Json);
}

pub fn yaml(data: &[u8]) {
    decode(data, Format::Yaml);
}

/// What decodes is encoded, and decodes to itself without a complaint.
fn decode(data: &[u8], format: Format) {
    let Some((schema, body)) = chosen(data) else { return };
    let Ok(decoded) = budget::hold(body.len(), || schema.decode(body, format)) else { return };
    let Ok((object, _)) = decoded.checked(FieldValidation::Warn, &schema) else { return };
    let encoded = serde_json::to_vec(object.root()).expect("a tree encodes");
    let again = schema.decode(&encoded, Format::Json).expect("what was decoded decodes again");
    assert!(again.problems.is_empty(), "{:?}", again.problems);
    assert_eq!(again.object, object, "decoding changes what it made");
    let mut defaulted = object;
    schema.apply_defaults(&mut defaulted);
    let once = defaulted.clone();
    schema.apply_defaults(&mut defaulted);
    assert_eq!(defaulted, once, "defaults are applied once");
}

/// A message that is understood is written again, and says the same.
pub fn protobuf(data: &[u8]) {
    let Ok(value) = budget::hold(data.len(), || fuzzing::to_json(data)) else { return };
    let Some(message) = fuzzing::document(&value) else { return };
    let again = fuzzing::to_json(&message).expect("what was written is understood");
    let message = fuzzing::document(&again).expect("of the same kind");
    assert_eq!(fuzzing::to_json(&message).expect("understood"), again, "writing changes what it wrote");
}

pub fn delete_options(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let (query, body) = match first % 4 {
        0 => (Query::parse(&String::from_utf8_lossy(body)), Bytes::new()),
        _ => (Query::default(), Bytes::copy_from_slice(body)),
    };
    let format = [InputFormat::Json, InputFormat::Yaml, InputFormat::Protobuf][usize::from(first / 4) % 3];
    // What is longer is decoded by another thread, whose memory is not counted here.
    if body.len() < 64 << 10 {
        let _ = budget::hold(data.len(), || at_once(fuzzing::delete_options(&query, format, body, first % 2 == 0)));
    }
}

/// What lies in a store, which others may have written.
pub fn stored(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(object) = budget::hold(data.len(), || StoredObject::new(bytes, Revision(1))) else { return };
    budget::hold(data.len(), || drop(object.to_json()));
    let Ok(Value::Object(root)) = serde_json::from_slice(data) else { return };
    let encoded = encode_for_store(&Object::new(root));
    let again = StoredObject::new(encoded, Revision(1)).expect("what we encode is an object");
    assert_eq!(again.key, object.key);
}

/// What is an answer in the newer form is one in the older, which is held to less; and no patch is longer than the body it came in.
pub fn webhook_answer(data: &[u8]) {
    for mutating in [true, false] {
        let [newer, older] = budget::hold(data.len(), || webhook_fuzzing::patch_lengths(data, mutating));
        assert!(newer.is_none() || newer == older);
        assert!(older.is_none_or(|length| length <= data.len()));
        assert!(mutating || older.is_none_or(|length| length == 0));
    }
}

/// What is an answer to one question about one object has one object, and what is one in the newer form is one in the older.
pub fn conversion_answer(data: &[u8]) {
    let [newer, older] = budget::hold(data.len(), || conversion::fuzzing::counts(data));
    assert!(newer.is_none() || newer == older);
    assert!(older.is_none_or(|count| count == 1));
}
