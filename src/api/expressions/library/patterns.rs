//! Regular expressions.

use std::borrow::Cow;

use regex::Regex;

use super::{Context, Row};
use crate::{
    expressions::{
        meter::Fault,
        values::{Val, no_overload},
    },
    pattern::{self, syntax as go},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("find", find, &[("string_find_string", "string.(string) -> string")]),
    (
        "findAll",
        find_all,
        &[("string_find_all_string", "string.(string) -> list(string)"), ("string_find_all_string_int", "string.(string, int) -> list(string)")],
    ),
];

/// A pattern that is compiled while an expression is evaluated counts as so many bytes of work.
const COMPILING: usize = 1 << 20;

/// A compiled pattern, in Go's words.
///
/// # Errors
/// It is none, or too large.
pub fn compile(text: &str) -> Result<Regex, String> {
    match go::fault(text) {
        Some(fault) => Err(fault),
        None => pattern::compile(text).ok_or_else(|| "error parsing regexp: expression too large".to_owned()),
    }
}

/// The pattern of a call: the one that is written down there, or the one that was computed.
fn pattern_of<'c>(text: &str, context: &mut Context<'c>) -> Result<Cow<'c, Regex>, Fault> {
    if let Some(pattern) = context.pattern {
        return Ok(Cow::Borrowed(pattern));
    }
    if let Some((known, pattern)) = &context.meter.pattern
        && **known == *text
    {
        return Ok(Cow::Owned(pattern.clone()));
    }
    context.meter.work(COMPILING)?;
    let pattern = compile(text).map_err(Fault::error)?;
    context.meter.pattern = Some((text.into(), pattern.clone()));
    Ok(Cow::Owned(pattern))
}

type Ran<'a> = Result<Val<'a>, Fault>;

/// `matches` stands with the functions on texts.
pub(super) fn matches<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text), Val::String(pattern)] = args else { return Err(no_overload()) };
    context.meter.work(text.len() * (1 + pattern.len() / 16))?;
    Ok(Val::Bool(pattern_of(pattern, context)?.is_match(text)))
}

fn find<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text), Val::String(pattern)] = args else { return Err(no_overload()) };
    context.meter.work(text.len() * (1 + pattern.len() / 4))?;
    let pattern = pattern_of(pattern, context)?;
    Ok(pattern.find(text).map_or_else(|| Val::borrowed(""), |found| Val::text(found.as_str())))
}

fn find_all<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let (text, pattern, limit) = match args {
        [Val::String(text), Val::String(pattern)] => (text, pattern, usize::MAX),
        [Val::String(text), Val::String(pattern), Val::Int(limit)] => (text, pattern, usize::try_from(*limit).unwrap_or(usize::MAX)),
        _ => return Err(no_overload()),
    };
    context.meter.work(text.len() * (1 + pattern.len() / 4))?;
    let pattern = pattern_of(pattern, context)?;
    let mut made = Vec::new();
    for found in pattern.find_iter(text).take(limit) {
        context.meter.allocate(64 + found.len())?;
        made.push(Val::text(found.as_str()));
    }
    Ok(Val::list(made))
}
