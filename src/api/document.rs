//! Documents of configuration: YAML that says by `apiVersion` and `kind` what it is.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::schema::{DocumentError as YamlError, from_yaml};

/// What is read from such a document: all of its fields but `apiVersion` and `kind`.
pub trait Document: DeserializeOwned {
    const GROUP: &'static str;
    /// The versions that are read, the one to write first.
    const VERSIONS: &'static [&'static str];
    const KIND: &'static str;
}

/// Why a document is unusable.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("it has no apiVersion or no kind")]
    Untyped,
    #[error("it is {found}, but this server reads {wanted}")]
    Kind { found: String, wanted: String },
    #[error("it is no {0}: {1}")]
    Malformed(&'static str, serde_json::Error),
}

/// Why a file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("{0} is empty")]
    Empty(PathBuf),
    #[error("{0} is no YAML: {1}")]
    Yaml(PathBuf, YamlError),
    #[error("{0} is unusable: {1}")]
    Document(PathBuf, DocumentError),
}

/// Reads a file with a document of one kind.
///
/// # Errors
/// When it cannot be read, or is another document.
pub fn read_file<T: Document>(path: &Path) -> Result<T, FileError> {
    let text = std::fs::read_to_string(path).map_err(|error| FileError::Read(path.to_owned(), error))?;
    parse(path, &text)
}

/// The same of what was read of a file.
///
/// # Errors
/// When it is another document.
pub fn parse<T: Document>(path: &Path, text: &str) -> Result<T, FileError> {
    if text.trim().is_empty() {
        return Err(FileError::Empty(path.to_owned()));
    }
    let value = from_yaml(text).map_err(|error| FileError::Yaml(path.to_owned(), error))?;
    read(value).map_err(|error| FileError::Document(path.to_owned(), error))
}

/// Reads a document of one kind.
///
/// # Errors
/// When it is of another kind, or says what that kind does not have.
pub fn read<T: Document>(value: Value) -> Result<T, DocumentError> {
    let Value::Object(mut fields) = value else { return Err(DocumentError::Untyped) };
    let (Some(api_version), Some(kind)) = (take(&mut fields, "apiVersion"), take(&mut fields, "kind")) else {
        return Err(DocumentError::Untyped);
    };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    if group != T::GROUP || !T::VERSIONS.contains(&version) || kind != T::KIND {
        let wanted = format!("{}/{} {}", T::GROUP, T::VERSIONS[0], T::KIND);
        return Err(DocumentError::Kind { found: format!("{api_version} {kind}"), wanted });
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| DocumentError::Malformed(T::KIND, error))
}

/// A text, which is no longer there afterwards.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match fields.remove(name)? {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::schema::from_yaml;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Limits {
        most: u32,
    }

    impl Document for Limits {
        const GROUP: &'static str = "config.example";
        const VERSIONS: &'static [&'static str] = &["v1", "v1beta1"];
        const KIND: &'static str = "Limits";
    }

    fn limits(text: &str) -> Result<Limits, String> {
        read(from_yaml(text).expect("YAML")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_document_is_read_in_each_of_its_versions() {
        for version in ["v1", "v1beta1"] {
            assert_eq!(limits(&format!("{{apiVersion: config.example/{version}, kind: Limits, most: 3}}")), Ok(Limits { most: 3 }));
        }
    }

    #[test]
    fn what_it_is_not_is_told() {
        for (text, why) in [
            ("[]", "it has no apiVersion or no kind"),
            ("{most: 3}", "it has no apiVersion or no kind"),
            ("{apiVersion: config.example/v1, kind: 4, most: 3}", "it has no apiVersion or no kind"),
            ("{apiVersion: v1, kind: Pod}", "it is v1 Pod, but this server reads config.example/v1 Limits"),
            ("{apiVersion: config.example/v2, kind: Limits}", "it is config.example/v2 Limits, but this server reads config.example/v1 Limits"),
        ] {
            assert_eq!(limits(text), Err(why.into()), "{text}");
        }
        let unknown = limits("{apiVersion: config.example/v1, kind: Limits, most: 3, least: 1}").expect_err("it has no such field");
        assert!(unknown.starts_with("it is no Limits: unknown field `least`"), "{unknown}");
    }
}
