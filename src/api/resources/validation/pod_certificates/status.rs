//! Verdicts: a request is pending, and then issued, denied or failed for good.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};

use super::{super::conditions::conditions, Field, SHORTEST, bare, bytes, spec};
use crate::{
    meta::{Object, time::parse_time},
    resources::tree::{at, items, text},
    status::FieldError,
};

const STATES: [&str; 3] = ["Issued", "Denied", "Failed"];
/// Bytes of a chain.
const LARGEST_CHAIN: usize = 100 * 1024;
/// How far the beginning of a certificate may be from now.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// How long after its beginning, and before its end, a certificate may be due for another.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);

/// What has become of a request: `Pending`, `Issued`, `Denied` or `Failed`.
pub fn state(object: &Object) -> &'static str {
    let conditions = object.list(&["status", "conditions"]);
    let known = |condition: &Value| STATES.into_iter().find(|state| *state == text(condition, &["type"]));
    conditions.iter().rev().find_map(known).unwrap_or("Pending")
}

/// What a status update has wrong, whenever it comes.
pub fn status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let [value, before] = [new, old].map(of);
    let field = Field::root("status", value);
    states(&mut errors, value);
    conditions(&mut errors, &field.child("conditions"));
    if !errors.is_empty() {
        return errors;
    }
    if STATES.iter().any(|state| is(before, state)) {
        if meaning(value) != meaning(before) {
            errors.push(bare(&field, "immutable after PodCertificateRequest is issued, denied, or failed"));
        }
    } else if is(value, "Denied") || is(value, "Failed") {
        if meaning(value).keys().any(|field| *field != "conditions") {
            errors.push(bare(&field, "non-condition status fields must be empty when denying or failing the PodCertificateRequest"));
        }
    } else if is(value, "Issued") {
        issued(&mut errors, &field, old);
    } else if meaning(value) != meaning(before) {
        errors.push(bare(&field, "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\""));
    }
    errors
}

/// What a status update that is right otherwise has wrong now: a certificate that begins begins now.
pub fn timing(new: &Object, old: &Object, now: Timestamp) -> Option<FieldError> {
    let value = of(new);
    if !is(value, "Issued") || STATES.iter().any(|state| is(of(old), state)) {
        return None;
    }
    let field = Field::root("status", value);
    let begins = field.child("notBefore");
    let is_near = parse_time(begins.text()).is_ok_and(|time| time.duration_since(now).abs() < SKEW);
    (!is_near).then(|| begins.invalid("must be set to within 5 minutes of kube-apiserver's current time"))
}

fn of(object: &Object) -> &Value {
    object.get(&["status"]).unwrap_or(&Value::Null)
}

/// Whether a status has a condition of this type that holds.
fn is(status: &Value, kind: &str) -> bool {
    items(status, &["conditions"]).iter().any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == "True")
}

/// The fields that say something.
fn meaning(status: &Value) -> BTreeMap<&str, &Value> {
    let is_empty = |value: &Value| value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
    let fields = status.as_object().into_iter().flatten();
    fields.filter(|(_, value)| !is_empty(value)).map(|(name, value)| (name.as_str(), value)).collect()
}

/// One condition at most, of a known type, that holds. Upstream writes the index with a dot before it.
fn states(errors: &mut Vec<FieldError>, status: &Value) {
    let mut known = 0;
    for (index, condition) in items(status, &["conditions"]).iter().enumerate() {
        let (kind, path) = (text(condition, &["type"]), format!("status.conditions.[{index}]"));
        if !STATES.contains(&kind) {
            errors.push(FieldError::not_supported(format!("{path}.type"), kind, &STATES));
            continue;
        }
        known += 1;
        if known > 1 {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(FieldError::invalid(format!("{path}.type"), kind, why));
        }
        let holds = text(condition, &["status"]);
        if holds != "True" {
            errors.push(FieldError::not_supported(format!("{path}.status"), holds, &["True"]));
        }
    }
}

