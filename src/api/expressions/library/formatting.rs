//! `format`: texts with places for values (`cel-go/ext/formatting.go`).

use std::fmt::Write as _;

use super::Context;
use crate::expressions::{
    meter::Fault,
    values::{List, Val, times},
};

/// Digits after the point, where nothing else is said.
const PRECISION: usize = 6;
/// More digits are refused.
const MOST_DIGITS: usize = 1000;

/// A number as Go's shortest form has it.
pub(super) fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if value == 0.0 { 0 } else { format!("{value:e}").rsplit('e').next().and_then(|text| text.parse().ok()).unwrap_or(0) };
    if (-4..21).contains(&exponent) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let sign = if power.starts_with('-') { '-' } else { '+' };
    format!("{mantissa}e{sign}{:0>2}", power.trim_start_matches('-'))
}

/// The text with the values of a list at its places.
pub(super) fn format(text: &str, list: &List<'_>, context: &mut Context<'_>) -> Result<String, Fault> {
    let (mut out, mut next, mut rest) = (String::new(), 0, text);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let precision = precision(&mut rest)?;
        let verb = rest.chars().next().ok_or_else(|| Fault::error("unexpected end of string"))?;
        rest = &rest[verb.len_utf8()..];
        if next >= list.len() {
            return Err(Fault::error(format!("index {next} out of range")));
        }
        let value = list.get(next)?;
        next += 1;
        let before = out.len();
        clause(&mut out, verb, precision, &value, context).map_err(|fault| match fault {
            Fault::Error(why) => Fault::error(format!("error during formatting: {why}")),
            limit => limit,
        })?;
        context.meter.allocate(out.len() - before)?;
    }
    out.push_str(rest);
    context.meter.allocate(text.len())?;
    Ok(out)
}

/// `.3` before the letter.
fn precision(rest: &mut &str) -> Result<Option<usize>, Fault> {
    let Some(digits) = rest.strip_prefix('.') else { return Ok(None) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let number = digits[..end].parse().ok().filter(|number| *number <= MOST_DIGITS);
    *rest = &digits[end..];
    number.map(Some).ok_or_else(|| Fault::error("error while parsing precision"))
}

fn clause(out: &mut String, verb: char, precision: Option<usize>, value: &Val<'_>, context: &mut Context<'_>) -> Result<(), Fault> {
    let digits = precision.unwrap_or(PRECISION);
    match (verb, value) {
        ('s', value) => shown(out, value, context, 0)?,
        ('d', Val::Int(value)) => out.push_str(&value.to_string()),
        ('d', Val::Uint(value)) => out.push_str(&value.to_string()),
        ('d', Val::Double(value)) if !value.is_finite() => out.push_str(&special(*value)),
        ('f' | 'e', Val::Double(value)) if !value.is_finite() => out.push_str(&special(*value)),
        ('f', Val::Double(value)) => {
            let _ = write!(out, "{value:.digits$}");
        }
        ('f', Val::Int(value)) => {
            let _ = write!(out, "{:.digits$}", *value as f64);
        }
        ('f', Val::Uint(value)) => {
            let _ = write!(out, "{:.digits$}", *value as f64);
        }
        ('e', Val::Double(value)) => out.push_str(&scientific(*value, digits)),
        ('e', Val::Int(value)) => out.push_str(&scientific(*value as f64, digits)),
        ('e', Val::Uint(value)) => out.push_str(&scientific(*value as f64, digits)),
        ('b', Val::Int(value)) => signed(out, *value, |value| format!("{value:b}")),
        ('b', Val::Uint(value)) => {
            let _ = write!(out, "{value:b}");
        }
        ('b', Val::Bool(value)) => out.push(if *value { '1' } else { '0' }),
        ('o', Val::Int(value)) => signed(out, *value, |value| format!("{value:o}")),
        ('o', Val::Uint(value)) => {
            let _ = write!(out, "{value:o}");
        }
        ('x', Val::Int(value)) => signed(out, *value, |value| format!("{value:x}")),
        ('X', Val::Int(value)) => signed(out, *value, |value| format!("{value:X}")),
        ('x', Val::Uint(value)) => {
            let _ = write!(out, "{value:x}");
        }
        ('X', Val::Uint(value)) => {
            let _ = write!(out, "{value:X}");
        }
        ('x' | 'X', Val::String(text)) => hex(out, text.as_bytes(), verb),
        ('x' | 'X', Val::Bytes(bytes)) => hex(out, bytes, verb),
        ('d' | 'f' | 'e' | 'b' | 'o' | 'x' | 'X', other) => {
            return Err(Fault::error(format!("verb {verb:?} cannot be used with a value of type {}", other.type_name())));
        }
        _ => return Err(Fault::error(format!("unrecognized formatting clause \"{verb}\""))),
    }
    Ok(())
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "∞"
    } else {
        "-∞"
    }
    .to_owned()
}

fn signed(out: &mut String, value: i64, digits: fn(u64) -> String) {
    if value < 0 {
        out.push('-');
    }
    out.push_str(&digits(value.unsigned_abs()));
}

fn hex(out: &mut String, bytes: &[u8], verb: char) {
    for byte in bytes {
        let _ = if verb == 'x' { write!(out, "{byte:02x}") } else { write!(out, "{byte:02X}") };
    }
}

/// `3.140000×10⁰⁰`
fn scientific(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let raised = |c: char| match c {
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4'..='9' => char::from_u32('⁴' as u32 + (c as u32 - '4' as u32)).unwrap_or(c),
        _ => '⁻',
    };
    let sign = if power.starts_with('-') { "⁻" } else { "" };
    let padded = format!("{:0>2}", power.trim_start_matches('-'));
    format!("{mantissa}×10{sign}{}", padded.chars().map(raised).collect::<String>())
}

/// A value as `%s` has it.
fn shown(out: &mut String, value: &Val<'_>, context: &mut Context<'_>, depth: usize) -> Result<(), Fault> {
    context.meter.allocate(16 + value.bytes())?;
    match value {
        Val::String(text) if depth == 0 => out.push_str(text),
        Val::String(text) => {
            let _ = write!(out, "\"{}\"", &**text);
        }
        Val::Bool(value) => out.push_str(&value.to_string()),
        Val::Int(value) => out.push_str(&value.to_string()),
        Val::Uint(value) => out.push_str(&value.to_string()),
        Val::Double(value) if !value.is_finite() => out.push_str(&special(*value)),
        Val::Double(value) => out.push_str(&shortest(*value)),
        Val::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Val::Null => out.push_str("null"),
        Val::Duration(nanos) => out.push_str(&times::seconds(*nanos)),
        Val::Timestamp(time) => out.push_str(&times::shown(*time)),
        Val::Type(name) => out.push_str(name),
        Val::List(list) => {
            out.push('[');
            for (at, entry) in list.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                shown(out, &entry?, context, depth + 1)?;
            }
            out.push(']');
        }
        Val::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries()? {
                let mut text = String::new();
                shown(&mut text, &key, context, depth + 1)?;
                text.push_str(": ");
                shown(&mut text, &value, context, depth + 1)?;
                entries.push(text);
            }
            entries.sort();
            let _ = write!(out, "{{{}}}", entries.join(", "));
        }
        other => {
            return Err(Fault::error(format!(
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                other.type_name()
            )));
        }
    }
    Ok(())
}
