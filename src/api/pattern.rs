//! Patterns of schemas: Go's regular expressions in the words of the `regex` crate, which knows the same ones and a few more.

pub mod syntax;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

/// Bytes that a compiled pattern may have; nearly all have a hundredth of that.
const LARGEST: usize = 2 << 20;
/// Patterns up to this length in bytes are kept compiled.
const SHORT: usize = 512;
/// Compiled patterns that a schema keeps; others are compiled whenever they are needed.
const MOST_KEPT: usize = 64;

/// What the patterns of a schema share.
#[derive(Debug, Default)]
pub struct Patterns {
    /// Compiled patterns that are kept.
    kept: AtomicUsize,
    heaviest: AtomicUsize,
}

pub type Kept = Arc<Patterns>;

impl Patterns {
    /// The largest [`Pattern::weight`].
    pub fn heaviest(&self) -> usize {
        self.heaviest.load(Ordering::Relaxed)
    }
}

/// One pattern.
#[derive(Debug)]
pub struct Pattern {
    pub text: Box<str>,
    /// The states of its automaton, about: what one byte of a text may have to be tried against.
    pub weight: usize,
    kept: Kept,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub fn new(text: &str, kept: &Kept) -> Self {
        let weight = weight(text);
        kept.heaviest.fetch_max(weight, Ordering::Relaxed);
        Pattern { text: text.into(), weight, kept: kept.clone(), compiled: OnceLock::new() }
    }

    /// Whether a text matches somewhere; `None` for a pattern that is too large to be tried.
    pub fn matches(&self, text: &str) -> Option<bool> {
        if let Some(compiled) = self.compiled.get() {
            return compiled.as_ref().map(|regex| regex.is_match(text));
        }
        if self.text.len() > SHORT || self.kept.kept.fetch_add(1, Ordering::Relaxed) >= MOST_KEPT {
            return compile(&self.text).map(|regex| regex.is_match(text));
        }
        self.compiled.get_or_init(|| compile(&self.text)).as_ref().map(|regex| regex.is_match(text))
    }

    /// Whether trying it means compiling it.
    pub fn is_cold(&self) -> bool {
        self.compiled.get().is_none()
    }
}

/// A compiled pattern; `None` where it is none, or too large.
pub fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&translated(pattern)).size_limit(LARGEST).dfa_size_limit(LARGEST).octal(true).build().ok()
}

/// The states that a pattern takes, about; those of one that is none do not matter.
fn weight(pattern: &str) -> usize {
    ParserBuilder::new().octal(true).build().parse(&translated(pattern)).map_or(0, |parsed| states(&parsed))
}

fn states(parsed: &Hir) -> usize {
    match parsed.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(_)) => 1,
        // A range is encoded in a few sequences of bytes.
        HirKind::Class(Class::Unicode(class)) => 1 + if parsed.properties().is_utf8() && class.is_ascii() { 0 } else { 2 * class.ranges().len() },
        HirKind::Repetition(repeated) => {
            let times = repeated.max.unwrap_or(repeated.min + 1).max(1);
            states(&repeated.sub).saturating_mul(times as usize).saturating_add(1)
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(states).fold(1, usize::saturating_add),
    }
}

/// Go's classes are of ASCII, an opening bracket or brace may stand for itself, and there are no operations on classes.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let (mut rest, mut in_class, mut class_begins) = (pattern, false, false);
    while let Some(first) = rest.chars().next() {
        let at_begin = std::mem::take(&mut class_begins);
        let mut taken = first.len_utf8();
        match first {
            '\\' => taken = escape(rest, in_class, &mut out),
            '[' if in_class && rest.starts_with("[:") && near(rest, ":]").is_some() => {
                taken = near(rest, ":]").map_or(taken, |end| end + 2);
                out.push_str(&rest[..taken]);
            }
            '[' if in_class => out.push_str("\\["),
            '[' => {
                (in_class, class_begins) = (true, true);
                out.push('[');
                if rest[1..].starts_with('^') {
                    out.push('^');
                    taken += 1;
                }
            }
            // At its beginning a bracket belongs to the class.
            ']' if in_class && at_begin => out.push_str("\\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', first]),
            '-' if in_class && rest.starts_with("--") => out.push_str("\\-"),
            '{' if !in_class && !is_repeat(rest) => out.push_str("\\{"),
            _ => out.push(first),
        }
        rest = &rest[taken..];
    }
    out
}

/// Translates an escape at the begin of `rest`; returns its length.
fn escape(rest: &str, in_class: bool, out: &mut String) -> usize {
    let Some(second) = rest[1..].chars().next() else {
        out.push_str("\\\\");
        return 1;
    };
    let length = 1 + second.len_utf8();
    match second {
        'd' => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
        'w' => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        's' => out.push_str(if in_class { r"\t\n\x0C\r\x20" } else { r"[\t\n\x0C\r\x20]" }),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str(r"[^\t\n\x0C\r\x20]"),
        'b' | 'B' => out.push_str(if second == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" }),
        'Q' => {
            let literal = &rest[2..];
            let end = literal.find("\\E").unwrap_or(literal.len());
            out.push_str(&regex::escape(&literal[..end]));
            return (2 + end + 2).min(rest.len());
        }
        '<' | '>' => out.push(second),
        _ => out.push_str(&rest[..length]),
    }
    length
}

/// Where `end` begins, if that is soon: what is not closed must not be searched again and again.
fn near(text: &str, end: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes[..bytes.len().min(32)].windows(end.len()).position(|window| window == end.as_bytes())
}

/// Whether a brace begins a repetition: `{2}`, `{2,}` or `{2,5}`.
fn is_repeat(rest: &str) -> bool {
    let Some(end) = near(rest, "}") else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match rest[1..end].split_once(',') {
        Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
        None => is_number(&rest[1..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern, &Kept::default()).matches(text).unwrap_or_else(|| panic!("{pattern} does not compile: {}", translated(pattern)))
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, want) in [
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", true),
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * *", false),
            (r"^\d$", "\u{0663}", false),
            (r"^\w+$", "a_1", true),
            (r"^\w+$", "ä", false),
            (r"^[\w.-]+$", "a.b-c", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[[]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^{{.*}}$", "{{x}}", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\<x\>$", "<x>", true),
            (r"^[\D]$", "x", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\pL+$", "äß", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "a.b-c", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_that_would_take_all_memory_is_not_tried() {
        assert_eq!(Pattern::new(r"^((\pL{1000}){1000})$", &Kept::default()).matches("a"), None);
    }

    #[test]
    fn weights_tell_light_patterns_from_heavy_ones() {
        for (pattern, least, most) in [
            ("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 3, 15),
            (r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$", 20, 100),
            ("(?:[a-b]*a[a-c]{900}[x-z]|z)", 900, 1_000),
            ("((a{1000}){1000}){1000}", 1_000_000_000, usize::MAX),
            ("(", 0, 0),
        ] {
            let weight = Pattern::new(pattern, &Kept::default()).weight;
            assert!((least..=most).contains(&weight), "{pattern} {weight}");
        }
    }

    #[test]
    fn a_schema_keeps_so_many_compiled_patterns_and_no_more() {
        let kept = Kept::default();
        let patterns: Vec<Pattern> = (0..MOST_KEPT + 5).map(|at| Pattern::new(&format!("^{at}$"), &kept)).collect();
        assert!(patterns.iter().enumerate().all(|(at, pattern)| pattern.matches(&at.to_string()) == Some(true)));
        assert_eq!(patterns.iter().filter(|pattern| pattern.is_cold()).count(), 5);
    }
}
