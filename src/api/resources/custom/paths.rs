//! Paths into objects of a schema: `.spec.replicas`, and where lists of names are allowed `.spec['a.b']`.

use serde_json::Value;

use crate::resources::tree::{at, is_empty};

/// What a path leads to.
pub struct Found<'a> {
    pub names: Vec<String>,
    pub schema: &'a Value,
}

const UNKNOWN: &str = "does not refer to a valid field";
const ENDS: &str = "unexpected end of JSON path";

/// Follows a path.
///
/// # Errors
/// Why it leads nowhere.
pub fn resolve<'a>(path: &str, schema: &'a Value, with_brackets: bool) -> Result<Found<'a>, String> {
    let mut found = Found { names: Vec::new(), schema };
    let mut rest = path;
    while let Some(token) = next(&mut rest) {
        let name = match token {
            "." => next(&mut rest).ok_or(ENDS)?.to_owned(),
            "[" if !with_brackets => return Err("array notation is not allowed".to_owned()),
            "[" => bracketed(&mut rest)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        found.schema = step(found.schema, &name)?;
        found.names.push(name);
    }
    Ok(found)
}

fn step<'a>(schema: &'a Value, name: &str) -> Result<&'a Value, String> {
    if !is_empty(schema, &["properties"]) {
        return Some(at(schema, &["properties", name])).filter(|found| found.is_object()).ok_or_else(|| UNKNOWN.to_owned());
    }
    match at(schema, &["additionalProperties"]) {
        Value::Null => Err(UNKNOWN.to_owned()),
        values => Ok(values),
    }
}

/// The quoted name after an opening bracket, and the closing one.
fn bracketed(rest: &mut &str) -> Result<String, String> {
    let token = next(rest).ok_or(ENDS)?;
    let inner = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\''));
    let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
    match next(rest).ok_or(ENDS)? {
        "]" => Ok(inner.replace("\\'", "'").replace("\\\\", "\\")),
        other => Err(format!("expected ] but got {other}")),
    }
}

/// Takes the next token: a delimiter, a quoted text, or what stands before the next delimiter.
fn next<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = *rest;
    let end = match text.chars().next()? {
        '.' | '[' | ']' => 1,
        '\'' => closing_quote(text).unwrap_or(text.len()),
        _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
    };
    let (token, after) = text.split_at(end);
    *rest = after;
    Some(token)
}

/// The end of a text that begins with a quote.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\').map(|at| at + 1)
}
