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
    schema::{Format, Schema, strict},
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
    let shown = match &body {
        Body::Json(bytes) | Body::Yaml(bytes) | Body::Protobuf(bytes) => bytes.clone(),
        Body::Tree(_) => Bytes::new(),
    };
    let decoded = match body {
        Body::Json(bytes) => schema.decode(&bytes, Format::Json),
        Body::Yaml(bytes) => schema.decode(&bytes, Format::Yaml),
        Body::Protobuf(bytes) => schema.decode_raw(protobuf::to_json(&bytes)?.into()),
        Body::Tree(object) => schema.normalise(object),
    };
    let decoded = decoded.map_err(|error| error.into_status(schema, &shown))?;
    check_kind(gvk, &decoded.object)?;
    let (mut object, warnings) = decoded.checked(validation, schema)?;
    object.set_gvk(gvk);
    Ok(Decoded { object, warnings })
}

/// Older versions of kinds, which are not served any more, and whose bodies are taken: they look the same. Kind, version, older version.
const OLDER: [(&str, &str, &str); 1] = [("Eviction", "policy/v1", "policy/v1beta1")];

/// 400 when the body names another kind or version than the URL.
fn check_kind(gvk: &GroupVersionKind, object: &Object) -> Result<(), Status> {
    let (kind, api_version, expected) = (object.kind(), object.api_version(), gvk.api_version());
    let is_older = OLDER.iter().any(|(kind, version, older)| **kind == *gvk.kind && *version == expected && *older == api_version);
    let other_version = !api_version.is_empty() && api_version != expected && !is_older;
    let other_kind = !kind.is_empty() && *kind != *gvk.kind;
    if (other_version || other_kind) && is_builtin(gvk.clone()) {
        let given_version = if api_version.is_empty() { expected.as_str() } else { api_version };
        check_registered(gvk, given_version, if kind.is_empty() { &*gvk.kind } else { kind })?;
    }
    if other_version {
        let api_version = quoted(api_version);
        return Err(Status::bad_request(format!("the API version in the data ({api_version}) does not match the expected API version ({expected})")));
    }
    if other_kind {
        return Err(unhandled(gvk, kind, &gvk.version, "unknown conversion"));
    }
    Ok(())
}

/// What upstream says of a body for a built-in kind: that nobody knows its kind, or that this is no such object.
fn check_registered(gvk: &GroupVersionKind, api_version: &str, kind: &str) -> Result<(), Status> {
    let GroupVersion { group, version } = GroupVersion::parse(api_version);
    if !is_builtin(GroupVersionKind::new(group, version.clone(), kind)) {
        let (kind, api_version) = (quoted(kind), quoted(api_version));
        let why = format!("no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"");
        return Err(unhandled(gvk, &kind, &version, &why));
    }
    if *kind != *gvk.kind {
        let package = if gvk.group.is_empty() { "core" } else { gvk.group.split('.').next().unwrap_or_default() };
        let why = format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", gvk.kind);
        return Err(unhandled(gvk, kind, &version, &why));
    }
    Ok(())
}

fn is_builtin(gvk: GroupVersionKind) -> bool {
    SchemaSource::Builtin(gvk).get().is_some()
}

fn unhandled(gvk: &GroupVersionKind, kind: &str, version: &str, why: &str) -> Status {
    let (kind, version) = (quoted(kind), quoted(version));
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {why}", gvk.kind))
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
    check_kind(&schema.gvk, &patched.object)?;
    Ok(Decoded { object: patched.object, warnings: patched.warnings })
}

/// Records in `managedFields` who owns what changed between `old` and `new`, which is as it will be stored.
///
/// # Errors
/// Where objects are not known in the versions of other managers.
pub fn track(writer: &Writer, old: Option<&Object>, new: &mut Object, versions: &dyn Versions, now: jiff::Timestamp) -> Result<(), Unconverted> {
    let schema = working_schema(&writer.target)?;
    ownership::track_across(old, new, manager(writer), &schema, versions, now)
}

fn manager(writer: &Writer) -> ownership::Manager<'_> {
    ownership::Manager { name: &writer.options.field_manager, subresource: &writer.target.subresource }
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
    check_kind(&schema.gvk, &decoded.object)?;
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
        check_kind(&GroupVersionKind::new(gvk.0, gvk.1, gvk.2), &object).err().map(|status| status.message)
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
        let custom = "Other in version \"v1\" cannot be handled as a Widget: unknown conversion";
        assert_eq!(said(("example.com", "v1", "Widget"), "example.com/v1", "Other"), Some(custom.to_owned()));
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
