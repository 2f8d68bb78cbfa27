//! Certificate signing requests: a readable request with a true signature, known usages, verdicts that stay.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::required;
use crate::{
    certificates::{ALL_USAGES, LEGACY_SIGNER, SigningRequest},
    meta::{Object, names},
    resources::tree::text,
    status::FieldError,
};

const CONDITIONS: &str = "status.conditions";
/// Conditions that nobody takes back, and that are there or not.
const VERDICTS: [&str; 3] = ["Approved", "Denied", "Failed"];
/// A domain, a slash, and a path that holds a label, a dot and a subdomain.
const LONGEST_SIGNER: usize = 253 + 1 + 253 + 63 + 1;

/// What a new request has wrong.
pub fn create(object: &Object) -> Vec<FieldError> {
    check(object, None)
}

/// What an update has wrong; `subresource` says which parts it may change.
pub fn update(new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
    let mut errors = check(new, Some(old));
    for kind in VERDICTS {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            errors.push(FieldError::forbidden(CONDITIONS, format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    if subresource != "approval" {
        for kind in ["Approved", "Denied"] {
            let (before, after) = (of_kind(old, kind), of_kind(new, kind));
            if after.len() > before.len() {
                errors.push(FieldError::forbidden(CONDITIONS, format!("updates may not add a condition of type {kind:?}")));
            } else if after.len() == before.len() && after != before {
                errors.push(FieldError::forbidden(CONDITIONS, format!("updates may not modify a condition of type {kind:?}")));
            }
        }
    }
    let certificate = |object: &Object| object.str(&["status", "certificate"]).to_owned();
    if certificate(new) != certificate(old) {
        if subresource != "status" {
            errors.push(FieldError::forbidden("status.certificate", "updates may not set certificate content"));
        } else if !certificate(old).is_empty() {
            errors.push(FieldError::forbidden("status.certificate", "updates may not modify existing certificate content"));
        }
    }
    errors
}

fn check(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let request = object.str(&["spec", "request"]);
    if let Err(error) = SigningRequest::from_base64(request).and_then(|request| request.verify()) {
        errors.push(FieldError::invalid("spec.request", request, error.to_string()));
    }
    usages(&mut errors, object, old);
    let signer = object.str(&["spec", "signerName"]);
    if signer == LEGACY_SIGNER && old.is_none_or(|old| old.str(&["spec", "signerName"]) != LEGACY_SIGNER) {
        errors.push(FieldError::invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version"));
    } else {
        signer_name(&mut errors, "spec.signerName", signer);
    }
    if let Some(seconds) = object.int(&["spec", "expirationSeconds"]).filter(|seconds| *seconds < 600) {
        errors.push(FieldError::invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)"));
    }
    conditions(&mut errors, object, old);
    let certificate = object.str(&["status", "certificate"]);
    let may_be_anything = old.map(|old| old.str(&["status", "certificate"])).is_some_and(|old| old == certificate || check_certificate(old).is_err());
    if !may_be_anything && let Err(why) = check_certificate(certificate) {
        errors.push(FieldError::invalid("status.certificate", "<certificate data>", why));
    }
    errors
}

fn usages(errors: &mut Vec<FieldError>, object: &Object, old: Option<&Object>) {
    let list = |object: &Object| object.list(&["spec", "usages"]).iter().filter_map(|usage| usage.as_str().map(str::to_owned)).collect::<Vec<_>>();
    let usages = list(object);
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    // What stands there already is not found fault with again.
    if old.is_some_and(|old| list(old) == usages) {
        return;
    }
    let mut known = HashSet::new();
    for (at, usage) in usages.iter().enumerate() {
        let field = format!("spec.usages[{at}]");
        if !ALL_USAGES.contains(&usage.as_str()) {
            errors.push(FieldError::not_supported(field.clone(), usage.as_str(), &ALL_USAGES));
        }
        if !known.insert(usage) {
            errors.push(FieldError::duplicate(field, usage.as_str()));
        }
    }
}

/// A signer's name: a domain, a slash, a path.
pub fn signer_name(errors: &mut Vec<FieldError>, field: &str, signer: &str) {
    if signer.is_empty() {
        return errors.push(FieldError::required(field, ""));
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, path] = segments[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(field, signer, why));
    };
    if domain.len() > 253 {
        errors.push(FieldError::too_long(field, 253));
    }
    first_fault(errors, field, domain, names::label);
    if !domain.contains('.') {
        errors.push(FieldError::invalid(field, domain, "should be a domain with at least two segments separated by dots"));
    }
    first_fault(errors, field, path, names::subdomain);
    if signer.len() > LONGEST_SIGNER {
        errors.push(FieldError::too_long(field, LONGEST_SIGNER));
    }
}

/// What is wrong with the first part of a segment that is wrong.
fn first_fault(errors: &mut Vec<FieldError>, field: &str, segment: &str, rule: names::NameRule) {
    let faults = segment.split('.').map(|label| (label, rule(label, false))).find(|(_, faults)| !faults.is_empty());
    if let Some((label, faults)) = faults {
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(field, segment, format!("validating label {label:?}: {fault}"))));
    }
}

fn conditions(errors: &mut Vec<FieldError>, object: &Object, old: Option<&Object>) {
    let all = object.list(&["status", "conditions"]);
    let both = |object: &Object| ["Approved", "Denied"].into_iter().all(|kind| !of_kind(object, kind).is_empty());
    let types = |object: &Object| object.list(&["status", "conditions"]).iter().map(|one| text(one, &["type"]).to_owned()).collect::<Vec<_>>();
    let before = old.map(types).unwrap_or_default();
    let had_empty = before.iter().any(String::is_empty);
    let had_duplicates = before.iter().collect::<HashSet<_>>().len() < before.len();
    let mut seen = HashSet::new();
    for (at, condition) in all.iter().enumerate() {
        let (field, kind, status) = (format!("{CONDITIONS}[{at}]"), text(condition, &["type"]), text(condition, &["status"]));
        if !had_empty {
            required(errors, &format!("{field}.type"), kind);
        }
        let allowed: &[&str] = if VERDICTS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        super::one_of(errors, &format!("{field}.status"), status, allowed);
        let contradiction = kind == "Approved" && seen.contains("Denied") || kind == "Denied" && seen.contains("Approved");
        if contradiction && !old.is_some_and(both) {
            errors.push(FieldError::invalid(CONDITIONS, kind, "Approved and Denied conditions are mutually exclusive"));
        }
        if !seen.insert(kind) && !had_duplicates {
            errors.push(FieldError::duplicate(format!("{field}.type"), kind));
        }
    }
}

fn of_kind<'a>(object: &'a Object, kind: &str) -> Vec<&'a Value> {
    object.list(&["status", "conditions"]).iter().filter(|condition| text(condition, &["type"]) == kind).collect()
}

