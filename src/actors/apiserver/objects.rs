//! Bodies to object trees and back: decoding, defaulting and patching by schema, field ownership.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use troupe_api::{
    meta::{GroupVersion, GroupVersionKind, Object},
    patch::ownership::{self, Unconverted, Versions},
    protobuf,
    resources::{
        SchemaSource,
        forms::{self, schema_of},
    },
    schema::{Format, Schema, Schemas, decode::parse_value, error::unrecognized, strict},
    service::{Body, FieldValidation, PatchType, Target, WriteOptions},
    status::{FieldError, Status, quoted},
};

use super::writer::Writer;

/// A decoded body with the warnings it earned.
pub struct Decoded {
    pub object: Object,
    pub warnings: Vec<String>,
}

/// The schema of the objects of a target, in the version that the client speaks.
pub fn schema(target: &Target) -> Result<Arc<Schema>, Status> {
    schema_of(&target.served().schema)
}

/// The schema of the objects of a target, as writes work on them.
fn working_schema(target: &Target) -> Result<Arc<Schema>, Status> {
    schema_of(&target.resource.working(&target.version).schema)
}

/// The schema of the bodies that a target takes: of its subresource, where that has a kind of its own.
pub fn body_schema(target: &Target) -> Result<Arc<Schema>, Status> {
    let own = target.resource.gvk(&target.version);
    match target.served().subresource(&target.subresource).map(|subresource| target.resource.subresource_gvk(subresource, &target.version)) {
        Some(gvk) if gvk != own => schema_of(&SchemaSource::Builtin(gvk)),
        _ => schema(target),
    }
}

/// Decodes a body by its schema, without defaults.
pub fn decode(schema: &Schema, body: Body, validation: FieldValidation) -> Result<Decoded, Status> {
    let gvk = &schema.gvk;
    let sent = match &body {
        Body::Json(bytes) | Body::Yaml(bytes) | Body::Protobuf(bytes) => Some(bytes.clone()),
        Body::Tree(_) => None,
    };
    let decoded = match body {
        Body::Json(bytes) => schema.decode(&bytes, Format::Json),
        Body::Yaml(bytes) => schema.decode(&bytes, Format::Yaml),
        Body::Protobuf(bytes) => schema.decode_raw(protobuf::to_json(&bytes)?.into()),
        Body::Tree(object) => schema.normalise(object),
    };
    let decoded = decoded.map_err(|error| error.into_status(schema, sent.as_deref().unwrap_or_default()))?;
    if let Some(sent) = sent.filter(|_| schema.root_struct().lenient) {
        check_named(gvk, &decoded.object, &sent, validation)?;
    }
    check_kind(schema, &decoded.object)?;
    let (mut object, warnings) = decoded.checked(validation, schema)?;
    object.set_gvk(gvk);
    Ok(Decoded { object, warnings })
}

/// 400 when the body of a custom resource does not say its kind and version: nothing stands in for them.
fn check_named(gvk: &GroupVersionKind, object: &Object, body: &[u8], validation: FieldValidation) -> Result<(), Status> {
    if object.kind().is_empty() {
        if validation == FieldValidation::Ignore {
            return Err(without_kind(gvk, object, body));
        }
        let body_text = String::from_utf8_lossy(body);
        return Err(unrecognized(&gvk.kind, &format!("Object 'Kind' is missing in '{}'", quoted(&body_text)), body));
    }
    if object.api_version().is_empty() { Err(of_another_version(gvk, object)) } else { Ok(()) }
}

/// The same where nobody asks for unknown fields: upstream reads the body another way then, as JSON and with the kind that it expects.
fn without_kind(gvk: &GroupVersionKind, object: &Object, body: &[u8]) -> Status {
    let text = match body.trim_ascii() {
        json @ [b'{', ..] => String::from_utf8_lossy(json).into_owned(),
        yaml => parse_value(yaml, Format::Yaml).map(|value| value.to_string()).unwrap_or_default(),
    };
    let version = GroupVersion::parse(sent(object.api_version(), &gvk.api_version())).version;
    strict::cannot_be_handled(&gvk.kind, &version, format!("Object 'Kind' is missing in '{}'", quoted(&text)))
}

/// Older versions of kinds, which are not served any more, and whose bodies are taken: they look the same. Kind, version, older version.
const OLDER: [(&str, &str, &str); 1] = [("Eviction", "policy/v1", "policy/v1beta1")];

