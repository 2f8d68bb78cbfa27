//! JSON patch (RFC 6902).

use serde_json::Value;

use super::{duplicates, rejected};
use crate::{
    schema::{Format, decode::parse},
    status::{Reason, Status},
};

/// Upstream takes no more operations in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// The patched object and the strict problems of the patch itself.
pub fn apply(patch: &[u8], mut object: Value) -> Result<(Value, Vec<String>), Status> {
    let bad = |error: &dyn std::fmt::Display| Status::bad_request(format!("error decoding patch: {error}"));
    let raw = parse(patch, Format::Json).map_err(|error| bad(&error))?;
    let mut problems = Vec::new();
    duplicates(&raw, "", &mut problems);
    let mut operations = raw.into_value();
    let Some(listed) = operations.as_array_mut() else {
        return Err(bad(&"json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
    };
    if listed.len() > MAX_OPERATIONS {
        let message = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", listed.len());
        return Err(Status::new(413, Reason::RequestEntityTooLarge, message));
    }
    for operation in listed.iter_mut() {
        resolve_negative_index(operation, &object);
        let patch: json_patch::PatchOperation = serde_json::from_value(operation.clone()).map_err(|error| Status::bad_request(error.to_string()))?;
        json_patch::patch(&mut object, &[patch]).map_err(|_| rejected())?;
    }
    let problems = problems.iter().map(|problem| format!("json patch {problem}")).collect();
    Ok((object, problems))
}

/// Upstream counts negative list indices from the end; RFC 6902 has none.
fn resolve_negative_index(operation: &mut Value, object: &Value) {
    let Some(path) = operation["path"].as_str() else { return };
    let last = path.matches('/').count();
    let adds = operation["op"] == "add";
    let mut resolved = String::new();
    for (position, part) in path.split('/').enumerate().skip(1) {
        let back = part.strip_prefix('-').and_then(|digits| digits.parse::<usize>().ok());
        let length = object.pointer(&resolved).and_then(Value::as_array).map(|items| items.len() + usize::from(adds && position == last));
        let index = back.zip(length).and_then(|(back, length)| length.checked_sub(back));
        resolved.push('/');
        resolved.push_str(&index.map_or_else(|| part.to_owned(), |index| index.to_string()));
    }
    operation["path"] = resolved.into();
}
