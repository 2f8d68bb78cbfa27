//! JSON in annotations, as Go writes it.

use serde::Serialize;

/// A value as compact JSON, safe within HTML.
pub fn text(value: &impl Serialize) -> String {
    // Nothing that is written so can fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
