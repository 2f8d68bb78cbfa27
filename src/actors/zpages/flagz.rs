//! With which flags a component runs. Pure.

use serde_json::{Value, json};

use super::{Facts, head};

pub const DEPRECATED: &str = "This version of the flagz endpoint is deprecated. Please use a newer version.";

/// The object's own fields.
pub fn fields(facts: &Facts) -> Value {
    json!({"flags": facts.flags})
}

pub fn text(facts: &Facts, delimiter: &str) -> String {
    let lines = facts.flags.iter().map(|(name, value)| format!("{name}{delimiter}{value}\n"));
    head(facts.name, "flagz") + &lines.collect::<String>()
}