/// What is wrong with a chain that was issued, and with what is told of its first certificate.
fn issued(errors: &mut Vec<FieldError>, status: &Field<'_>, old: &Object) {
    let chain = status.child("certificateChain");
    if chain.text().len() > LARGEST_CHAIN {
        return errors.push(chain.too_long(LARGEST_CHAIN));
    }
    let mut blocks = Pem::iter_from_buffer(chain.text().as_bytes()).map_while(Result::ok);
    let Some(first) = blocks.next() else {
        return errors.push(chain.invalid("issued certificate chain must contain at least one certificate"));
    };
    if first.label != "CERTIFICATE" {
        return errors.push(chain.invalid("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
    }
    let Some(leaf) = certificate(&first) else {
        return errors.push(chain.invalid("leaf certificate does not parse as valid X.509"));
    };
    subject_names(errors, &chain, &leaf);
    match asked_key(old) {
        Ok(key) if key == leaf.public_key().raw => {}
        Ok(_) => return errors.push(chain.invalid("leaf certificate was not issued to the requested public key")),
        Err(error) => return errors.push(error),
    }
    let validity = leaf.validity();
    let [begins, ends] = [validity.not_before, validity.not_after].map(|time| Timestamp::from_second(time.timestamp()).ok());
    let Some((begins, ends)) = begins.zip(ends) else {
        return errors.push(chain.invalid("leaf certificate does not parse as valid X.509"));
    };
    if let Some(error) = times(errors, status, begins, ends, at(old.get(&["spec"]).unwrap_or(&Value::Null), &["maxExpirationSeconds"])) {
        return errors.push(error);
    }
    if !errors.is_empty() {
        return;
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return errors.push(chain.invalid("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
        }
        if certificate(&block).is_none() {
            return errors.push(chain.invalid("intermediate certificate does not parse as valid X.509"));
        }
    }
}

fn certificate(block: &Pem) -> Option<X509Certificate<'_>> {
    let (rest, parsed) = X509Certificate::from_der(&block.contents).ok()?;
    rest.is_empty().then_some(parsed)
}

fn subject_names(errors: &mut Vec<FieldError>, chain: &Field<'_>, leaf: &X509Certificate<'_>) {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names: Vec<&GeneralName<'_>> = names.iter().flat_map(|names| &names.value.general_names).collect();
    for name in &names {
        let GeneralName::DNSName(name) = name else { continue };
        for (is_wrong, why) in [
            (name.is_empty(), "leaf certificate should not contain empty DNSName"),
            (name.contains(".."), "leaf certificate's DNSName should not contain '..'"),
            (name.starts_with('.') || name.ends_with('.'), "leaf certificate's DNSName should not start or end with '.'"),
        ] {
            if is_wrong {
                errors.push(chain.invalid_as(*name, why));
            }
        }
    }
    for name in &names {
        if let GeneralName::RFC822Name(address) = name
            && !is_address(address)
        {
            errors.push(chain.invalid_as(*address, "leaf certificate should not contain invalid EmailAddress"));
        }
    }
}

/// Whether a text is `local@domain`, of words with dots between them (RFC 5322, `dot-atom`).
fn is_address(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c));
    text.split_once('@').is_some_and(|(local, domain)| [local, domain].into_iter().all(|side| side.split('.').all(is_word)))
}

/// The public key that a stored request is for, in DER.
fn asked_key(old: &Object) -> Result<Vec<u8>, FieldError> {
    let spec = spec(old);
    let request = bytes(&spec, "stubPKCS10Request");
    if request.is_empty() {
        return Ok(bytes(&spec, "pkixPublicKey"));
    }
    match X509CertificationRequest::from_der(&request) {
        Ok((_, parsed)) => Ok(parsed.certification_request_info.subject_pki.raw.to_vec()),
        Err(_) => Err(bare(&spec.child("stubPKCS10Request"), "must be a valid PKCS#10 CSR")),
    }
}

/// What is wrong with the times: those that are missing are told together, with what was wrong before, then the first that does not fit.
fn times(errors: &mut Vec<FieldError>, status: &Field<'_>, begins: Timestamp, ends: Timestamp, longest: &Value) -> Option<FieldError> {
    let [not_before, not_after, refresh] = ["notBefore", "notAfter", "beginRefreshAt"].map(|name| status.child(name));
    let consistent = "must be present and consistent with the issued certificate";
    let in_range = "must be present and in the range [notbefore+10min, notafter-10min]";
    for (field, why) in [(&not_before, consistent), (&not_after, consistent), (&refresh, in_range)] {
        if field.text().is_empty() {
            errors.push(field.required(why));
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let chain = status.child("certificateChain");
    let (lifetime, time) = (ends.duration_since(begins), |field: &Field<'_>| parse_time(field.text()).ok());
    let nanoseconds = || i64::try_from(lifetime.as_nanos()).unwrap_or(i64::MAX);
    let longest = longest.as_i64().unwrap_or_default();
    if time(&not_before) != Some(begins) {
        return Some(not_before.invalid("must be set to the NotBefore time encoded in the leaf certificate"));
    }
    if time(&not_after) != Some(ends) {
        return Some(not_after.invalid("must be set to the NotAfter time encoded in the leaf certificate"));
    }
    if lifetime < SignedDuration::from_secs(SHORTEST) {
        return Some(chain.invalid_as(nanoseconds(), "leaf certificate lifetime must be >= 1 hour"));
    }
    if lifetime > SignedDuration::from_secs(longest) {
        return Some(chain.invalid_as(nanoseconds(), format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})")));
    }
    let due = time(&refresh);
    if due.is_none_or(|due| due.duration_since(begins) < MARGIN) {
        return Some(refresh.invalid("must be at least 10 minutes after status.notBefore"));
    }
    if due.is_none_or(|due| ends.duration_since(due) < MARGIN) {
        return Some(refresh.invalid("must be at least 10 minutes before status.notAfter"));
    }
    None
}
