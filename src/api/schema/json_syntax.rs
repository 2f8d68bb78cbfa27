//! What is wrong with a text that is no JSON, in the words of Go's decoder, which clients and people know.

const END: &str = "unexpected end of JSON input";

/// Why a text is no JSON; `None` where its syntax is right.
pub fn describe(bytes: &[u8]) -> Option<String> {
    Scanner { rest: bytes, around: Vec::new() }.document().err()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Object,
    List,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of a list without any.
    FirstItem,
    Key,
    /// A key, or the end of an object without any.
    FirstKey,
    Colon,
    /// What follows a whole value.
    After,
}

struct Scanner<'a> {
    rest: &'a [u8],
    around: Vec<Holder>,
}

type Found<T> = Result<T, String>;

impl Scanner<'_> {
    fn document(&mut self) -> Found<()> {
        let mut next = Next::Value;
        loop {
            self.rest = self.rest.trim_ascii_start();
            let Some(byte) = self.take() else {
                let is_whole = next == Next::After && self.around.is_empty();
                return if is_whole { Ok(()) } else { Err(END.to_owned()) };
            };
            next = match next {
                Next::FirstItem if byte == b']' => self.close(),
                Next::Value | Next::FirstItem => self.value(byte)?,
                Next::FirstKey if byte == b'}' => self.close(),
                Next::Key | Next::FirstKey if byte == b'"' => self.string().map(|()| Next::Colon)?,
                Next::Key | Next::FirstKey => return Err(invalid(byte, "looking for beginning of object key string")),
                Next::Colon if byte == b':' => Next::Value,
                Next::Colon => return Err(invalid(byte, "after object key")),
                Next::After => self.after(byte)?,
            };
        }
    }

    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next byte, which must be there.
    fn need(&mut self) -> Found<u8> {
        self.take().ok_or_else(|| END.to_owned())
    }

    fn close(&mut self) -> Next {
        self.around.pop();
        Next::After
    }

    fn value(&mut self, first: u8) -> Found<Next> {
        match first {
            b'{' => {
                self.around.push(Holder::Object);
                return Ok(Next::FirstKey);
            }
            b'[' => {
                self.around.push(Holder::List);
                return Ok(Next::FirstItem);
            }
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number(first)?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            other => return Err(invalid(other, "looking for beginning of value")),
        }
        Ok(Next::After)
    }

    fn after(&mut self, byte: u8) -> Found<Next> {
        match (self.around.last().copied(), byte) {
            (Some(Holder::Object), b',') => Ok(Next::Key),
            (Some(Holder::List), b',') => Ok(Next::Value),
            (Some(Holder::Object), b'}') | (Some(Holder::List), b']') => Ok(self.close()),
            (Some(Holder::Object), other) => Err(invalid(other, "after object key:value pair")),
            (Some(Holder::List), other) => Err(invalid(other, "after array element")),
            (None, other) => Err(invalid(other, "after top-level value")),
        }
    }

    /// The rest of a text behind its first quote.
    fn string(&mut self) -> Found<()> {
        loop {
            match self.need()? {
                b'"' => return Ok(()),
                b'\\' => match self.need()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let digit = self.need()?;
                            if !digit.is_ascii_hexdigit() {
                                return Err(invalid(digit, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    other => return Err(invalid(other, "in string escape code")),
                },
                control if control < b' ' => return Err(invalid(control, "in string literal")),
                _ => {}
            }
        }
    }

    fn number(&mut self, first: u8) -> Found<()> {
        let first = if first == b'-' { self.digit("in numeric literal")? } else { first };
        if first != b'0' {
            self.digits();
        }
        if self.rest.first() == Some(&b'.') {
            self.take();
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.rest.first() {
            self.take();
            if let Some(b'+' | b'-') = self.rest.first() {
                self.take();
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, place: &str) -> Found<u8> {
        let byte = self.need()?;
        if byte.is_ascii_digit() { Ok(byte) } else { Err(invalid(byte, place)) }
    }

    fn digits(&mut self) {
        while self.rest.first().is_some_and(u8::is_ascii_digit) {
            self.take();
        }
    }

    /// What follows the first letter of `true`, `false` or `null`.
    fn literal(&mut self, word: &str) -> Found<()> {
        for expected in word.bytes().skip(1) {
            let byte = self.need()?;
            if byte != expected {
                return Err(invalid(byte, &format!("in literal {word} (expecting '{}')", char::from(expected))));
            }
        }
        Ok(())
    }
}

fn invalid(byte: u8, place: &str) -> String {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'\n' | b'\r' | b'\t' | b'\\' => char::from(byte).escape_default().to_string(),
        0..=0x1f | 0x7f => format!("\\x{byte:02x}"),
        _ => char::from(byte).to_string(),
    };
    format!("invalid character '{shown}' {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_json_is_described_as_gos_decoder_does() {
        for (text, why) in [
            ("", END),
            ("{", END),
            (r#"{"kind""#, END),
            (r#"{"a":"b"#, END),
            ("-", END),
            ("kind: Pod", "invalid character 'k' looking for beginning of value"),
            (r#"{"a":1} x"#, "invalid character 'x' after top-level value"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            (r#"{'a':1}"#, "invalid character '\\'' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            (r#"["\x"]"#, "invalid character 'x' in string escape code"),
            (r#"["\u12g4"]"#, "invalid character 'g' in \\u hexadecimal character escape"),
            ("[\"a\n\"]", "invalid character '\\n' in string literal"),
            ("[1.x]", "invalid character 'x' after decimal point in numeric literal"),
            ("[1e]", "invalid character ']' in exponent of numeric literal"),
            ("[01]", "invalid character '1' after array element"),
            ("[tru]", "invalid character ']' in literal true (expecting 'e')"),
        ] {
            assert_eq!(describe(text.as_bytes()).as_deref(), Some(why), "{text}");
        }
        for text in [r#" {"a": [1, -0.5e+3, true, false, null, "\u00e9\n"], "b": {}, "c": []} "#, "[]", "0"] {
            assert_eq!(describe(text.as_bytes()), None, "{text}");
        }
    }
}