/// 400 when the body names another kind or version than the URL; 422 where it is a custom resource of another kind.
fn check_kind(schema: &Schema, object: &Object) -> Result<(), Status> {
    let gvk = &schema.gvk;
    if schema.root_struct().lenient {
        return match (object.api_version(), object.kind()) {
            (api_version, _) if !api_version.is_empty() && api_version != gvk.api_version() => Err(of_another_version(gvk, object)),
            (_, kind) if !kind.is_empty() && *kind != *gvk.kind => Err(wrong(gvk, object, "kind", kind, &gvk.kind)),
            _ => Ok(()),
        };
    }
    if OLDER.iter().any(|older| older == &(object.kind(), &*gvk.api_version(), object.api_version())) {
        return Ok(());
    }
    if let Some(why) = unconvertible(gvk, object) {
        let (version, kind) = (GroupVersion::parse(sent(object.api_version(), &gvk.api_version())).version, sent(object.kind(), &gvk.kind));
        let (version, kind) = (quoted(&version), quoted(kind));
        return Err(Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {why}", gvk.kind)));
    }
    let api_version = object.api_version();
    if api_version.is_empty() || api_version == gvk.api_version() { Ok(()) } else { Err(of_another_version(gvk, object)) }
}

/// What a body says, or what stands in for it.
fn sent<'a>(said: &'a str, expected: &'a str) -> &'a str {
    if said.is_empty() { expected } else { said }
}

/// Why an object of a built-in kind is none of the kind that is expected, in whatever version.
fn unconvertible(gvk: &GroupVersionKind, object: &Object) -> Option<String> {
    let expected = gvk.api_version();
    let (api_version, kind) = (sent(object.api_version(), &expected), sent(object.kind(), &gvk.kind));
    let GroupVersion { group, version } = GroupVersion::parse(api_version);
    let is_same = *kind == *gvk.kind && group == gvk.group;
    if is_same && version == gvk.version {
        return None;
    }
    match Schemas::builtin().get(&GroupVersionKind::new(group, version.clone(), kind)) {
        Some(_) if is_same => None,
        Some(_) => Some(format!("converting ({version}.{kind}) to ({}.{}): unknown conversion", internal_package(&gvk.group), gvk.kind)),
        None => {
            let (kind, api_version) = (quoted(kind), quoted(api_version));
            Some(format!("no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""))
        }
    }
}

/// The package of upstream's internal types of a group.
fn internal_package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        first => first,
    }
}

fn of_another_version(gvk: &GroupVersionKind, object: &Object) -> Status {
    let (expected, api_version) = (gvk.api_version(), quoted(object.api_version()));
    Status::bad_request(format!("the API version in the data ({api_version}) does not match the expected API version ({expected})"))
}

/// The 422 of a custom resource whose `field` says something else than its definition.
fn wrong(gvk: &GroupVersionKind, object: &Object, field: &str, value: &str, expected: &str) -> Status {
    let error = FieldError::invalid(field, value, format!("must be {expected}"));
    Status::invalid(&gvk.group, &quoted(sent(object.kind(), &gvk.kind)), object.name(), vec![error])
}

/// What a patch made of an object's kind and version: a strategic one changes neither, whatever it says.
fn check_patched(schema: &Schema, patch_type: PatchType, object: &Object) -> Result<(), Status> {
    let gvk = &schema.gvk;
    let api_version = object.api_version();
    if patch_type == PatchType::StrategicMerge {
        return Ok(());
    }
    if schema.root_struct().lenient && !api_version.is_empty() && api_version != gvk.api_version() {
        return Err(wrong(gvk, object, "apiVersion", api_version, &gvk.api_version()));
    }
    match unconvertible(gvk, object).filter(|_| !schema.root_struct().lenient) {
        Some(why) => {
            let patched = object.clone().into_value().to_string();
            Err(Status::invalid("", "", "", vec![FieldError::invalid("patch", patched, why)]))
        }
        None => check_kind(schema, object),
    }
}

/// Brings a decoded object into the form that writes work on, with all defaults.
pub fn finish(target: &Target, object: &mut Object) -> Result<(), Status> {
    forms::to_working_form(&target.resource, &target.version, object)
}

/// An object in its working form in the version that the client speaks.
fn served_form(target: &Target, stored: &Object) -> Object {
    forms::served_form(&target.resource, &target.version, stored)
}

/// What the schema misses in a new object, beside what the kind's own rules found already.
pub fn missing_fields(target: &Target, object: &Object, found: &[FieldError]) -> Result<Vec<FieldError>, Status> {
    let schema = working_schema(target)?;
    let mut missing = troupe_api::schema::validate(&schema, object);
    let found: HashSet<&str> = found.iter().map(|error| &*error.field).collect();
    missing.retain(|error| !found.contains(&*error.field) && !is_below(&found, &error.field));
    Ok(missing)
}

/// Whether something is wrong with what holds a field: upstream does not look into it then.
fn is_below(found: &HashSet<&str>, field: &str) -> bool {
    field.match_indices(['.', '[']).any(|(at, _)| found.contains(&field[..at]))
}

/// Applies a JSON, merge or strategic patch to the current object, in the version that the client speaks.
pub fn patch(target: &Target, patch_type: PatchType, current: &Object, patch: &Bytes, options: &WriteOptions) -> Result<Decoded, Status> {
    let schema = schema(target)?;
    let patched = troupe_api::patch::apply_checked(patch_type, patch, &served_form(target, current), &schema, options.field_validation)?;
    check_patched(&schema, patch_type, &patched.object)?;
    let mut object = patched.object;
    object.set_gvk(&schema.gvk);
    Ok(Decoded { object, warnings: patched.warnings })
}

/// Records in `managedFields` who owns what changed between `old` and `new`, which is as it will be stored.
///
/// # Errors
/// Where objects are not known in the versions of other managers.
pub fn track(writer: &Writer, old: Option<&Object>, new: &mut Object, versions: &dyn Versions, now: jiff::Timestamp) -> Result<(), Unconverted> {
    let schema = working_schema(&writer.target)?;
    ownership::track_across(old, new, manager(writer), &schema, versions, now)
}

/// Records in `managedFields` who owns what of an object that is answered and not stored.
///
/// # Errors
/// Where the kind is not known.
pub fn own_answered(writer: &Writer, object: &mut Object, now: jiff::Timestamp) -> Result<(), Status> {
    let schema = body_schema(&writer.target)?;
    ownership::track_update(None, object, manager(writer), &schema, now);
    Ok(())
}

fn manager(writer: &Writer) -> ownership::Manager<'_> {
    let status_resets = writer.target.served().strategy.status_resets();
    ownership::Manager { name: &writer.options.field_manager, subresource: &writer.target.subresource, status_resets }
}

