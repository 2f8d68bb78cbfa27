//! What is wrong with an `EncryptionConfiguration`, in upstream's words.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use troupe_api::{meta::GroupResource, status::FieldError};

use super::config::{EncryptionConfiguration, Key, Keys, Kms, ProviderConfiguration};

const AES_KEYS: [usize; 3] = [16, 24, 32];
const SECRETBOX_KEYS: [usize; 1] = [32];
const NO_OBJECTS: [&str; 3] = ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];
const REDACTED: &str = "REDACTED";

/// Everything that is wrong.
pub fn faults(configuration: &EncryptionConfiguration, reload: bool) -> Vec<FieldError> {
    if configuration.resources.is_empty() {
        return vec![FieldError::required("resources", "at least one resources is required")];
    }
    let mut errors = Vec::new();
    let mut kms_names = BTreeSet::new();
    for (index, entry) in configuration.resources.iter().enumerate() {
        let (resources, providers) = (format!("resources[{index}].resources"), format!("resources[{index}].providers"));
        if entry.resources.is_empty() {
            errors.push(FieldError::required(&resources, format!("at least one {resources} is required")));
        }
        errors.extend(overlaps(&entry.resources, &resources));
        errors.extend(
            entry
                .resources
                .iter()
                .enumerate()
                .filter_map(|(at, name)| name_fault(name).map(|why| FieldError::invalid(format!("{resources}[{at}]"), name.as_str(), why))),
        );
        if entry.providers.is_empty() {
            errors.push(FieldError::required(&providers, format!("at least one {providers} is required")));
        }
        for (at, provider) in entry.providers.iter().enumerate() {
            errors.extend(provider_faults(provider, &format!("{providers}[{at}]"), &mut kms_names, reload));
        }
    }
    errors
}

/// `*.apps`, `secrets` or `*.` as group and resource.
pub fn group_resource(name: &str) -> GroupResource {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    GroupResource::new(group, resource)
}

fn overlaps(names: &[String], field: &str) -> Vec<FieldError> {
    let all: Vec<GroupResource> = names.iter().map(|name| group_resource(name)).collect();
    let (mut overlap, mut duplicate) = (false, false);
    for (at, one) in all.iter().enumerate() {
        for (_, other) in all.iter().enumerate().filter(|(index, _)| *index != at) {
            let everything = &*one.group == "*" && &*one.resource == "*";
            if one == other && !duplicate {
                duplicate = true;
            } else if everything || (one.group == other.group && (&*one.resource == "*" || &*other.resource == "*")) {
                overlap = true;
            }
        }
    }
    let told = |why: &str| FieldError::invalid(field, json!(names), why);
    let mut errors = Vec::new();
    if duplicate {
        errors.push(told("the same resource cannot be specified multiple times"));
    }
    if overlap {
        errors.push(told("using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"));
    }
    errors
}

fn name_fault(name: &str) -> Option<&'static str> {
    let named = group_resource(name);
    let (group, resource) = (&*named.group, &*named.resource);
    match () {
        () if name.to_lowercase() != name => Some("resource name should not contain capital letters"),
        () if name == "*" => Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
        () if NO_OBJECTS.contains(&name) => Some("resources which do not have REST API/s cannot be encrypted"),
        () if group == "events.k8s.io" => {
            Some("'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file")
        }
        () if group == "extensions" => Some("'extensions' group has been removed and cannot be used for encryption"),
        () if group == "*" && resource != "*" => Some("encrypting the same resource across groups is not supported"),
        () => None,
    }
}

