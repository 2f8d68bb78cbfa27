//! Query strings: decoding, and values as upstream's parameter codec reads them.

use std::borrow::Cow;

use troupe_api::status::Status;

/// As many parameters as Go's parser takes.
const MOST: usize = 10_000;

/// A decoded query string, in order. Of repeated parameters the first counts, as upstream has it.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    is_too_long: bool,
}

impl Query {
    pub fn parse(raw: &str) -> Self {
        if raw.is_empty() {
            return Query::default();
        }
        if raw.bytes().filter(|byte| *byte == b'&').count() >= MOST {
            return Query { is_too_long: true, ..Query::default() };
        }
        let decode = |text: &str| percent_decode(&text.replace('+', " ")).into_owned();
        let pairs = raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        Query { pairs, is_too_long: false }
    }

    /// There are more parameters than anybody needs; none of them was read.
    pub fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter unless it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A flag: present means true unless it says `0` or `false`.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A signed integer.
    ///
    /// # Errors
    /// 400 in the words of Go's `strconv`.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(value) = self.text(name) else { return Ok(None) };
        value
            .parse()
            .map(Some)
            .map_err(|error: std::num::ParseIntError| Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: {}", number_error(&error))))
    }
}

/// Go's words for a number that does not parse.
pub fn number_error(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// Decodes `%XX`; malformed escapes stay as they are, invalid UTF-8 is replaced.
pub fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3).and_then(hex_byte)).flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_decode_and_flags_read_as_upstream_reads_them() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+(d)&watch=1&allow=&no=False&limit=5&limit=6&bad=%zz");
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert_eq!(query.flag("watch"), Some(true));
        assert_eq!(query.flag("allow"), Some(true));
        assert_eq!(query.flag("no"), Some(false));
        assert_eq!(query.flag("missing"), None);
        assert_eq!(query.integer("limit"), Ok(Some(5)));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(Query::parse(&"a&".repeat(10_000)).is_too_long() && !Query::parse(&"a&".repeat(9_999)).is_too_long());
        let error = Query::parse("limit=abc").integer("limit").expect_err("no number");
        assert_eq!(error.message, "strconv.ParseInt: parsing \"abc\": invalid syntax");
    }
}
