//! Config maps and secrets.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{invalid_each, required};
use crate::{
    meta::{Object, names},
    schema::{Format, decode::parse, raw::Raw},
    status::FieldError,
};

const SIZE_LIMIT: usize = 1024 * 1024;

fn entries<'a>(object: &'a Object, field: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    object.get(&[field]).and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or("")))
}

/// The size of base64 text when decoded.
fn decoded_size(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(text.len() / 4 * 3)
}

/// Checks a config map.
pub fn config_map(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        let field = format!("data[{key}]");
        invalid_each(&mut errors, &field, key, names::config_key(key));
        if object.get(&["binaryData", key]).is_some() {
            errors.push(FieldError::invalid(field, key.as_str(), "duplicate of key present in binaryData"));
        }
        size += value.len();
    }
    for (key, value) in entries(object, "binaryData") {
        invalid_each(&mut errors, &format!("binaryData[{key}]"), key, names::config_key(key));
        size += decoded_size(value);
    }
    if size > SIZE_LIMIT {
        errors.push(FieldError::too_long("[]", SIZE_LIMIT));
    }
    errors
}

/// Checks that what is marked immutable stays.
pub fn immutable(new: &Object, old: &Object, fields: &[&str]) -> Vec<FieldError> {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    let marked = |object: &Object| object.get(&["immutable"]).and_then(Value::as_bool) == Some(true);
    let mut errors = Vec::new();
    if !marked(old) {
        return errors;
    }
    if !marked(new) {
        errors.push(FieldError::forbidden("immutable", DETAIL));
    }
    for field in fields {
        let of = |object: &Object| object.get(&[field]).and_then(Value::as_object).cloned().unwrap_or_default();
        if of(new) != of(old) {
            errors.push(FieldError::forbidden(*field, DETAIL));
        }
    }
    errors
}

/// Checks a secret, with what its type asks for.
pub fn secret(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        invalid_each(&mut errors, &format!("data[{key}]"), key, names::config_key(key));
        size += decoded_size(value);
    }
    if size > SIZE_LIMIT {
        errors.push(FieldError::too_long("data", SIZE_LIMIT));
    }
    let has = |key: &str| object.get(&["data", key]).is_some();
    let require = |errors: &mut Vec<FieldError>, keys: &[&str]| {
        errors.extend(keys.iter().filter(|key| !has(key)).map(|key| FieldError::required(format!("data[{key}]"), "")));
    };
    match object.str(&["type"]) {
        "kubernetes.io/service-account-token" => {
            let account = object.annotation("kubernetes.io/service-account.name").unwrap_or("");
            required(&mut errors, "metadata.annotations[kubernetes.io/service-account.name]", account);
        }
        "kubernetes.io/dockercfg" => json_key(object, ".dockercfg", &mut errors),
        "kubernetes.io/dockerconfigjson" => json_key(object, ".dockerconfigjson", &mut errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => require(&mut errors, &["username", "password"]),
        "kubernetes.io/ssh-auth" => required(&mut errors, "data[ssh-privatekey]", object.str(&["data", "ssh-privatekey"])),
        "kubernetes.io/tls" => require(&mut errors, &["tls.crt", "tls.key"]),
        _ => {}
    }
    errors
}

fn json_key(object: &Object, key: &str, errors: &mut Vec<FieldError>) {
    let field = format!("data[{key}]");
    if object.get(&["data", key]).is_none() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    let bytes = STANDARD.decode(object.str(&["data", key])).unwrap_or_default();
    let why = match parse(&bytes, Format::Json) {
        Ok(Raw::Object(_) | Raw::Null) => return,
        Ok(other) => format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", other.describe(false)),
        Err(error) => error.to_string(),
    };
    errors.push(FieldError::invalid(field, "<secret contents redacted>", why));
}

/// What Go says of a certificate or key without any PEM data. What else may be wrong with a pair is not looked for.
pub fn key_pair_warning(secret: &Object) -> Option<String> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let lacks_pem = |key: &str| {
        let data = STANDARD.decode(secret.str(&["data", key])).unwrap_or_default();
        !data.windows(BEGIN.len()).any(|part| part == BEGIN)
    };
    let parts = [("tls.crt", "certificate"), ("tls.key", "key")];
    parts.into_iter().find(|(key, _)| lacks_pem(key)).map(|(_, part)| format!("tls: failed to find any PEM data in {part} input"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::{object, texts};

    #[test]
    fn keys_become_files_and_their_content_is_bounded() {
        let big = "x".repeat(SIZE_LIMIT + 1);
        assert_eq!(texts(config_map(&object(json!({"data": {"a": big}})))), ["[]: Too long: may not be more than 1048576 bytes"]);
        assert_eq!(
            texts(config_map(&object(json!({"data": {"a": ""}, "binaryData": {"a": ""}})))),
            ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]
        );
        let errors = texts(secret(&object(json!({"data": {"../a": ""}}))));
        assert!(errors[0].starts_with("data[../a]: Invalid value: \"../a\": a valid config key must consist of"), "{errors:?}");
        assert_eq!(errors[1], "data[../a]: Invalid value: \"../a\": must not start with '..'");
        let encoded = STANDARD.encode(&big);
        assert_eq!(texts(secret(&object(json!({"data": {"a": encoded}})))), ["data: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn the_type_of_a_secret_asks_for_keys() {
        let of = |kind: &str, data: Value| texts(secret(&object(json!({"type": format!("kubernetes.io/{kind}"), "data": data}))));
        let required = |keys: &[&str]| keys.iter().map(|key| format!("data[{key}]: Required value")).collect::<Vec<_>>();
        let encoded = |text: &str| STANDARD.encode(text);
        assert_eq!(of("tls", json!({})), required(&["tls.crt", "tls.key"]));
        assert_eq!(of("basic-auth", json!({})), required(&["username", "password"]));
        assert_eq!(of("basic-auth", json!({"username": ""})), required(&[]));
        assert_eq!(of("ssh-auth", json!({"ssh-privatekey": ""})), required(&["ssh-privatekey"]));
        assert_eq!(of("dockercfg", json!({})), required(&[".dockercfg"]));
        assert_eq!(of("dockerconfigjson", json!({".dockerconfigjson": encoded("{}")})), required(&[]));
        assert_eq!(
            of("dockercfg", json!({".dockercfg": encoded("[]")})),
            [
                "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}"
            ]
        );
        let account = "metadata.annotations[kubernetes.io/service-account.name]: Required value";
        assert_eq!(of("service-account-token", json!({})), [account]);
    }

    #[test]
    fn a_key_pair_is_pem() {
        let of = |certificate: &str, key: &str| {
            let data = json!({"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)});
            key_pair_warning(&object(json!({"data": data})))
        };
        let pem = "-----BEGIN CERTIFICATE-----\n";
        assert_eq!(of("x", pem), Some("tls: failed to find any PEM data in certificate input".to_owned()));
        assert_eq!(of(pem, "x"), Some("tls: failed to find any PEM data in key input".to_owned()));
        assert_eq!(of(pem, pem), None);
    }

    #[test]
    fn what_is_immutable_stays_so() {
        let (old, new) = (object(json!({"immutable": true, "data": {"a": "YQ=="}})), object(json!({"data": {"a": "Yg=="}})));
        let detail = "Forbidden: field is immutable when `immutable` is set";
        assert_eq!(texts(immutable(&new, &old, &["data"])), [format!("immutable: {detail}"), format!("data: {detail}")]);
        assert!(immutable(&old, &new, &["data"]).is_empty());
    }
}
