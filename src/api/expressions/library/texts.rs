//! Functions on texts. Places are counted in characters.

use super::{Context, Row, formatting, lists, patterns};
use crate::expressions::{
    meter::Fault,
    values::{Text, Val, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("contains", contains, &[("contains_string", "string.(string) -> bool")]),
    ("endsWith", ends_with, &[("ends_with_string", "string.(string) -> bool")]),
    ("startsWith", starts_with, &[("starts_with_string", "string.(string) -> bool")]),
    ("matches", patterns::matches, &[("matches", "(string, string) -> bool"), ("matches_string", "string.(string) -> bool")]),
    ("charAt", char_at, &[("string_char_at_int", "string.(int) -> string")]),
    (
        "indexOf",
        index_of,
        &[
            ("string_index_of_string", "string.(string) -> int"),
            ("string_index_of_string_int", "string.(string, int) -> int"),
            ("list_a_index_of_int", "list(A).(A) -> int"),
        ],
    ),
    (
        "lastIndexOf",
        last_index_of,
        &[
            ("string_last_index_of_string", "string.(string) -> int"),
            ("string_last_index_of_string_int", "string.(string, int) -> int"),
            ("list_a_last_index_of_int", "list(A).(A) -> int"),
        ],
    ),
    ("lowerAscii", lower, &[("string_lower_ascii", "string.() -> string")]),
    ("upperAscii", upper, &[("string_upper_ascii", "string.() -> string")]),
    (
        "replace",
        replace,
        &[
            ("string_replace_string_string", "string.(string, string) -> string"),
            ("string_replace_string_string_int", "string.(string, string, int) -> string"),
        ],
    ),
    (
        "split",
        split,
        &[("string_split_string", "string.(string) -> list(string)"), ("string_split_string_int", "string.(string, int) -> list(string)")],
    ),
    ("substring", substring, &[("string_substring_int", "string.(int) -> string"), ("string_substring_int_int", "string.(int, int) -> string")]),
    ("trim", trim, &[("string_trim", "string.() -> string")]),
    ("jsonpatch.escapeKey", escape_key, &[("string_jsonpatch_escapeKey_string", "(string) -> string")]),
    ("format", format, &[("string_format", "string.(list(dyn)) -> string")]),
    ("strings.quote", quote, &[("strings_quote", "(string) -> string")]),
    ("join", join, &[("list_join", "list(string).() -> string"), ("list_join_string", "list(string).(string) -> string")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

/// A key as it stands in the path of a JSON patch (RFC 6901).
fn escape_key<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(key)] = args else { return Err(no_overload()) };
    context.meter.allocate(2 * key.len())?;
    Ok(Val::text(key.replace('~', "~0").replace('/', "~1")))
}

fn pair<'b>(args: &'b [Val<'_>]) -> Result<(&'b str, &'b str), Fault> {
    match args {
        [Val::String(one), Val::String(other), ..] => Ok((one, other)),
        _ => Err(no_overload()),
    }
}

fn one<'b, 'a>(args: &'b [Val<'a>]) -> Result<&'b Text<'a>, Fault> {
    match args {
        [Val::String(text), ..] => Ok(text),
        _ => Err(no_overload()),
    }
}

fn out_of_range(at: i64) -> Fault {
    Fault::error(format!("index out of range: {at}"))
}

fn contains<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    pair(args).map(|(text, part)| Val::Bool(text.contains(part)))
}

fn ends_with<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    pair(args).map(|(text, part)| Val::Bool(text.ends_with(part)))
}

fn starts_with<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    pair(args).map(|(text, part)| Val::Bool(text.starts_with(part)))
}

/// The byte at which the character of that number begins; the end counts as one.
fn place(text: &str, at: i64) -> Option<usize> {
    let wanted = usize::try_from(at).ok()?;
    text.char_indices().map(|(place, _)| place).chain([text.len()]).nth(wanted)
}

fn characters(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn char_at<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text), Val::Int(at)] = args else { return Err(no_overload()) };
    let begin = place(text, *at).ok_or_else(|| out_of_range(*at))?;
    Ok(text[begin..].chars().next().map_or_else(|| Val::borrowed(""), |found| Val::text(found.to_string())))
}

fn index_of<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    if let [Val::List(list), wanted] = args {
        return lists::index_of(list.iter().enumerate(), wanted, context.meter);
    }
    let (text, part) = pair(args)?;
    let offset = offset(args, 0)?;
    if part.is_empty() {
        return Ok(Val::Int(offset));
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    let Some(begin) = place(text, offset) else { return Ok(Val::Int(-1)) };
    Ok(Val::Int(text[begin..].find(part).map_or(-1, |at| offset + characters(&text[begin..begin + at]))))
}

