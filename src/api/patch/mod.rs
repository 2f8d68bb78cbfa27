//! The ways to change part of an object: JSON patch, merge patch, strategic merge patch and server-side apply.
//!
//! In comes the patch as the client sent it, the current object and the schema; out goes the whole new object, pruned
//! and canonical, or a `Status` as upstream words it.

mod json;
mod merge;
pub mod ownership;
pub mod strategic;

use serde_json::Value;

use crate::{
    meta::Object,
    schema::{
        DecodeError, Decoded, Format, Schema, StrictProblem, conversion,
        decode::parse,
        raw::Raw,
        strict::{self, FieldPath},
    },
    service::{FieldValidation, PatchType},
    status::{FieldError, Reason, Status},
};

/// An object after a patch.
#[derive(Clone, Debug)]
pub struct Patched {
    pub object: Object,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Applies a patch, unknown fields dropped silently. See [`apply_checked`].
pub fn apply(patch_type: PatchType, patch: &[u8], current: &Object, schema: &Schema) -> Result<Object, Status> {
    apply_checked(patch_type, patch, current, schema, FieldValidation::Ignore).map(|patched| patched.object)
}

/// Applies a JSON, merge or strategic merge patch. Unknown and duplicate fields give warnings or a 422, as `validation` says.
/// Server-side apply needs a manager and goes through [`decode_apply`] and [`ownership::apply`].
pub fn apply_checked(patch_type: PatchType, patch: &[u8], current: &Object, schema: &Schema, validation: FieldValidation) -> Result<Patched, Status> {
    let original = current.clone().into_value();
    let (patched, mut problems) = match patch_type {
        PatchType::Json => json::apply(patch, original)?,
        PatchType::Merge => {
            let (patch, problems) = parse_patch(patch, "error decoding patch: ")?;
            (merge::apply(original, patch), problems)
        }
        PatchType::StrategicMerge => {
            let (patch, problems) = parse_patch(patch, "")?;
            (strategic::apply(original, patch, &schema.root)?, problems)
        }
        PatchType::Apply => return Err(Status::bad_request("server-side apply goes with a field manager")),
    };
    let refused = |why: &str| invalid_patch(&shown(patch_type, patch, &patched), why);
    let strategic = patch_type == PatchType::StrategicMerge;
    let raw = Raw::from(patched.clone());
    let decoded = if strategic { schema.convert(raw) } else { schema.decode_raw(raw) };
    let decoded = decoded.map_err(|(DecodeError::Syntax(why) | DecodeError::Type(why))| refused(&why))?;
    let mut found: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    if strategic {
        found.sort_unstable();
    }
    problems.append(&mut found);
    let warnings = match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(refused(&format!("strict decoding error: {}", problems.join(", "))));
        }
        FieldValidation::Warn => problems,
        FieldValidation::Strict | FieldValidation::Ignore => Vec::new(),
    };
    Ok(Patched { object: decoded.object, warnings })
}

/// Decodes the body of a server-side apply: an object in YAML or JSON, of which nothing needs to be there but its kind.
/// Unknown fields are an error whatever `fieldValidation` says; the problems that are left are duplicates.
pub fn decode_apply(patch: &[u8], schema: &Schema) -> Result<Decoded, Status> {
    let raw = parse(patch, Format::Yaml).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    if !matches!(raw, Raw::Object(_)) {
        return Err(Status::bad_request("error decoding YAML: the patch is no object"));
    }
    let decoded = schema.decode_applied(raw).map_err(|error| error.into_status(schema))?;
    let unknown = decoded.unknown().map(|path| format!(".{path}: field not declared in schema")).collect::<Vec<_>>();
    let listed = match unknown.as_slice() {
        [] => return Ok(decoded),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let (namespace, name, gvk) = (decoded.object.namespace(), decoded.object.name(), &schema.gvk);
    Err(Status::new(500, Reason::Unknown, format!("failed to create typed patch object ({namespace}/{name}; {gvk}): {listed}")))
}

/// The 422 of a patch whose result is no object of its kind.
fn invalid_patch(shown: &str, why: &str) -> Status {
    Status::invalid("", "", "", vec![FieldError::invalid("patch", shown, why)])
}

/// What such an answer shows: the result, of a strategic merge patch the patch without the directives that are used up.
fn shown(patch_type: PatchType, patch: &[u8], patched: &Value) -> String {
    match parse(patch, Format::Json) {
        Ok(patch) if patch_type == PatchType::StrategicMerge => conversion::printed(&strategic::without_orders(patch.into_value())),
        _ => patched.to_string(),
    }
}

/// The 422 of a patch that cannot be carried out; upstream hides why.
fn rejected() -> Status {
    Status::new(422, Reason::Invalid, "the server rejected our request due to an error in our request")
}

/// A merge patch as JSON, with its duplicate fields. `refused` is what a refusal begins with.
fn parse_patch(patch: &[u8], refused: &str) -> Result<(Value, Vec<String>), Status> {
    let raw = parse(patch, Format::Json).map_err(|error| Status::bad_request(format!("{refused}{error}")))?;
    if !matches!(raw, Raw::Object(_)) {
        let kind = raw.describe(false);
        return Err(Status::bad_request(format!("{refused}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")));
    }
    let mut problems = Vec::new();
    duplicates(&raw, "", &mut problems);
    problems.truncate(strict::PROBLEM_LIMIT);
    Ok((raw.into_value(), problems.iter().map(ToString::to_string).collect()))
}

/// Finds duplicate fields where no schema says what the fields are.
fn duplicates(raw: &Raw, path: &str, problems: &mut Vec<StrictProblem>) {
    match raw {
        Raw::Object(fields) => {
            for (index, (name, value)) in fields.iter().enumerate() {
                let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                    problems.push(StrictProblem::Duplicate(FieldPath(here.clone())));
                }
                duplicates(value, &here, problems);
            }
        }
        Raw::List(items) => items.iter().enumerate().for_each(|(index, item)| duplicates(item, &format!("{path}[{index}]"), problems)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
