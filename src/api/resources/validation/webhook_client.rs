//! How the API server is told to reach a webhook: by URL or by Service, and whom it trusts there.
//!
//! What is let in here is dialled later, with the server's own network: addresses are judged again when they are.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{Field, between};
use crate::{
    meta::{names, url},
    status::FieldError,
};

/// The forms of the question that this server asks.
pub const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

/// A client configuration has a URL or a Service.
pub fn client_config(errors: &mut Vec<FieldError>, config: &Field<'_>) {
    let (url, service) = (config.child("url"), config.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => address(errors, &url),
        (false, true) => service_reference(errors, &service),
        _ => errors.push(config.required("exactly one of url or service is required")),
    }
}

/// The versions in which a webhook can be asked, at least one of them ours unless it `may_be_unknown`. An empty list is told as `missing`.
pub fn review_versions(errors: &mut Vec<FieldError>, versions: &Field<'_>, missing: &str, may_be_unknown: bool) {
    if versions.items().is_empty() {
        return errors.push(versions.required(missing));
    }
    let mut seen = HashSet::new();
    for version in versions.each() {
        if seen.insert(version.text()) {
            version.judge(errors, names::dns_1035_label(version.text(), false));
        } else {
            errors.push(version.invalid("duplicate version"));
        }
    }
    if !may_be_unknown && lists_none_of_ours(versions.items()) {
        errors.push(versions.invalid(format!("must include at least one of {}", REVIEW_VERSIONS.join(", "))));
    }
}

/// Whether there are review versions, and none that this server asks in.
pub fn lists_none_of_ours(versions: &[Value]) -> bool {
    !versions.is_empty() && !versions.iter().any(|version| version.as_str().is_some_and(|version| REVIEW_VERSIONS.contains(&version)))
}

