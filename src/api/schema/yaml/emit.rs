//! YAML that reads back as what was written, by our reader and by any other: what looks like a number, a truth or a time in either
//! version of YAML and is a text stands in quotes.
//!
//! Fields keep the order of the tree, lists are not indented below their field, and texts of several lines stand as they are.

use std::fmt::Write;

use granit_parser::ScalarStyle;
use serde_json::Value;

use super::scalar::{self, Scalar};
use crate::{meta::floats, schema::raw::Raw};

/// A field name that is longer stands behind a `?`.
const LONGEST_SIMPLE_KEY: usize = 128;
/// What YAML's second version takes for numbers, and its first does not, begins with these and digits.
const RADIX: [&str; 3] = ["0o", "0x", "0b"];

/// Writes a tree, which is no deeper than documents may be.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => object(&mut out, fields, 0, true),
        Value::Array(items) if !items.is_empty() => list(&mut out, items, 0, true),
        other => line(&mut out, other),
    }
    out
}

/// Fields, one a line; the first stands where the text is when `begun` says that its line is indented already.
fn object(out: &mut String, fields: &serde_json::Map<String, Value>, indent: usize, begun: bool) {
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 || !begun {
            pad(out, indent);
        }
        let name = text(name);
        if name.len() <= LONGEST_SIMPLE_KEY {
            out.push_str(&name);
            out.push(':');
            below(out, value, indent, indent);
        } else {
            let _ = writeln!(out, "? {name}");
            pad(out, indent);
            out.push(':');
            below(out, value, indent, indent + 2);
        }
    }
}

/// What stands behind the colon of a field.
fn below(out: &mut String, value: &Value, indent: usize, list_indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            object(out, fields, indent + 2, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            list(out, items, list_indent, false);
        }
        Value::String(text) if is_block(text) => block(out, text, indent + 2),
        other => {
            out.push(' ');
            line(out, other);
        }
    }
}

fn list(out: &mut String, items: &[Value], indent: usize, begun: bool) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 || !begun {
            pad(out, indent);
        }
        out.push('-');
        match item {
            Value::Object(fields) if !fields.is_empty() => {
                out.push(' ');
                object(out, fields, indent + 2, true);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push(' ');
                list(out, items, indent + 2, true);
            }
            Value::String(text) if is_block(text) => block(out, text, indent + 2),
            other => {
                out.push(' ');
                line(out, other);
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A value of one line, with its end.
fn line(out: &mut String, value: &Value) {
    match value {
        Value::String(value) => out.push_str(&text(value)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::Number(number) if number.is_f64() => out.push_str(&floats::shortest(number.as_f64().unwrap_or_default())),
        other => _ = write!(out, "{other}"),
    }
    out.push('\n');
}

/// Whether a text is best shown line by line.
fn is_block(text: &str) -> bool {
    text.contains('\n') && !text.starts_with([' ', '\t', '\n']) && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

fn block(out: &mut String, text: &str, indent: usize) {
    let ends = text.len() - text.trim_end_matches('\n').len();
    out.push_str(match ends {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Not a control character, nor what some readers take for the end of a line or of a text.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A text in one line, quoted where it must be.
fn text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/_.$".contains(c)) && !text.starts_with("...");
    let ends = !text.ends_with([' ', ':']);
    let allowed = |c: char| c.is_alphanumeric() || "_./-+@=()^$%;,<>*&!~?:# ".contains(c);
    let is_time = || scalar::is_timestamp(text);
    let is_text = || matches!(scalar::resolve(text, ScalarStyle::Plain, None), Ok(Scalar::Value(Raw::String(read))) if read == text);
    let other_number = || RADIX.iter().any(|radix| text.starts_with(radix)) || text.parse::<f64>().is_ok();
    starts && ends && text.chars().all(allowed) && !text.contains(": ") && !text.contains(" #") && is_text() && !is_time() && !other_number()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => _ = write!(out, "\\u{:04x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Format, decode::parse_value};

    fn read(text: &str) -> Value {
        parse_value(text.as_bytes(), Format::Yaml).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    }

    #[test]
    fn a_document_reads_as_people_write_it() {
        let value =
            json!({"kind": "Pod", "list": [{"a": 1, "b": [true, null]}, [[1], {}], "x"], "none": {}, "text": "a\n  b\n", "time": "2001-12-14"});
        let want = "kind: Pod\nlist:\n- a: 1\n  b:\n  - true\n  - null\n- - - 1\n  - {}\n- x\nnone: {}\ntext: |\n  a\n    b\ntime: \"2001-12-14\"\n";
        assert_eq!(to_yaml(&value), want);
        assert_eq!(read(want), value);
    }

    #[test]
    fn texts_read_back_as_texts_in_any_place() {
        #[rustfmt::skip]
        let texts = [
            "", " ", "a", "yes", "No", "on", "y", "~", "null", "true", "0400", "0o17", "0x1f", "0b1", "1_000", "1e3", "1.5", ".5", "-1", "+1", ".inf",
            "NaN", "inf", "190:20:30", "2001-12-14", "2001-12-14 21:59:43", "<<", "a: b", "a:b", "a:", ":a", "a #b", "a#b", "#a", "- a", "-a", "---", "...",
            "...a", "[a]", "{a}", "a, b", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a`", "'a'", "\"a\"", "a\\b", "a\nb", "a\nb\n", "a\n\n", "\na", "\n", " a\nb",
            "a \nb", "a\n b\n\n\n", "a\tb", "\ta", "a\r\nb", "a\u{85}b", "a\u{2028}b", "\u{feff}a", "\u{0}", "\u{7f}", "é", "日本語", "a\n# b\n", "a\n---\nb", "= 1", "?", "? a",
        ];
        let long = "k".repeat(2000);
        for text in texts.into_iter().chain([&*long]) {
            let inner = json!([text, [text, {"k": text}], {"k": text, "l": [text]}]);
            for value in [json!({"f": text, "g": 1}), json!({(text): 1, "z": text}), json!({(text): {(text): inner}, "z": inner}), json!([text])] {
                let written = to_yaml(&value);
                assert_eq!(read(&written), value, "{text:?}:\n{written}");
            }
            let value = json!({"f": text, "l": [text]});
            assert_eq!(serde_norway::from_str::<Value>(&to_yaml(&value)).expect(text), value, "{text:?} by the other version's rules");
        }
    }
}
