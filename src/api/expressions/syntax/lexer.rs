//! From a text to tokens, as the grammar of CEL has them.

use super::Issue;

/// A token with the place where it begins, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub at: usize,
    pub kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    Name(Box<str>),
    /// A name between backquotes.
    Escaped(Box<str>),
    /// The digits, with a sign never.
    Int(Box<str>),
    Uint(Box<str>),
    Double(Box<str>),
    String(Box<str>),
    Bytes(Box<[u8]>),
    Symbol(&'static str),
    End,
}

/// The longest come first.
const SYMBOLS: [&str; 25] =
    ["==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%", "<", ">", "="];

impl TokenKind {
    /// As errors show it.
    pub fn shown(&self, text: &str, at: usize, end: usize) -> String {
        match self {
            TokenKind::End => "<EOF>".to_owned(),
            _ => text.get(at..end).unwrap_or("").trim_end().to_owned(),
        }
    }
}

/// The tokens of a text, the last of which is the end.
///
/// # Errors
/// The first thing that is no token.
pub fn tokens(text: &str) -> Result<Vec<Token>, Issue> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let kind = lexer.next()?;
        let is_end = kind == TokenKind::End;
        tokens.push(Token { at, kind });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']).len();
            let comment = if rest[blank..].starts_with("//") { rest[blank..].find('\n').unwrap_or(rest.len() - blank) } else { 0 };
            if blank + comment == 0 {
                return;
            }
            self.at += blank + comment;
        }
    }

    fn next(&mut self) -> Result<TokenKind, Issue> {
        let Some(first) = self.peek() else { return Ok(TokenKind::End) };
        if first.is_ascii_digit() || first == '.' && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(self.number());
        }
        if let Some(kind) = self.quoted()? {
            return Ok(kind);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest().len());
            return Ok(TokenKind::Name(self.take(end).into()));
        }
        if first == '`' {
            return self.escaped();
        }
        match SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol)) {
            Some("=") | None => {
                let end = self.rest().chars().take(2).map(char::len_utf8).sum();
                let shown = self.rest()[..end].to_owned();
                Err(self.unknown(&shown))
            }
            Some(symbol) => {
                self.at += symbol.len();
                Ok(TokenKind::Symbol(symbol))
            }
        }
    }

    fn unknown(&self, shown: &str) -> Issue {
        Issue::new(self.at, format!("Syntax error: token recognition error at: '{}'", shown.replace('\n', "\\n")))
    }

    fn take(&mut self, length: usize) -> &str {
        let from = self.at;
        self.at += length;
        &self.text[from..self.at]
    }

    fn escaped(&mut self) -> Result<TokenKind, Issue> {
        let inner = &self.rest()[1..];
        let end = inner.find('`').filter(|end| *end > 0);
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_./- ".contains(c));
        match end.filter(|end| is_name(&inner[..*end])) {
            None => Err(self.unknown("`")),
            Some(end) => {
                let name = inner[..end].into();
                self.at += end + 2;
                Ok(TokenKind::Escaped(name))
            }
        }
    }

    fn number(&mut self) -> TokenKind {
        let rest = self.rest();
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let hex = rest.strip_prefix("0x").map_or(0, |text| text.len() - text.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len());
        let (mut end, mut is_double) = (digits(rest), false);
        if hex > 0 {
            end = hex + 2;
        } else {
            if rest[end..].starts_with('.') && digits(&rest[end + 1..]) > 0 {
                end += 1 + digits(&rest[end + 1..]);
                is_double = true;
            }
            if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
                let sign = usize::from(exponent.starts_with(['+', '-']));
                let length = digits(&exponent[sign..]);
                if length > 0 {
                    end += 1 + sign + length;
                    is_double = true;
                }
            }
        }
        let is_unsigned = !is_double && rest[end..].starts_with(['u', 'U']);
        let text: Box<str> = self.take(end).into();
        self.at += usize::from(is_unsigned);
        match (is_double, is_unsigned) {
            (true, _) => TokenKind::Double(text),
            (_, true) => TokenKind::Uint(text),
            _ => TokenKind::Int(text),
        }
    }

    /// A text or bytes between quotes, with what stands before the quotes.
    fn quoted(&mut self) -> Result<Option<TokenKind>, Issue> {
        let (begin, rest) = (self.at, self.rest());
        let prefix = rest.find(|c: char| !"rRbB".contains(c)).unwrap_or(rest.len());
        let marks = rest[..prefix].to_ascii_lowercase();
        if !matches!(&*marks, "" | "r" | "b" | "br" | "rb") || !rest[prefix..].starts_with(['"', '\'']) {
            return Ok(None);
        }
        let (is_raw, is_bytes) = (marks.contains('r'), marks.contains('b'));
        let body = &rest[prefix..];
        let quote = if body.starts_with("\"\"\"") || body.starts_with("'''") { &body[..3] } else { &body[..1] };
        let inner = &body[quote.len()..];
        let unknown = |to: usize| self.unknown(&self.text[begin..to]);
        let Some(end) = closing(inner, quote, is_raw) else {
            let line = rest.find('\n').map_or(self.text.len(), |at| begin + at + 1);
            return Err(unknown(if quote.len() == 1 { line } else { self.text.len() }));
        };
        let content = &inner[..end];
        let value = super::unescape::unescape(content, is_raw, is_bytes).map_err(|why| Issue::new(begin, why))?;
        self.at = begin + prefix + quote.len() + end + quote.len();
        Ok(Some(if is_bytes { TokenKind::Bytes(value.into()) } else { TokenKind::String(String::from_utf8_lossy(&value).into()) }))
    }
}

/// Where the closing quotes begin.
fn closing(inner: &str, quote: &str, is_raw: bool) -> Option<usize> {
    let (bytes, mut at) = (inner.as_bytes(), 0);
    while at < bytes.len() {
        match bytes[at] {
            _ if inner.is_char_boundary(at) && inner[at..].starts_with(quote) => return Some(at),
            b'\\' if !is_raw => at += 2,
            b'\n' | b'\r' if quote.len() == 1 => return None,
            _ => at += 1,
        }
    }
    None
}