/// The URL of a webhook: https, a host and a path.
pub fn address(errors: &mut Vec<FieldError>, field: &Field<'_>) {
    let url = match url::parse(field.text()) {
        Ok(url) => url,
        Err(why) => return errors.push(field.required(format!("url must be a valid URL: {why}{FORM}"))),
    };
    if url.scheme != "https" {
        errors.push(field.invalid_as(&*url.scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if url.host.is_empty() {
        errors.push(field.invalid_as("", format!("host must be specified{FORM}")));
    }
    if let Some(user) = url.user {
        errors.push(field.invalid_as(user, "user information is not permitted in the URL"));
    }
    if !url.fragment.is_empty() {
        errors.push(field.invalid_as(url.fragment, "fragments are not permitted in the URL"));
    }
    if !url.query.is_empty() {
        errors.push(field.invalid_as(url.query, "query parameters are not permitted in the URL"));
    }
}

/// The Service that a webhook is reached by.
pub fn service_reference(errors: &mut Vec<FieldError>, service: &Field<'_>) {
    service.child("name").check_required(errors);
    service.child("namespace").check_required(errors);
    port(errors, &service.child("port"));
    let path = service.child("path");
    match path.text() {
        "" | "/" => {}
        "//" => errors.push(path.invalid("segment[0] may not be empty")),
        _ => segments(errors, &path),
    }
}

/// The port of a Service.
pub fn port(errors: &mut Vec<FieldError>, port: &Field<'_>) {
    if !(1..=65_535).contains(&port.int()) {
        errors.push(port.invalid_as(port.int(), format!("port is not valid: {}", between(1, 65_535))));
    }
}

fn segments(errors: &mut Vec<FieldError>, path: &Field<'_>) {
    if !path.text().starts_with('/') {
        errors.push(path.invalid("must start with a '/'"));
    }
    let mut rest = path.text().chars();
    rest.next();
    let rest = rest.as_str();
    for (index, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            errors.push(path.invalid(format!("segment[{index}] may not be empty")));
            continue;
        }
        errors.extend(names::subdomain(segment, false).into_iter().map(|fault| path.invalid(format!("segment[{index}]: {fault}"))));
    }
}

/// Certificates that a server is verified with, in PEM; none are fine.
pub fn ca_bundle(errors: &mut Vec<FieldError>, bundle: &Field<'_>) {
    if let Err(why) = authorities(bundle.text()) {
        errors.push(bundle.invalid(format!("unable to load root certificates: {why}")));
    }
}

fn authorities(encoded: &str) -> Result<(), String> {
    if encoded.is_empty() {
        return Ok(());
    }
    let pem = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let mut fault = None;
    let mut rest = &pem[..];
    while !rest.is_empty() {
        let Ok((after, block)) = x509_parser::pem::parse_x509_pem(rest) else {
            fault.get_or_insert_with(|| "unable to parse bytes as PEM block".to_owned());
            break;
        };
        rest = after;
        if block.label != "CERTIFICATE" {
            continue;
        }
        match block.parse_x509() {
            Ok(_) => return Ok(()),
            Err(error) => fault.get_or_insert_with(|| format!("failed to parse certificate: {error}")),
        };
    }
    Err(fault.unwrap_or_else(|| "no valid certificate authority data seen".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(config: Value) -> Vec<String> {
        let mut errors = Vec::new();
        client_config(&mut errors, &Field::root("c", &config));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_webhook_has_one_address() {
        const ONE: &str = "c: Required value: exactly one of url or service is required";
        let service = json!({"name": "s", "namespace": "n", "port": 443});
        assert_eq!(said(json!({})), [ONE]);
        assert_eq!(said(json!({"url": "https://h", "service": service})), [ONE]);
        assert!(said(json!({"service": service})).is_empty());
        assert!(said(json!({"url": "https://h:8443/path"})).is_empty());
    }

    #[test]
    fn a_url_is_https_and_says_where_and_nothing_else() {
        let form = FORM;
        let cases = [
            ("http://h", format!("c.url: Invalid value: \"http\": 'https' is the only allowed URL scheme{form}")),
            ("https:///x", format!("c.url: Invalid value: \"\": host must be specified{form}")),
            ("https://u:p@h", "c.url: Invalid value: \"u:p\": user information is not permitted in the URL".to_owned()),
            ("https://h#f", "c.url: Invalid value: \"f\": fragments are not permitted in the URL".to_owned()),
            ("https://h?q=1", "c.url: Invalid value: \"q=1\": query parameters are not permitted in the URL".to_owned()),
            ("https://h:x", format!("c.url: Required value: url must be a valid URL: parse \"https://h:x\": invalid port \":x\" after host{form}")),
        ];
        for (url, want) in cases {
            assert_eq!(said(json!({"url": url})), [want], "{url}");
        }
        assert_eq!(said(json!({"url": ""})).len(), 2);
    }

    #[test]
    fn a_service_has_a_name_a_port_and_a_path_of_plain_segments() {
        let service = |field: &str, value: Value| {
            let mut service = json!({"name": "s", "namespace": "n", "port": 443});
            service[field] = value;
            said(json!({"service": service}))
        };
        assert_eq!(service("name", json!("")), ["c.service.name: Required value"]);
        assert_eq!(service("namespace", json!(null)), ["c.service.namespace: Required value"]);
        for port in [0, 65_536, -1] {
            let want = format!("c.service.port: Invalid value: {port}: port is not valid: must be between 1 and 65535, inclusive");
            assert_eq!(service("port", json!(port)), [want]);
        }
        for fine in ["", "/", "/a", "/a/b.c/"] {
            assert!(service("path", json!(fine)).is_empty(), "{fine}");
        }
        let cases = [
            ("//", "c.service.path: Invalid value: \"//\": segment[0] may not be empty"),
            ("/a//b", "c.service.path: Invalid value: \"/a//b\": segment[1] may not be empty"),
            ("éa", "c.service.path: Invalid value: \"éa\": must start with a '/'"),
        ];
        for (path, want) in cases {
            assert_eq!(service("path", json!(path)), [want]);
        }
        let climbs = service("path", json!("/../x"));
        assert!(climbs[0].starts_with("c.service.path: Invalid value: \"/../x\": segment[0]: a lowercase RFC 1123 subdomain"), "{climbs:?}");
    }

    #[test]
    fn a_bundle_of_authorities_holds_certificates() {
        let judge = |pem: &str| {
            let bundle = json!(BASE64_STANDARD.encode(pem));
            let mut errors = Vec::new();
            ca_bundle(&mut errors, &Field::root("b", &bundle));
            errors.pop().map(|error| error.detail)
        };
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
        assert_eq!(judge(""), None);
        assert_eq!(judge(&certificate), None);
        assert_eq!(judge("hello").as_deref(), Some("unable to load root certificates: unable to parse bytes as PEM block"));
        assert_eq!(judge(&key.serialize_pem()).as_deref(), Some("unable to load root certificates: no valid certificate authority data seen"));
        let broken = judge("-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n").expect("an error");
        assert!(broken.starts_with("unable to load root certificates: failed to parse certificate: "), "{broken}");
    }
}