/// Server-side apply: what becomes of `current` (nothing, if it does not exist) under the applied configuration.
/// The result carries its managedFields.
///
/// # Errors
/// Conflicts, what is wrong with the patch, and where objects are not known in the versions of other managers.
pub fn apply(
    writer: &Writer,
    current: Option<&Object>,
    patch: &Bytes,
    versions: &dyn Versions,
    now: jiff::Timestamp,
) -> Result<Decoded, Unconverted> {
    let schema = schema(&writer.target)?;
    let decoded = troupe_api::patch::decode_apply(patch, &schema)?;
    let current = current.map(|current| served_form(&writer.target, current));
    let object = ownership::apply_across(current.as_ref(), &decoded.object, manager(writer), writer.options.force, (&*schema, versions), now)?;
    let warnings = strict::check_applied(&decoded.problems, writer.options.field_validation)?;
    Ok(Decoded { object, warnings })
}

/// Whether two trees are the same object, whatever the order of their fields.
pub fn same_content(left: &Object, right: &Object) -> bool {
    left == right
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(gvk: (&str, &str, &str), api_version: &str, kind: &str) -> Option<String> {
        let object = Object::from_value(json!({"apiVersion": api_version, "kind": kind})).expect("an object");
        let schema = Schemas::builtin().get(&GroupVersionKind::new(gvk.0, gvk.1, gvk.2)).expect("a built-in kind");
        check_kind(&schema, &object).err().map(|status| status.message)
    }

    #[test]
    fn a_body_of_another_kind_is_refused_in_upstreams_words() {
        let config_map = ("", "v1", "ConfigMap");
        let nobody = "in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
        let unregistered = |kind: &str, short: &str, version: &str| {
            format!("{kind} in version {short:?} cannot be handled as a ConfigMap: no kind {kind:?} is registered for version {version:?} {nobody}")
        };
        assert_eq!(said(config_map, "v1", "ConfigMap"), None);
        assert_eq!(said(config_map, "", ""), None);
        assert_eq!(said(config_map, "v2", "ConfigMap"), Some(unregistered("ConfigMap", "v2", "v2")));
        assert_eq!(said(config_map, "apps/v1", "ConfigMap"), Some(unregistered("ConfigMap", "v1", "apps/v1")));
        assert_eq!(said(config_map, "v1", "configmap"), Some(unregistered("configmap", "v1", "v1")));
        let secret = "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion";
        assert_eq!(said(config_map, "v1", "Secret"), Some(secret.to_owned()));
        let scaler = ("autoscaling", "v1", "HorizontalPodAutoscaler");
        let version = "the API version in the data (autoscaling/v2) does not match the expected API version (autoscaling/v1)";
        assert_eq!(said(scaler, "autoscaling/v2", "HorizontalPodAutoscaler"), Some(version.to_owned()));
    }

    #[test]
    fn what_stands_in_a_wrong_place_is_not_looked_into() {
        let found = HashSet::from(["spec.volumes[0].csi"]);
        assert!(is_below(&found, "spec.volumes[0].csi.driver"));
        assert!(!is_below(&found, "spec.volumes[0].csi") && !is_below(&found, "spec.volumes[0].csiOther.driver"));
    }

    #[test]
    fn an_eviction_of_the_older_version_is_one() {
        assert_eq!(said(("policy", "v1", "Eviction"), "policy/v1beta1", "Eviction"), None);
    }
}
