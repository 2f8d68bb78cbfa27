//! `PodSecurityConfiguration`: what holds where labels say nothing, and who is exempt.

use std::collections::BTreeSet;

use serde::Deserialize;
use troupe_api::{
    document::{self, Document, DocumentError},
    meta::names::{self, NameRule},
    status::FieldError,
};

use super::policy::{Level, LevelVersion, Policy, Version};

/// Who is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemptions {
    pub usernames: BTreeSet<String>,
    pub namespaces: BTreeSet<String>,
    pub runtime_classes: BTreeSet<String>,
}

/// The plugin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pub defaults: Policy,
    pub exemptions: Exemptions,
}

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldError>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exempt,
}

impl Document for File {
    const GROUP: &'static str = "pod-security.admission.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1", "v1beta1", "v1alpha1"];
    const KIND: &'static str = "PodSecurityConfiguration";
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exempt {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

impl Configuration {
    /// Reads a `PodSecurityConfiguration`.
    ///
    /// # Errors
    /// When it is of another kind or has fields that are unknown or invalid.
    pub fn from_value(value: serde_json::Value) -> Result<Self, ConfigurationError> {
        let file: File = document::read(value)?;
        let mut errors = Vec::new();
        let Defaults { enforce, enforce_version, audit, audit_version, warn, warn_version } = &file.defaults;
        let mut mode = |name: &str, level: &str, version: &str| level_version(name, level, version, &mut errors);
        let defaults = Policy {
            enforce: mode("enforce", enforce, enforce_version),
            audit: mode("audit", audit, audit_version),
            warn: mode("warn", warn, warn_version),
        };
        let exemptions = Exemptions {
            namespaces: distinct("namespaces", file.exemptions.namespaces, names::label, &mut errors),
            runtime_classes: distinct("runtimeClasses", file.exemptions.runtime_classes, names::subdomain, &mut errors),
            usernames: distinct("usernames", file.exemptions.usernames, username, &mut errors),
        };
        if errors.is_empty() { Ok(Configuration { defaults, exemptions }) } else { Err(ConfigurationError::Invalid(errors)) }
    }
}

/// What one mode is by default; empty texts mean privileged and latest.
fn level_version(mode: &str, level: &str, version: &str, errors: &mut Vec<FieldError>) -> LevelVersion {
    let mut invalid = |field: String, value: &str, why: &str| errors.push(FieldError::invalid(field, value, why));
    let mut parsed = LevelVersion::PRIVILEGED;
    if !level.is_empty() {
        match Level::parse(level) {
            Ok(level) => parsed.level = level,
            Err(why) => invalid(format!("defaults.{mode}"), level, why),
        }
    }
    if !version.is_empty() {
        match Version::parse(version) {
            Ok(version) => parsed.version = version,
            Err(why) => invalid(format!("defaults.{mode}-version"), version, why),
        }
    }
    parsed
}

fn distinct(list: &str, values: Vec<String>, rule: NameRule, errors: &mut Vec<FieldError>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (at, value) in values.into_iter().enumerate() {
        let field = format!("exemptions.{list}[{at}]");
        let wrong = rule(&value, false);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(field, value, wrong.join(", ")));
        } else if !seen.insert(value.clone()) {
            errors.push(FieldError::duplicate(field, value));
        }
    }
    seen
}

fn username(name: &str, _: bool) -> Vec<String> {
    if name.is_empty() { vec!["username must not be empty".to_owned()] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Configuration, String> {
        let text = format!("apiVersion: {}/v1\nkind: {}\n{rest}", File::GROUP, File::KIND);
        Configuration::from_value(troupe_api::schema::from_yaml(&text).expect("YAML")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_privileged_and_nobody_is_exempt() {
        assert_eq!(parse(""), Ok(Configuration::default()));
        let full = parse(
            "defaults: {enforce: baseline, enforce-version: v1.20, warn: restricted}\nexemptions: {usernames: [u], namespaces: [ns], runtimeClasses: [r]}\n",
        );
        let full = full.expect("valid");
        assert_eq!(full.defaults.modes().map(|(_, mode)| mode.to_string()), ["baseline:v1.20", "privileged:latest", "restricted:latest"]);
        let Exemptions { usernames, namespaces, runtime_classes } = full.exemptions;
        assert!(usernames.contains("u") && namespaces.contains("ns") && runtime_classes.contains("r"));
    }

    #[test]
    fn every_mistake_is_told_with_its_path() {
        let error =
            parse("defaults: {enforce: base, audit-version: '1.20'}\nexemptions: {usernames: [''], namespaces: [NS, a, a]}\n").expect_err("invalid");
        for part in ["defaults.enforce: Invalid value: \"base\"", "defaults.audit-version:", "exemptions.usernames[0]:", "exemptions.namespaces[0]:"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(error.contains("exemptions.namespaces[2]: Duplicate value: \"a\""), "{error}");
    }

    #[test]
    fn unknown_fields_and_kinds_are_refused() {
        assert!(parse("defaults: {enforced: baseline}\n").is_err());
        assert!(parse("exemption: {}\n").is_err());
        let other = troupe_api::schema::from_yaml("apiVersion: v1\nkind: ConfigMap\n").expect("YAML");
        assert!(matches!(Configuration::from_value(other), Err(ConfigurationError::Document(DocumentError::Kind { .. }))));
    }
}
