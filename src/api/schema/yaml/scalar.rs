//! What scalars mean, as in Go's YAML library, version 2, and in the JSON that upstream makes of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use granit_parser::{ScalarStyle, Tag};
use serde_json::Number;

use super::YamlError;
use crate::{meta::floats, schema::raw::Raw};

const NAMESPACE: &str = "tag:yaml.org,2002:";
/// No number is written longer.
const LONGEST_NUMBER: usize = 512;

/// A scalar that is resolved.
pub(super) enum Scalar {
    Value(Raw),
    Float(f64),
    /// `<<`: the fields of another object.
    Merge,
}

impl Scalar {
    /// What JSON has for it.
    ///
    /// # Errors
    /// There is nothing for what is infinite or no number.
    pub fn into_raw(self) -> Result<Raw, YamlError> {
        match self {
            Scalar::Value(value) => Ok(value),
            Scalar::Merge => Ok(Raw::String("<<".into())),
            Scalar::Float(float) if float.is_nan() => Err(YamlError::NoJson("json: unsupported value: NaN".into())),
            Scalar::Float(float) => match json_number(float) {
                Some(number) => Ok(Raw::Number(number)),
                None => Err(YamlError::NoJson(format!("json: unsupported value: {}Inf", if float < 0.0 { '-' } else { '+' }))),
            },
        }
    }

    /// The name of a field; what is no text is named as JSON's keys are.
    ///
    /// # Errors
    /// For what upstream has no name for.
    pub fn field_name(&self) -> Result<String, YamlError> {
        match self {
            Scalar::Value(Raw::String(text)) => Ok(text.clone()),
            Scalar::Value(Raw::Number(number)) => Ok(number.to_string()),
            Scalar::Value(Raw::Bool(flag)) => Ok(flag.to_string()),
            Scalar::Value(Raw::Null) => Err(YamlError::NoJson("unsupported map key of type: %!s(<nil>), key: <nil>".into())),
            Scalar::Value(Raw::List(_) | Raw::Object(_)) => Err(YamlError::Syntax("invalid map key: field names must be scalars".into())),
            Scalar::Float(float) if float.is_nan() => Ok(".nan".into()),
            Scalar::Float(float) if float.is_infinite() => Ok(if *float < 0.0 { "-.inf" } else { ".inf" }.into()),
            // Upstream cuts them.
            Scalar::Float(float) => Ok(floats::shortest_single(*float as f32)),
            Scalar::Merge => Ok("<<".into()),
        }
    }

    /// Its tag, by how it looks.
    fn tag(&self) -> &'static str {
        match self {
            Scalar::Value(Raw::Null) => "null",
            Scalar::Value(Raw::Bool(_)) => "bool",
            Scalar::Value(Raw::Number(_)) => "int",
            Scalar::Float(_) => "float",
            _ => "str",
        }
    }
}

/// The value of a scalar, by its tag or by how it looks.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    let known = tag.map(|tag| tag.suffix_in_namespace(NAMESPACE).unwrap_or_default());
    match known.as_deref() {
        None if style == ScalarStyle::Plain && text == "<<" => Ok(Scalar::Merge),
        Some("merge") => Ok(Scalar::Merge),
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        Some(wanted @ ("bool" | "int" | "float" | "null" | "timestamp")) => tagged(text, wanted),
        Some("binary") => binary(text),
        // Tags of other people's mean nothing here.
        _ => Ok(self::text(text)),
    }
}

fn text(text: &str) -> Scalar {
    Scalar::Value(Raw::String(text.to_owned()))
}

/// A value that bears a tag must be what the tag says.
fn tagged(text: &str, wanted: &str) -> Result<Scalar, String> {
    let value = plain(text);
    let is_time = wanted == "timestamp" && is_timestamp(text);
    let found = if is_time { "timestamp" } else { value.tag() };
    match value {
        value if found == wanted => Ok(value),
        Scalar::Value(Raw::Number(number)) if wanted == "float" && number.is_i64() => Ok(Scalar::Float(number.as_f64().unwrap_or_default())),
        _ => Err(format!("cannot decode !!{found} `{text}` as a !!{wanted}")),
    }
}

fn binary(text: &str) -> Result<Scalar, String> {
    let bytes = STANDARD.decode(text.replace(['\r', '\n', ' '], "")).map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
    String::from_utf8(bytes).map(|text| Scalar::Value(Raw::String(text))).map_err(|_| "!!binary value is no UTF-8 text".to_owned())
}

/// An unquoted scalar without a tag. Dates and times are texts, as they are written.
fn plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Value(Raw::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Value(Raw::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Scalar::Value(Raw::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        _ if text.len() > LONGEST_NUMBER => None,
        Some(b'.') => float(text),
        Some(b'0'..=b'9' | b'+' | b'-') => number(text),
        _ => None,
    };
    number.unwrap_or_else(|| self::text(text))
}

/// An integer of 64 bits in any of Go's notations, or a float.
fn number(text: &str) -> Option<Scalar> {
    let digits = text.replace('_', "");
    let (sign, unsigned) = match digits.split_at_checked(1) {
        Some((sign @ ("-" | "+"), rest)) => (sign, rest),
        _ => ("", &*digits),
    };
    let (base, whole) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    let is_digits = whole.bytes().all(|byte| char::from(byte).is_digit(base));
    let size = u64::from_str_radix(whole, base).ok().filter(|_| is_digits);
    let integer: Option<Number> = match (sign, size) {
        ("-", Some(size)) => 0_i64.checked_sub_unsigned(size).map(Number::from),
        // What has a sign is no unsigned number.
        ("+", Some(size)) => i64::try_from(size).ok().map(Number::from),
        (_, size) => size.map(Number::from),
    };
    integer.map(|number| Scalar::Value(Raw::Number(number))).or_else(|| float(&digits))
}

/// A float as YAML writes it.
fn float(text: &str) -> Option<Scalar> {
    let is_shaped = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) && text.bytes().any(|byte| byte.is_ascii_digit());
    let float = text.parse::<f64>().ok().filter(|float| is_shaped && float.is_finite())?;
    Some(Scalar::Float(float))
}

/// The number that stands in Go's JSON for a float, as it is read there: whole ones are integers where they fit. `None` where there is none.
fn json_number(float: f64) -> Option<Number> {
    let whole = float.is_finite().then(|| floats::json(float).parse::<i64>().ok()).flatten();
    whole.map(Number::from).or_else(|| Number::from_f64(float))
}

/// Whether a text is a date or a time in one of the forms that Go's library knows.
pub(super) fn is_timestamp(text: &str) -> bool {
    let (date, rest) = text.split_at(text.find(['T', 't', ' ']).unwrap_or(text.len()));
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let number = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        let fits = lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| part.parse::<i16>().ok()).flatten()
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4..=4), number(month, 1..=2), number(day, 1..=2)) else { return false };
    let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else { return false };
    let Ok(date) = jiff::civil::Date::new(year, month, day) else { return false };
    match rest.split_at_checked(1) {
        None => true,
        Some((" ", time)) => time.parse::<jiff::civil::Time>().is_ok(),
        Some((_, time)) => format!("{date}T{time}").parse::<jiff::Timestamp>().is_ok(),
    }
}
