//! The ways to change part of an object: JSON patch, merge patch, strategic merge patch and server-side apply.
//!
//! In comes the patch as the client sent it, the current object and the schema; out goes the whole new object, pruned
//! and canonical, or a `Status` as upstream words it.

pub mod json;
mod merge;
pub mod ownership;
pub mod strategic;

use serde_json::Value;

use crate::{
    meta::{
        GroupVersion, GroupVersionKind, Object,
        request::{FieldValidation, PatchType},
    },
    schema::{
        Decoded, Format, Schema, StrictProblem, conversion,
        decode::{parse, parse_either, parse_noting},
        duplicates,
        raw::Raw,
    },
    status::{FieldError, Reason, Status, quoted},
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
    let (patched, mut problems) = carry_out(patch_type, patch, current, schema)?;
    // Trees may be large, and refusals are few: the text is made again then.
    let refused = |why: &str| match carry_out(patch_type, patch, current, schema) {
        Ok((patched, _)) => invalid_patch(&shown(patch_type, patch, &patched), why),
        Err(status) => status,
    };
    let strategic = patch_type == PatchType::StrategicMerge;
    let raw = Raw::from(patched);
    let decoded = match if strategic { schema.convert(raw) } else { schema.decode_raw(raw) } {
        Ok(decoded) => decoded,
        Err(error) => return Err(refused(&error.to_string())),
    };
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

/// The patched tree, and the strict problems of the patch.
fn carry_out(patch_type: PatchType, patch: &[u8], current: &Object, schema: &Schema) -> Result<(Value, Vec<String>), Status> {
    let original = current.clone().into_value();
    match patch_type {
        PatchType::Json => json::apply(patch, original),
        PatchType::Merge => {
            let (patch, problems) = parse_patch(patch, "error decoding patch: ")?;
            Ok((merge::apply(original, patch), problems))
        }
        PatchType::StrategicMerge => {
            let (patch, problems) = parse_patch(patch, "")?;
            Ok((strategic::apply(original, patch, &schema.root)?, problems))
        }
        PatchType::Apply => Err(Status::bad_request("server-side apply goes with a field manager")),
    }
}

/// Decodes the body of a server-side apply: an object in YAML or JSON, of which nothing needs to be there but its kind.
/// Unknown fields, and two items of one key in a list, are an error whatever `fieldValidation` says; the problems that are left are
/// keys that stand twice.
pub fn decode_apply(patch: &[u8], schema: &Schema) -> Result<Decoded, Status> {
    let (raw, mut repeated) = parse_either(patch).map_err(|error| error.into_bad_request("error decoding YAML: "))?;
    if !matches!(raw, Raw::Object(_)) {
        let found = raw.describe(false);
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    check_type(&raw, &schema.gvk)?;
    let decoded = schema.decode_applied(raw).map_err(|error| wrong_types(patch, schema).unwrap_or_else(|| error.into_status(schema, patch)))?;
    let mut wrong: Vec<String> = decoded.unknown().map(|path| format!(".{path}: field not declared in schema")).collect();
    wrong.extend(ownership::repeated(decoded.object.root(), &schema.root));
    if schema.root_struct().lenient {
        wrong.extend(ownership::mistyped(decoded.object.root(), &schema.root));
    }
    if wrong.is_empty() {
        if decoded.duplicate().next().is_some() {
            // Its JSON is YAML, and upstream reads it so.
            repeated = parse_noting(patch, Format::Yaml).map_or(decoded.problems, |(_, repeated)| repeated);
        }
        return Ok(Decoded { object: decoded.object, problems: repeated });
    }
    Err(untyped(&decoded.object, schema, &wrong))
}

/// The 500 of a configuration with values of wrong types; `None` where it is wrong otherwise.
fn wrong_types(patch: &[u8], schema: &Schema) -> Option<Status> {
    let (raw, _) = parse_either(patch).ok()?;
    let object = Object::from_value(raw.into_value()).unwrap_or_default();
    let wrong = ownership::mistyped(object.root(), &schema.root);
    (!wrong.is_empty()).then(|| untyped(&object, schema, &wrong))
}

/// Upstream's answer to a configuration that is no object of its kind.
fn untyped(object: &Object, schema: &Schema, wrong: &[String]) -> Status {
    let listed = match wrong {
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let (namespace, name) = (quoted(object.namespace()), quoted(object.name()));
    let GroupVersionKind { group, version, kind } = &schema.gvk;
    let object = format!("{namespace}/{name}; {group}/{version}, Kind={kind}");
    Status::new(500, Reason::Unknown, format!("failed to create typed patch object ({object}): {listed}"))
}

/// 400 unless a configuration names the kind and version that it is applied to.
fn check_type(raw: &Raw, gvk: &GroupVersionKind) -> Result<(), Status> {
    let text = |name: &str| raw.get(name).and_then(Raw::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version == gvk.api_version() && *kind == *gvk.kind {
        return Ok(());
    }
    let GroupVersion { group, version } = GroupVersion::parse(api_version);
    Err(Status::bad_request(format!("invalid object type: {}/{}, Kind={}", quoted(&group), quoted(&version), quoted(kind))))
}

/// The 422 of a patch whose result is no object of its kind.
fn invalid_patch(shown: &str, why: &str) -> Status {
    Status::invalid("", "", "", vec![FieldError::invalid("patch", shown, quoted(why))])
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
    let status = Status::new(422, Reason::Invalid, "the server rejected our request due to an error in our request");
    Status { details: Some(Box::default()), ..status }
}

/// A merge patch as JSON, with its duplicate fields. `refused` is what a refusal begins with.
fn parse_patch(patch: &[u8], refused: &str) -> Result<(Value, Vec<String>), Status> {
    let raw = parse(patch, Format::Json).map_err(|error| error.into_bad_request(refused))?;
    if !matches!(raw, Raw::Object(_)) {
        let kind = raw.describe(false);
        return Err(Status::bad_request(format!("{refused}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")));
    }
    let problems = duplicates(&raw);
    Ok((raw.into_value(), problems.iter().map(ToString::to_string).collect()))
}

/// Finds duplicate fields where no schema says what the fields are.
fn duplicates(raw: &Raw) -> Vec<StrictProblem> {
    let mut problems = Vec::new();
    duplicates::find(&mut String::new(), raw, &mut problems);
    problems
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod tests;
