//! What scalars mean, as in Go's YAML library, version 2, and in the JSON that upstream makes of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use granit_parser::{ScalarStyle, Tag};
use serde_json::Number;

use crate::schema::raw::Raw;

const NAMESPACE: &str = "tag:yaml.org,2002:";

/// A scalar that is resolved.
pub(super) enum Scalar {
    Value(Raw),
    /// `<<`: the fields of another object.
    Merge,
}

/// The value of a scalar, by its tag or by how it looks.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    let known = tag.map(|tag| tag.suffix_in_namespace(NAMESPACE).unwrap_or_default());
    let value = match known.as_deref() {
        None if style == ScalarStyle::Plain && text == "<<" => return Ok(Scalar::Merge),
        Some("merge") => return Ok(Scalar::Merge),
        None if style == ScalarStyle::Plain => plain(text)?,
        Some(wanted @ ("bool" | "int" | "float" | "null" | "timestamp")) => tagged(text, wanted)?,
        Some("binary") => binary(text)?,
        // Tags of other people's mean nothing here.
        _ => Raw::String(text.to_owned()),
    };
    Ok(Scalar::Value(value))
}

/// The name of a field; numbers and booleans are their text, as in JSON.
pub(super) fn field_name(value: &Raw) -> Result<String, String> {
    match value {
        Raw::String(text) => Ok(text.clone()),
        Raw::Number(number) => Ok(number.to_string()),
        Raw::Bool(flag) => Ok(flag.to_string()),
        Raw::Null => Err("unsupported map key of type: <nil>".into()),
        Raw::List(_) | Raw::Object(_) => Err("invalid map key: field names must be scalars".into()),
    }
}

/// A value that bears a tag must be what the tag says.
fn tagged(text: &str, wanted: &str) -> Result<Raw, String> {
    let value = plain(text)?;
    let fits = match (&value, wanted) {
        (Raw::Bool(_), "bool") | (Raw::Null, "null") | (Raw::Number(_), "float") => true,
        (Raw::Number(number), "int") => !number.is_f64(),
        (Raw::String(time), "timestamp") => timestamp(text).is_some_and(|read| read == *time),
        _ => false,
    };
    if fits { Ok(value) } else { Err(format!("cannot decode `{text}` as a !!{wanted}")) }
}

fn binary(text: &str) -> Result<Raw, String> {
    let bytes = STANDARD.decode(text.replace(['\r', '\n', ' '], "")).map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
    String::from_utf8(bytes).map(Raw::String).map_err(|_| "!!binary value is no UTF-8 text".to_owned())
}

/// An unquoted scalar without a tag.
fn plain(text: &str) -> Result<Raw, String> {
    let known = match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Raw::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Raw::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(Raw::Bool(false)),
        _ => None,
    };
    if let Some(known) = known {
        return Ok(known);
    }
    match text.trim_start_matches(['+', '-']) {
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => return Err(format!("json: unsupported value: {text}")),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => float(text),
        Some(b'0'..=b'9' | b'+' | b'-') => match timestamp(text) {
            Some(time) => return Ok(Raw::String(time)),
            None => number(text),
        },
        _ => None,
    };
    Ok(number.map_or_else(|| Raw::String(text.to_owned()), Raw::Number))
}

/// An integer in any of Go's notations, or a float.
fn number(text: &str) -> Option<Number> {
    // No number is as long as that.
    if text.len() > 512 {
        return None;
    }
    let digits = text.replace('_', "");
    let (negative, unsigned) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let (base, whole) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    let is_digits = whole.bytes().all(|byte| char::from(byte).is_digit(base));
    match u64::from_str_radix(whole, base).ok().filter(|_| is_digits) {
        Some(number) if negative => number.checked_neg().map(Number::from).or_else(|| 0_i64.checked_sub_unsigned(number).map(Number::from)),
        Some(number) => Some(number.into()),
        None => float(&digits),
    }
}

/// A float as YAML writes it; whole ones are the integers that Go's JSON prints.
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let shaped = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) && unsigned.bytes().any(|byte| byte.is_ascii_digit());
    if !shaped || text.len() > 512 {
        return None;
    }
    let float = text.parse::<f64>().ok().filter(|float| float.is_finite())?;
    if float.fract() == 0.0 && float.abs() < 2f64.powi(63) {
        // Nothing is cut off: it is whole and small enough.
        return Some((float as i64).into());
    }
    Number::from_f64(float)
}

/// A date or time as JSON shows Go's; `None` if it is none.
fn timestamp(text: &str) -> Option<String> {
    let (date, rest) = text.split_at_checked(text.find(['T', 't', ' ']).unwrap_or(text.len()))?;
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let number = |part: &str, longest: usize| {
        let fits = (1..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| part.parse::<i8>().ok()).flatten()
    };
    let year = (year.len() == 4).then(|| year.parse::<i16>().ok()).flatten()?;
    let date = jiff::civil::Date::new(year, number(month, 2)?, number(day, 2)?).ok()?;
    match rest.split_at_checked(1) {
        None => Some(format!("{date}T00:00:00Z")),
        Some((" ", time)) => {
            let time: jiff::civil::Time = time.parse().ok()?;
            Some(format!("{date}T{time}Z"))
        }
        Some((_, time)) => {
            let zoned = format!("{date}T{time}");
            zoned.parse::<jiff::Timestamp>().ok()?;
            Some(zoned)
        }
    }
}
