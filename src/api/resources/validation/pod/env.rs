//! Environment variables.

use std::collections::BTreeMap;

use super::{super::Field, references};
use crate::{
    meta::names,
    resources::tree::{at, text},
    status::FieldError,
};

/// Checks single variables.
pub fn env(errors: &mut Vec<FieldError>, variables: &Field<'_>) {
    for variable in variables.each() {
        match variable.child("name").text() {
            "" => errors.push(variable.child("name").required("")),
            name => variable.child("name").judge(errors, names::env_var(name)),
        }
        let source = variable.child("valueFrom");
        if source.is_set() {
            value_from(errors, &source, variable.child("value").text());
        }
    }
}

fn value_from(errors: &mut Vec<FieldError>, source: &Field<'_>, value: &str) {
    let mut sources = 0;
    for name in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let reference = source.child(name);
        if !reference.is_set() {
            continue;
        }
        sources += 1;
        match name {
            "fieldRef" => references::field(errors, &reference, &references::OF_VARIABLES),
            "resourceFieldRef" => references::resource(errors, &reference, false),
            "fileKeyRef" => references::file_key(errors, &reference),
            _ => references::key(errors, &reference),
        }
    }
    let detail = match (sources, value) {
        (0, _) => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        (_, value) if !value.is_empty() => "may not be specified when `value` is not empty",
        (1, _) => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(source.invalid_as("", detail));
}

/// Checks whole config maps and secrets taken as variables.
pub fn env_from(errors: &mut Vec<FieldError>, sources: &Field<'_>) {
    for source in sources.each() {
        let prefix = source.child("prefix");
        if !prefix.text().is_empty() {
            prefix.judge(errors, names::env_var(prefix.text()));
        }
        let mut count = 0;
        for name in ["configMapRef", "secretRef"] {
            let reference = source.child(name);
            if reference.is_set() {
                count += 1;
                let name = reference.child("name");
                match name.text() {
                    "" => errors.push(name.required("")),
                    text => name.judge(errors, names::subdomain(text, true)),
                }
            }
        }
        match count {
            0 => errors.push(sources.invalid_as("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(sources.invalid_as("", "may not have more than one field specified at a time")),
        }
    }
}

/// A file with variables lies in an emptyDir of the pod.
pub fn file_volumes(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let volumes: BTreeMap<&str, _> = spec.child("volumes").items().iter().map(|volume| (text(volume, &["name"]), volume)).collect();
    super::visit_containers(spec, |container| {
        for variable in container.child("env").each() {
            let source = variable.child("valueFrom");
            let reference = source.child("fileKeyRef");
            if !reference.is_set() {
                continue;
            }
            let name = reference.child("volumeName");
            match volumes.get(name.text()) {
                None => errors.push(name.not_found("")),
                Some(volume) if at(volume, &["emptyDir"]).is_null() => errors.push(name.invalid("referenced volume must be of type emptyDir")),
                Some(_) => {}
            }
        }
    });
}
