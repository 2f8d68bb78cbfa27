//! The grammar of CEL: texts become trees.

pub mod ast;
mod lexer;
mod macros;
mod numbers;
mod parser;
mod unescape;

use std::fmt::Write as _;

pub use parser::parse;

/// Something that is wrong with an expression, and where, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub at: usize,
    pub message: String,
}

/// Lines longer than this are not shown.
const LONGEST_LINE: usize = 16_384;

impl Issue {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Issue { at, message: message.into() }
    }

    /// With the line that it is about, and a mark below the place, as `cel-go` shows errors.
    pub fn shown(&self, text: &str) -> String {
        let at = self.at.min(text.len());
        let before = &text[..text.floor_char_boundary(at)];
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[begin..].chars().count());
        let source = text[begin..].split('\n').next().unwrap_or("").replace('\t', " ");
        let mut shown = format!("ERROR: <input>:{line}:{}: {}", column + 1, self.message);
        if source.len() > LONGEST_LINE {
            return shown;
        }
        let _ = write!(shown, "\n | {source}\n | ");
        shown.extend(source.chars().take(column).map(|c| if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' }));
        shown.push(if source.chars().nth(column).is_some_and(|c| c.len_utf8() > 1) { '\u{ff3e}' } else { '^' });
        shown
    }
}

/// Everything that is wrong with an expression, line by line.
pub fn shown(issues: &[Issue], text: &str) -> String {
    issues.iter().map(|issue| issue.shown(text)).collect::<Vec<_>>().join("\n")
}
