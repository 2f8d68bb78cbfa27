//! Escapes in double quotes of which Go's library and our parser think differently: `\'` is an apostrophe there and an error here, `\/` the
//! other way round.

use granit_parser::{ErrorKind, ScanError};

use super::syntax::at_line;

/// So much text is read again for the sake of escapes, and so often.
const REREAD: usize = 8 << 20;
const MOST_REREADS: usize = 100;

/// How often a text of this length may be read again: each time costs as much as the first.
pub(super) fn rereads(length: usize) -> usize {
    (REREAD / length.max(1)).min(MOST_REREADS)
}

/// The text with apostrophes that stand for themselves in the scalar that `error` is about; `None` where none of them is to blame.
pub(super) fn without_escaped_apostrophes(text: &str, error: &ScanError) -> Option<String> {
    if *error.kind() != ErrorKind::UnknownQuotedScalarEscape {
        return None;
    }
    let (before, scalar) = text.split_at_checked(error.marker().byte_offset()?)?;
    let mut rest = scalar.strip_prefix('"')?;
    let mut out = String::with_capacity(text.len());
    out.push_str(before);
    out.push('"');
    let mut has_any = false;
    loop {
        let (plain, special) = rest.split_at_checked(rest.find(['\\', '"'])?)?;
        out.push_str(plain);
        let Some(escaped) = special.strip_prefix('\\') else {
            out.push_str(special);
            return has_any.then_some(out);
        };
        let c = escaped.chars().next()?;
        if c == '\'' {
            has_any = true;
        } else {
            out.push('\\');
        }
        out.push(c);
        rest = &escaped[c.len_utf8()..];
    }
}

/// Looks through a scalar in double quotes, as it is written, that begins in a line (from 1).
///
/// # Errors
/// Go's words for `\/`.
pub(super) fn check(scalar: &str, line: usize) -> Result<(), String> {
    let (mut line, mut rest) = (line, scalar);
    while let Some((plain, escaped)) = rest.split_once('\\') {
        line += plain.matches('\n').count();
        let Some(c) = escaped.chars().next() else { break };
        if c == '/' {
            return Err(at_line(line, "found unknown escape character"));
        }
        line += usize::from(c == '\n');
        rest = &escaped[c.len_utf8()..];
    }
    Ok(())
}
