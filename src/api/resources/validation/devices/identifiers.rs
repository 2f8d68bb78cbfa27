//! What devices, their attributes and their pools are called.

use serde_json::Value;

use super::super::{Field, pod::volume_sources::driver_name};
use crate::{meta::names, status::FieldError};

const LONGEST_POOL: usize = 253;
const LONGEST_IDENTIFIER: usize = 32;
/// A domain, a slash and an identifier.
pub const LONGEST_QUALIFIED: usize = 63 + 1 + LONGEST_IDENTIFIER;
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const NOT_NORMAL: &str = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";

/// The name of a device, a request or a counter; an empty one is as wrong as any other.
pub fn label(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    name.judge(errors, names::label(name.text(), false));
}

/// The name of a node, where there is one.
pub fn node(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    name.judge(errors, names::subdomain(name.text(), false));
}

/// The name of a pool: subdomains between slashes.
pub fn pool(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    let text = name.text();
    if text.is_empty() {
        return errors.push(name.required(""));
    }
    if text.len() > LONGEST_POOL {
        errors.push(name.too_long(LONGEST_POOL));
    }
    // A name of the right length has no more parts.
    for part in text.split('/').take(LONGEST_POOL + 1) {
        errors.extend(names::subdomain(part, false).into_iter().map(|message| name.invalid_as(part, message)));
    }
}

/// The name of an attribute or capacity: an identifier, or one with a domain before it.
pub fn qualified(errors: &mut Vec<FieldError>, at: &Field<'_>, name: &str) {
    match name.split_once('/') {
        None => identifier(errors, at, name),
        // As upstream: a name with more slashes passes.
        Some((_, rest)) if rest.contains('/') => {}
        Some((domain, rest)) => {
            match domain {
                "" => errors.push(at.invalid_as("", "the domain must not be empty")),
                domain => driver_name(errors, &at.with(&Value::from(domain))),
            }
            match rest {
                "" => errors.push(at.invalid_as("", "the name must not be empty")),
                rest => identifier(errors, at, rest),
            }
        }
    }
}

/// The name of an attribute with its domain.
pub fn fully_qualified(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    qualified(errors, name, name.text());
    if !name.text().contains('/') {
        errors.push(name.invalid_as(name.text(), "a fully qualified name must be a domain and a name separated by a slash"));
    }
}

fn identifier(errors: &mut Vec<FieldError>, at: &Field<'_>, text: &str) {
    if text.len() > LONGEST_IDENTIFIER {
        errors.push(at.too_long(LONGEST_IDENTIFIER));
    }
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !begins || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        errors.push(at.invalid_as(text, IDENTIFIER));
    }
}

/// A UUID in its usual form.
pub fn uid(errors: &mut Vec<FieldError>, id: &Field<'_>) {
    let text = id.text();
    match check_uuid(text) {
        Err(why) => errors.push(id.invalid_as(text, format!("error validating uid: {why}"))),
        Ok(()) if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) => errors.push(id.invalid_as(text, NOT_NORMAL)),
        Ok(()) => {}
    }
}

/// Whether a text is a UUID in any of the forms that there are (RFC 4122, and those without hyphens or in braces).
fn check_uuid(text: &str) -> Result<(), String> {
    const PREFIX: &str = "urn:uuid:";
    let bytes = text.as_bytes();
    let wrong = || "invalid UUID format".to_owned();
    let hyphenated = match bytes.len() {
        36 => bytes,
        45 => {
            let (prefix, rest) = bytes.split_at(PREFIX.len());
            if !prefix.eq_ignore_ascii_case(PREFIX.as_bytes()) {
                return Err(format!("invalid urn prefix: {:?}", String::from_utf8_lossy(prefix)));
            }
            rest
        }
        38 if bytes.starts_with(b"{") && bytes.ends_with(b"}") => return Ok(()),
        38 => return Err("invalid bracketed UUID format".to_owned()),
        32 => return if bytes.iter().all(u8::is_ascii_hexdigit) { Ok(()) } else { Err(wrong()) },
        length => return Err(format!("invalid UUID length: {length}")),
    };
    let stands = |(at, byte): (usize, &u8)| if [8, 13, 18, 23].contains(&at) { *byte == b'-' } else { byte.is_ascii_hexdigit() };
    if hyphenated.iter().enumerate().all(stands) { Ok(()) } else { Err(wrong()) }
}
