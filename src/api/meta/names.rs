//! Rules for names, label keys and label values. A rule returns what is wrong; nothing when all is well.

/// Judges a name, or with `true` a prefix that a generated name begins with (it may end in a dash).
pub type NameRule = fn(&str, bool) -> Vec<String>;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const UNDERSCORED: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const HTTP_HEADER: &str =
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

/// What upstream says of names that are too long; of the keys and values of labels it says bytes.
fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

/// What upstream says of keys and values of labels.
fn too_long_label(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

/// The name as a rule judges it: the dash at the end of a prefix will be followed by something.
fn masked(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(stem) if prefix && !stem.is_empty() => format!("{stem}a"),
        _ => name.to_owned(),
    }
}

fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// RFC 1123 subdomain: the rule for most kinds.
pub fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut messages = Vec::new();
    if name.len() > 253 {
        messages.push(too_long(253));
    }
    if !is_subdomain(&name) {
        messages.push(SUBDOMAIN.to_owned());
    }
    messages
}

/// A search path of DNS: a subdomain that may have underscores.
pub fn subdomain_with_underscore(name: &str) -> Vec<String> {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_part = |part: &str| {
        let bytes = part.strip_prefix('_').unwrap_or(part).as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b))
    };
    let mut messages = Vec::new();
    if name.len() > 253 {
        messages.push(too_long(253));
    }
    if !name.split('.').all(is_part) {
        messages.push(UNDERSCORED.to_owned());
    }
    messages
}

/// The name of an HTTP header.
pub fn http_header(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![HTTP_HEADER.to_owned()]
}

/// RFC 1123 label: namespaces, services, containers, volumes.
pub fn label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut messages = Vec::new();
    if name.len() > 63 {
        messages.push(too_long(63));
    }
    if !is_label(&name) {
        messages.push(if is_subdomain(&name) { "must not contain dots".to_owned() } else { LABEL.to_owned() });
    }
    messages
}

/// RFC 1035 label: must begin with a letter.
pub fn dns_1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut messages = Vec::new();
    if name.len() > 63 {
        messages.push(too_long(63));
    }
    if !is_label(&name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        messages.push(LABEL_1035.to_owned());
    }
    messages
}

/// A segment of a URL path: roles and bindings.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let bad = ['/', '%'].into_iter().filter(|c| name.contains(*c));
    bad.map(|c| format!("may not contain '{c}'")).collect()
}

/// A label key or another name with an optional domain: `example.com/name`.
pub fn qualified(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let parts: Vec<&str> = name.split('/').collect();
    let part = match parts[..] {
        [part] => part,
        [domain, part] => {
            if domain.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                let too_long = (domain.len() > 253).then(|| too_long_label(253));
                let malformed = (!is_subdomain(domain)).then(|| SUBDOMAIN.to_owned());
                messages.extend([too_long, malformed].into_iter().flatten().map(|message| format!("prefix part {message}")));
            }
            part
        }
        _ => return vec![format!("a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")],
    };
    if part.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if part.len() > 63 {
        messages.push(format!("name part {}", too_long_label(63)));
    }
    if !is_qualified_part(part) {
        messages.push(format!("name part {QUALIFIED}"));
    }
    messages
}

/// A label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 63 {
        messages.push(too_long_label(63));
    }
    if !value.is_empty() && !is_qualified_part(value) {
        messages.push(LABEL_VALUE.to_owned());
    }
    messages
}

/// Whether a finalizer is Kubernetes' own or has a domain.
pub fn is_finalizer(name: &str) -> bool {
    name.contains('/') || matches!(name, "kubernetes" | "orphan" | "foregroundDeletion")
}

/// A host that begins with `*.`.
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > 253 {
        messages.push(too_long(253));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        messages.push(WILDCARD.to_owned());
    }
    messages
}

/// The name of a port.
pub fn port_name(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > 15 {
        messages.push(too_long(15));
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

/// A key of a config map or secret.
pub fn config_key(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if key.len() > 253 {
        messages.push(too_long(253));
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        messages.push(CONFIG_KEY.to_owned());
    }
    match key {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        key if key.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// The name of an environment variable.
pub fn env_var(name: &str) -> Vec<String> {
    if name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_too_long_in_characters_and_labels_in_bytes() {
        let long = "a".repeat(254);
        assert_eq!(config_key(&long), ["must be no more than 253 characters"]);
        assert_eq!(label(&long, false), ["must be no more than 63 characters"]);
        assert_eq!(subdomain(&format!("{}a", "a.".repeat(200)), false), ["must be no more than 253 characters"]);
        assert_eq!(label_value(&long), ["must be no more than 63 bytes"]);
        assert_eq!(qualified(&long), ["name part must be no more than 63 bytes"]);
        assert_eq!(qualified(&format!("{}a/b", "a.".repeat(200))), ["prefix part must be no more than 253 bytes"]);
    }
}
