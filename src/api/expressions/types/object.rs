//! Objects with named fields, and how names of fields become names of the language
//! (`k8s.io/apiserver/pkg/cel/escaping.go`).

use crate::expressions::words::is_reserved;

/// The name of a field in expressions; `None` where it cannot be named.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (escaped, taken) = match first {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            '_' => ("_", 1),
            c if c.is_ascii_alphanumeric() => (&rest[..1], 1),
            _ => return None,
        };
        out.push_str(escaped);
        rest = &rest[taken..];
    }
    Some(out)
}

/// The name in documents of what an expression calls `escaped`; `None` for an escape that there is not.
pub fn unescape(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find("__") {
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('_').filter(|end| *end > 0 && inner[*end..].starts_with("__")) else {
            out.push_str(&rest[..at + 1]);
            rest = &rest[at + 1..];
            continue;
        };
        out.push_str(&rest[..at]);
        out.push_str(match &inner[..end] {
            "underscores" => "__",
            "dot" => ".",
            "dash" => "-",
            "slash" => "/",
            word if is_reserved(word) && end + 4 == escaped.len() => word,
            _ => return None,
        });
        rest = &inner[end + 2..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_back() {
        for (name, escaped) in [
            ("namespace", "__namespace__"),
            ("a.b", "a__dot__b"),
            ("a-b", "a__dash__b"),
            ("a/b", "a__slash__b"),
            ("a__b", "a__underscores__b"),
            ("_", "_"),
            ("a_b", "a_b"),
            ("x__dot__y", "x__underscores__dot__underscores__y"),
            ("while", "__while__"),
            ("whiles", "whiles"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).as_deref(), Some(name), "{escaped}");
        }
        for odd in ["", "1a", "a b", "ä", "a$"] {
            assert_eq!(escape(odd), None);
        }
        assert_eq!(unescape("a__odd__b"), None);
        assert_eq!(unescape("a__while__"), None);
    }
}