fn last_index_of<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    if let [Val::List(list), wanted] = args {
        let reversed: Vec<_> = list.iter().enumerate().collect();
        return lists::index_of(reversed.into_iter().rev(), wanted, context.meter);
    }
    let (text, part) = pair(args)?;
    let length = characters(text);
    let offset = offset(args, length)?;
    if part.is_empty() {
        return Ok(Val::Int(if args.len() > 2 { offset } else { length }));
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    if offset >= length && args.len() > 2 {
        return Ok(Val::Int(-1));
    }
    // A match may begin at the offset and end behind it.
    let end = place(text, offset.saturating_add(characters(part))).unwrap_or(text.len());
    Ok(Val::Int(text[..end].rfind(part).map_or(-1, |at| characters(&text[..at]))))
}

fn offset(args: &[Val<'_>], otherwise: i64) -> Result<i64, Fault> {
    match args.get(2) {
        None => Ok(otherwise),
        Some(Val::Int(offset)) => Ok(*offset),
        Some(_) => Err(no_overload()),
    }
}

fn made<'a>(text: String, context: &mut Context<'_>) -> Ran<'a> {
    context.meter.allocate(text.len())?;
    Ok(Val::text(text))
}

fn lower<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let text = one(args)?.to_ascii_lowercase();
    made(text, context)
}

fn upper<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let text = one(args)?.to_ascii_uppercase();
    made(text, context)
}

fn replace<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let (text, old) = pair(args)?;
    let Some(Val::String(new)) = args.get(2) else { return Err(no_overload()) };
    let limit = match args.get(3) {
        None => usize::MAX,
        Some(Val::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
        Some(_) => return Err(no_overload()),
    };
    let count = text.matches(old).count().min(limit);
    context.meter.allocate(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Val::text(text.replacen(old, new, limit)))
}

fn split<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let (text, separator) = pair(args)?;
    let limit = match args.get(2) {
        None => usize::MAX,
        Some(Val::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
        Some(_) => return Err(no_overload()),
    };
    if limit == 0 {
        return Ok(Val::list(Vec::new()));
    }
    let count = if separator.is_empty() { text.chars().count() } else { text.matches(separator).count() + 1 };
    context.meter.allocate(count.min(limit).saturating_mul(64).saturating_add(text.len()))?;
    let parts: Vec<Val<'a>> = if separator.is_empty() {
        let mut parts: Vec<Val<'a>> = text.chars().take(limit - 1).map(|part| Val::text(part.to_string())).collect();
        let begin = place(text, i64::try_from(parts.len()).unwrap_or(i64::MAX)).unwrap_or(text.len());
        if begin < text.len() {
            parts.push(Val::text(&text[begin..]));
        }
        parts
    } else {
        text.splitn(limit, separator).map(Val::text).collect()
    };
    Ok(Val::list(parts))
}

fn substring<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let text = one(args)?;
    let (start, end) = match args {
        [_, Val::Int(start)] => (*start, None),
        [_, Val::Int(start), Val::Int(end)] => (*start, Some(*end)),
        _ => return Err(no_overload()),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(Fault::error(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let begin = place(text, start).ok_or_else(|| out_of_range(start))?;
    let end = end.map_or(Ok(text.len()), |end| place(text, end).ok_or_else(|| out_of_range(end)))?;
    part(text, begin, end, context)
}

/// A part of a text; of one that stands in a document nothing is copied.
fn part<'a>(text: &Text<'a>, begin: usize, end: usize, context: &mut Context<'_>) -> Ran<'a> {
    match text {
        Text::Borrowed(text) => Ok(Val::borrowed(&text[begin..end])),
        Text::Made(text) => made(text[begin..end].to_owned(), context),
    }
}

fn trim<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let text = one(args)?;
    let begin = text.len() - text.trim_start().len();
    part(text, begin, begin + text.trim().len(), context)
}

fn format<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text), Val::List(list)] = args else { return Err(no_overload()) };
    formatting::format(text, list, context).map(Val::text)
}

fn quote<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let text = one(args)?;
    context.meter.allocate(2 * text.len())?;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    Ok(Val::text(out))
}

fn join<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let (list, separator) = match args {
        [Val::List(list)] => (list, ""),
        [Val::List(list), Val::String(separator)] => (list, &**separator),
        _ => return Err(no_overload()),
    };
    let mut out = String::new();
    for (at, entry) in list.iter().enumerate() {
        let entry = entry?;
        let Val::String(text) = &entry else { return Err(Fault::error(format!("join: invalid input: {}", entry.type_name()))) };
        context.meter.allocate(text.len() + separator.len())?;
        out.push_str(if at > 0 { separator } else { "" });
        out.push_str(text);
    }
    Ok(Val::text(out))
}