fn provider_faults(provider: &ProviderConfiguration, field: &str, kms_names: &mut BTreeSet<String>, reload: bool) -> Vec<FieldError> {
    let ProviderConfiguration { aesgcm, aescbc, secretbox, identity, kms } = provider;
    let given = [aesgcm.is_some(), aescbc.is_some(), secretbox.is_some(), identity.is_some(), kms.is_some()];
    let mut errors = Vec::new();
    // Upstream prints the whole provider, keys and all.
    match given.into_iter().filter(|given| *given).count() {
        0 => errors.push(FieldError::invalid(
            field,
            json!({}),
            "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        )),
        1 => {}
        _ => errors.push(FieldError::invalid(
            field,
            REDACTED,
            "more than one provider specified in a single element, should split into different list elements",
        )),
    }
    match (kms, aesgcm, aescbc, secretbox) {
        (Some(kms), ..) => {
            errors.extend(kms_faults(kms, &format!("{field}.kms"), kms_names, reload));
            kms_names.insert(kms.name.clone());
        }
        (_, Some(keys), ..) => errors.extend(key_faults(keys, &format!("{field}.aesgcm.keys"), &AES_KEYS)),
        (_, _, Some(keys), _) => errors.extend(key_faults(keys, &format!("{field}.aescbc.keys"), &AES_KEYS)),
        (.., Some(keys)) => errors.extend(key_faults(keys, &format!("{field}.secretbox.keys"), &SECRETBOX_KEYS)),
        _ => {}
    }
    errors
}

fn key_faults(keys: &Keys, field: &str, lengths: &[usize]) -> Vec<FieldError> {
    if keys.keys.is_empty() {
        return vec![FieldError::required(field, "at least one keys is required")];
    }
    keys.keys.iter().enumerate().flat_map(|(at, key)| one_key(key, &format!("{field}[{at}]"), lengths)).collect()
}

fn one_key(key: &Key, field: &str, lengths: &[usize]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if key.name.is_empty() {
        errors.push(FieldError::required(format!("{field}.name"), "name is a mandatory field for a key"));
    }
    let secret = format!("{field}.secret");
    if key.secret.is_empty() {
        errors.push(FieldError::required(secret, "secret is a mandatory field for a key"));
        return errors;
    }
    match STANDARD.decode(&key.secret) {
        Err(_) => errors.push(FieldError::invalid(secret, REDACTED, "secrets must be base64 encoded")),
        Ok(bytes) if !lengths.contains(&bytes.len()) => {
            let allowed = lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let why = format!("secret is not of the expected length, got {}, expected one of [{allowed}]", bytes.len());
            errors.push(FieldError::invalid(secret, REDACTED, why));
        }
        Ok(_) => {}
    }
    errors
}

fn kms_faults(kms: &Kms, field: &str, names: &BTreeSet<String>, reload: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut invalid = |child: &str, value: Value, why: String| errors.push(FieldError::invalid(format!("{field}.{child}"), value, why));
    let is_first = kms.api_version == "v1";
    if !is_first && kms.name.contains(':') {
        invalid("name", json!(kms.name), format!("invalid KMS provider name {}, must not contain ':'", kms.name));
    }
    if (reload || !is_first) && names.contains(&kms.name) {
        invalid("name", json!(kms.name), format!("duplicate KMS provider name {}, names must be unique", kms.name));
    }
    if kms.timeout <= 0 {
        invalid("timeout", json!(kms.timeout.to_string()), "timeout should be a positive value".into());
    }
    match kms.endpoint.split_once("://") {
        _ if kms.endpoint.is_empty() => invalid("endpoint", json!(""), "endpoint is a mandatory field for a kms".into()),
        Some(("unix", path)) if !path.is_empty() => {}
        Some((scheme, _)) => {
            invalid("endpoint", json!(kms.endpoint), format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported"));
        }
        None => invalid("endpoint", json!(kms.endpoint), "unsupported scheme \"\" for KMS provider, only unix is supported".into()),
    }
    if let (false, Some(size)) = (is_first, kms.cachesize) {
        invalid("cachesize", json!(size), "cachesize is not supported in v2".into());
    }
    if kms.api_version != "v1" && kms.api_version != "v2" {
        let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        invalid("apiVersion", json!(kms.api_version), why.into());
    }
    if kms.name.is_empty() {
        errors.push(FieldError::required(format!("{field}.name"), "name is a mandatory field for a provider"));
    }
    errors
}
