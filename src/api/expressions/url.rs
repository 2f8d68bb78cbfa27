//! URLs, taken apart.

use crate::meta::url;

/// An absolute URL, or an absolute path, taken apart.
#[derive(Clone, Debug)]
pub struct Url {
    pub text: String,
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
}

/// Takes an absolute URL or path apart.
///
/// # Errors
/// Why it is none, in the words of Go's `ParseRequestURI`.
pub fn parse(text: &str) -> Result<Url, String> {
    let invalid = || format!("parse {text:?}: invalid URI for request");
    if text.is_empty() {
        return Err("parse \"\": empty url".to_owned());
    }
    let parts = url::parse(text)?;
    if parts.scheme.is_empty() && !text.starts_with('/') {
        return Err(invalid());
    }
    let (head, _) = text.split_once('#').unwrap_or((text, ""));
    let (head, _) = head.split_once('?').unwrap_or((head, ""));
    let rest = if parts.scheme.is_empty() { head } else { head.get(parts.scheme.len() + 1..).unwrap_or("") };
    let path = match rest.strip_prefix("//").filter(|_| !parts.scheme.is_empty()) {
        Some(authority) => authority.find('/').map_or("", |at| &authority[at..]),
        // What follows a scheme without a slash has no parts.
        None if !rest.starts_with('/') => "",
        None => rest,
    };
    Ok(Url { text: text.to_owned(), scheme: parts.scheme.clone(), host: parts.host.to_owned(), path: escaped(path), query: parts.query.to_owned() })
}

/// A path in which everything is escaped that must be.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