/// One or more certificates in PEM, in base64; nothing is fine.
fn check_certificate(encoded: &str) -> Result<(), String> {
    if encoded.is_empty() {
        return Ok(());
    }
    let pem = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    if has_headers(&pem) {
        return Err("no PEM block headers are permitted".to_owned());
    }
    let mut blocks = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(&pem) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        block.parse_x509().map_err(|error| error.to_string())?;
        blocks += 1;
    }
    if blocks == 0 { Err("must contain at least one CERTIFICATE PEM block".into()) } else { Ok(()) }
}

/// Whether a block begins with headers (RFC 1421), which nobody reads.
fn has_headers(pem: &[u8]) -> bool {
    let lines: Vec<&[u8]> = pem.split(|byte| *byte == b'\n').collect();
    lines.windows(2).any(|pair| pair[0].starts_with(b"-----BEGIN ") && pair[1].contains(&b':'))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;

    fn request() -> Object {
        let key = KeyPair::generate().expect("a key");
        let pem = CertificateParams::default().serialize_request(&key).expect("a request").pem().expect("PEM");
        let object = json!({"metadata": {"name": "x"}, "spec": {
            "request": BASE64_STANDARD.encode(pem), "signerName": "example.com/signer", "usages": ["client auth"]}});
        Object::from_value(object).expect("an object")
    }

    fn messages(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn verdict(kind: &str) -> Value {
        json!({"type": kind, "status": "True"})
    }

    #[test]
    fn a_request_needs_a_true_signature_known_usages_and_a_signer() {
        assert_eq!(messages(&create(&request())), Vec::<String>::new());
        let mut wrong = request();
        wrong.set(&["spec", "signerName"], "signer");
        wrong.set(&["spec", "usages"], json!(["client auth", "client auth"]));
        wrong.set(&["spec", "expirationSeconds"], 599);
        assert_eq!(
            messages(&create(&wrong)),
            [
                "spec.usages[1]: Duplicate value: \"client auth\"",
                "spec.signerName: Invalid value: \"signer\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
            ]
        );
        wrong = request();
        wrong.set(&["spec", "request"], "eA==");
        assert_eq!(messages(&create(&wrong)), ["spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST"]);
    }

    #[test]
    fn only_approval_sets_verdicts_and_only_status_sets_certificates() {
        let (old, mut new) = (request(), request());
        new.set(&["spec"], old.get(&["spec"]).cloned().expect("a spec"));
        new.set(&["status", "conditions"], json!([verdict("Approved")]));
        assert_eq!(messages(&update(&new, &old, "approval")), Vec::<String>::new());
        assert_eq!(messages(&update(&new, &old, "status")), ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]);
        assert_eq!(
            messages(&update(&old, &new, "approval")),
            ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
        );
        let mut both = new.clone();
        both.set(&["status", "conditions"], json!([verdict("Approved"), verdict("Denied")]));
        assert_eq!(
            messages(&update(&both, &new, "approval")),
            ["status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"]
        );
        let mut signed = new.clone();
        signed.set(&["status", "certificate"], "eA==");
        assert_eq!(
            messages(&update(&signed, &new, "status")),
            ["status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"]
        );
        assert_eq!(messages(&update(&signed, &new, "approval")).len(), 2);
        let headed = "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n\neA==\n-----END CERTIFICATE-----\n";
        signed.set(&["status", "certificate"], BASE64_STANDARD.encode(headed));
        assert_eq!(
            messages(&update(&signed, &new, "status")),
            ["status.certificate: Invalid value: \"<certificate data>\": no PEM block headers are permitted"]
        );
    }

    #[test]
    fn conditions_have_types_of_their_own_unless_they_had_none_before() {
        let (mut old, mut new) = (request(), request());
        new.set(&["spec"], old.get(&["spec"]).cloned().expect("a spec"));
        new.set(&["status", "conditions"], json!([{"type": "", "status": "Maybe"}, {"type": "X"}, {"type": "X", "status": "True"}]));
        assert_eq!(
            messages(&update(&new, &old, "status")),
            [
                "status.conditions[0].type: Required value",
                "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
                "status.conditions[1].status: Required value",
                "status.conditions[2].type: Duplicate value: \"X\"",
            ]
        );
        old.set(&["status", "conditions"], json!([{"type": "", "status": "True"}, {"type": "", "status": "True"}]));
        new.set(&["status", "conditions"], json!([{"type": "", "status": "True"}, {"type": "X", "status": "True"}, {"type": "X", "status": "True"}]));
        assert_eq!(messages(&update(&new, &old, "status")), Vec::<String>::new());
    }

    #[test]
    fn a_signer_is_a_domain_and_a_path() {
        let said = |signer: &str| {
            let mut errors = Vec::new();
            signer_name(&mut errors, "s", signer);
            messages(&errors)
        };
        assert!(said("example.com/a.b").is_empty());
        assert_eq!(said(""), ["s: Required value"]);
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        assert_eq!(said("example.com/a/b"), [format!("s: Invalid value: \"example.com/a/b\": {form}")]);
        let both = said("example/A");
        assert_eq!(both[0], "s: Invalid value: \"example\": should be a domain with at least two segments separated by dots");
        assert!(both[1].starts_with("s: Invalid value: \"A\": validating label \"A\": a lowercase RFC 1123 subdomain"), "{both:?}");
    }
}
