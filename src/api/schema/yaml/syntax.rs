//! The words for texts that are no YAML. They are those of Go's library, which has them and the places of libyaml, and counts lines in a way
//! of its own (`yaml.v2`, `parser.fail`): none is told of the first line, and what the parser finds is told one line early.
//!
//! Our parser says whether a text is YAML; libyaml (in `serde_norway`) is asked only how it calls what is wrong.

use std::str::Utf8Error;

use granit_parser::{ErrorKind, ScanError};
use serde::de::IgnoredAny;

/// Longer texts are not read again: events of them would take much memory.
const LONGEST: usize = 128 << 10;
/// Nor those in which more may begin: libyaml's work grows with the depth, which it does not bound, and with directives.
const MOST_BEGINNINGS: usize = 1000;
/// How what libyaml tells begins; all else is of who reads its events.
const TOLD: [&str; 6] = ["did not find ", "could not find ", "found ", "mapping ", "block ", "control "];
/// What its parser tells; all else is of the scanner, or of the reader, which knows no lines.
const PARSER: [&str; 10] = [
    "did not find expected <stream-start>",
    "did not find expected <document start>",
    "did not find expected node content",
    "did not find expected '-' indicator",
    "did not find expected key",
    "did not find expected ',' or ']'",
    "did not find expected ',' or '}'",
    "found undefined tag handle",
    "found duplicate %YAML directive",
    "found duplicate %TAG directive",
];

/// What the scanner finds in a line, counted from 1.
pub(super) fn at_line(line: usize, why: &str) -> String {
    if line > 1 { format!("line {line}: {why}") } else { why.to_owned() }
}

/// Why a text is refused that our parser found an error in.
pub(super) fn describe(text: &str, error: &ScanError) -> String {
    if *error.kind() == ErrorKind::UnknownAnchor {
        let alias = error.marker().byte_offset().and_then(|at| text.get(at..)).unwrap_or_default().trim_start_matches('*');
        let name: String = alias.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
        return format!("unknown anchor '{name}' referenced");
    }
    named(text).unwrap_or_else(|| at_line(error.marker().line(), &error.info()))
}

/// The same as libyaml has it; `None` where it finds nothing, or is not asked.
fn named(text: &str) -> Option<String> {
    let beginnings = text.bytes().filter(|byte| matches!(byte, b'[' | b'{' | b'%')).count();
    if text.len() > LONGEST || beginnings > MOST_BEGINNINGS {
        return None;
    }
    let error = serde_norway::from_str::<IgnoredAny>(text).err()?;
    let told = error.to_string();
    let problem = [", while ", " at line ", " at position "].iter().fold(&*told, |told, end| told.split(*end).next().unwrap_or(told));
    if !TOLD.iter().any(|beginning| problem.starts_with(beginning)) {
        return None;
    }
    let line = error.location()?.line();
    Some(match line.checked_sub(1) {
        Some(before @ 1..) if PARSER.contains(&problem) => format!("line {before}: {problem}"),
        _ => at_line(line, problem),
    })
}

/// Why bytes are refused that are no text.
pub(super) fn of_bytes(bytes: &[u8], error: Utf8Error) -> &'static str {
    // What begins a character has two to four leading bits; what goes on with one has a single one.
    match (error.error_len(), bytes.get(error.valid_up_to())) {
        (None, _) => "incomplete UTF-8 octet sequence",
        (Some(_), Some(0xc0..=0xf7)) => "invalid trailing UTF-8 octet",
        (Some(_), _) => "invalid leading UTF-8 octet",
    }
}
