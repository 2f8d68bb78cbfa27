//! The volumes of a pod.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{container::descending, invalid_each, names, required};
use crate::{
    resources::tree::{at, int, items, text},
    status::FieldError,
};

/// Checks volumes and returns the names of good ones, which mounts may use.
pub fn volumes(errors: &mut Vec<FieldError>, volumes: &[Value], field: &str) -> BTreeSet<String> {
    let mut good = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let before = errors.len();
        source(errors, volume, &path);
        let name = text(volume, &["name"]);
        match name {
            "" => errors.push(FieldError::required(format!("{path}.name"), "")),
            name => invalid_each(errors, &format!("{path}.name"), name, names::label(name, false)),
        }
        if good.contains(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        if errors.len() == before {
            good.insert(name.to_owned());
        }
    }
    good
}

fn source(errors: &mut Vec<FieldError>, volume: &Value, path: &str) {
    let sources: Vec<&String> = volume.as_object().into_iter().flatten().filter(|(k, v)| *k != "name" && !v.is_null()).map(|(k, _)| k).collect();
    if sources.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for extra in sources.iter().skip(1) {
        errors.push(FieldError::forbidden(format!("{path}.{extra}"), "may not specify more than 1 volume type"));
    }
    let Some(kind) = sources.first() else { return };
    let (field, source) = (format!("{path}.{kind}"), at(volume, &[kind]));
    match kind.as_str() {
        "hostPath" => host_path(errors, source, &field),
        "secret" => {
            required(errors, &format!("{field}.secretName"), text(source, &["secretName"]));
            files(errors, source, &field);
        }
        "configMap" => {
            required(errors, &format!("{field}.name"), text(source, &["name"]));
            files(errors, source, &field);
        }
        "persistentVolumeClaim" => required(errors, &format!("{field}.claimName"), text(source, &["claimName"])),
        "downwardAPI" => mode(errors, source, "defaultMode", &field),
        "projected" => projected(errors, source, &field),
        "nfs" => nfs(errors, source, &field),
        "csi" => required(errors, &format!("{field}.driver"), text(source, &["driver"])),
        "ephemeral" if at(source, &["volumeClaimTemplate"]).is_null() => {
            errors.push(FieldError::required(format!("{field}.volumeClaimTemplate"), ""));
        }
        _ => {}
    }
}

fn host_path(errors: &mut Vec<FieldError>, source: &Value, field: &str) {
    const TYPES: [&str; 8] = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let path = text(source, &["path"]);
    if path.is_empty() {
        errors.push(FieldError::required(format!("{field}.path"), ""));
        return;
    }
    if path.split('/').any(|segment| segment == "..") {
        errors.push(FieldError::invalid(format!("{field}.path"), path, "must not contain '..'"));
    }
    let kind = text(source, &["type"]);
    if !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(format!("{field}.type"), kind, &TYPES));
    }
}

fn nfs(errors: &mut Vec<FieldError>, source: &Value, field: &str) {
    required(errors, &format!("{field}.server"), text(source, &["server"]));
    required(errors, &format!("{field}.path"), text(source, &["path"]));
    if !text(source, &["path"]).starts_with('/') {
        errors.push(FieldError::invalid(format!("{field}.path"), text(source, &["path"]), "must be an absolute path"));
    }
}

fn mode(errors: &mut Vec<FieldError>, source: &Value, name: &str, field: &str) {
    let mode = at(source, &[name]);
    if mode.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(format!("{field}.{name}"), mode.clone(), detail));
    }
}

fn files(errors: &mut Vec<FieldError>, source: &Value, field: &str) {
    mode(errors, source, "defaultMode", field);
    for (index, item) in items(source, &["items"]).iter().enumerate() {
        let path = format!("{field}.items[{index}]");
        required(errors, &format!("{path}.key"), text(item, &["key"]));
        required(errors, &format!("{path}.path"), text(item, &["path"]));
        descending(errors, &format!("{path}.path"), text(item, &["path"]));
        mode(errors, item, "mode", &path);
    }
}

fn projected(errors: &mut Vec<FieldError>, source: &Value, field: &str) {
    mode(errors, source, "defaultMode", field);
    for (index, projection) in items(source, &["sources"]).iter().enumerate() {
        let path = format!("{field}.sources[{index}]");
        let kinds: Vec<&String> = projection.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
        if kinds.len() > 1 {
            errors.push(FieldError::forbidden(path.clone(), "may not specify more than 1 volume type"));
        }
        for name in ["secret", "configMap"] {
            if !at(projection, &[name]).is_null() {
                required(errors, &format!("{path}.{name}.name"), text(projection, &[name, "name"]));
                files(errors, at(projection, &[name]), &format!("{path}.{name}"));
            }
        }
        if !at(projection, &["serviceAccountToken"]).is_null() {
            token(errors, at(projection, &["serviceAccountToken"]), &format!("{path}.serviceAccountToken"));
        }
    }
}

fn token(errors: &mut Vec<FieldError>, token: &Value, field: &str) {
    let seconds = int(token, &["expirationSeconds"]);
    if seconds < 600 {
        errors.push(FieldError::invalid(format!("{field}.expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(FieldError::invalid(format!("{field}.expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    required(errors, &format!("{field}.path"), text(token, &["path"]));
    descending(errors, &format!("{field}.path"), text(token, &["path"]));
}
