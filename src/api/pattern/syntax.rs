//! Whether a pattern is a regular expression of the RE2 syntax, which is what upstream matches with; nothing is compiled here.

use crate::pattern::near;

/// The most that all repetitions around one another may ask for.
const MOST_REPEATS: u32 = 1000;
const CLASSES: [&str; 14] =
    ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit"];

/// What is wrong with a pattern, in the words of Go's parser.
pub fn fault(pattern: &str) -> Option<String> {
    let mut parser = Parser { whole: pattern, rest: pattern, frames: vec![Frame::default()] };
    parser.run().err().map(|(code, part)| format!("error parsing regexp: {code}: `{part}`"))
}

type Fault<'a> = (&'static str, &'a str);
type Parsed<'a, T> = Result<T, Fault<'a>>;

const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_RANGE: &str = "invalid character class range";
const BAD_NAME: &str = "invalid named capture";
const BAD_COUNT: &str = "invalid repeat count";
const NO_BRACKET: &str = "missing closing ]";
const NO_ARGUMENT: &str = "missing argument to repetition operator";

/// What is open: the pattern as a whole, or a group.
#[derive(Default)]
struct Frame {
    /// How often the last part is repeated; `None` where there is nothing to repeat.
    last: Option<u32>,
    /// The most often that a part is repeated.
    most: u32,
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    frames: Vec<Frame>,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Parsed<'a, ()> {
        // Where the repetition began that ended just now.
        let mut repeated = None;
        while let Some(first) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeating = false;
            match first {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.skip(1);
                    self.frame().last = None;
                }
                '[' => {
                    self.class()?;
                    self.part(1);
                }
                '\\' => self.escape()?,
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.repeat(before, repeated, None)?;
                    repeating = true;
                }
                '{' => repeating = self.count(repeated)?,
                other => {
                    self.skip(other.len_utf8());
                    self.part(1);
                }
            }
            repeated = repeating.then_some(before);
        }
        if self.frames.len() > 1 { Err(("missing closing )", self.whole)) } else { Ok(()) }
    }

    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let at = self.frames.len() - 1;
        &mut self.frames[at]
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    /// Notes a part that is repeated so often.
    fn part(&mut self, times: u32) {
        let frame = self.frame();
        frame.last = Some(times);
        frame.most = frame.most.max(times);
    }

    /// What was read since `before`.
    fn since(&self, before: &'a str) -> &'a str {
        &before[..before.len() - self.rest.len()]
    }

    fn open(&mut self) -> Parsed<'a, ()> {
        if !self.rest.starts_with("(?") {
            self.skip(1);
            self.frames.push(Frame::default());
            return Ok(());
        }
        let named = ["(?P<", "(?<"].into_iter().find(|start| self.rest.starts_with(start));
        match named {
            Some(start) => self.named(start.len()),
            None => self.flags(),
        }
    }

    fn named(&mut self, start: usize) -> Parsed<'a, ()> {
        let text = self.rest;
        let end = text.find('>').ok_or((BAD_NAME, text))?;
        let name = &text[start..end];
        if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            return Err((BAD_NAME, &text[..=end]));
        }
        self.skip(end + 1);
        self.frames.push(Frame::default());
        Ok(())
    }

    fn flags(&mut self) -> Parsed<'a, ()> {
        let text = self.rest;
        self.skip(2);
        let (mut negated, mut any) = (false, false);
        while let Some(flag) = self.rest.chars().next() {
            self.skip(flag.len_utf8());
            match flag {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negated => (negated, any) = (true, false),
                ':' | ')' if !negated || any => {
                    if flag == ':' {
                        self.frames.push(Frame::default());
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(("invalid or unsupported Perl syntax", self.since(text)))
    }

    fn close(&mut self) -> Parsed<'a, ()> {
        if self.frames.len() < 2 {
            return Err(("unexpected )", self.whole));
        }
        let most = self.frames.pop().map_or(1, |frame| frame.most.max(1));
        self.skip(1);
        self.part(most);
        Ok(())
    }

    /// After a repetition operator: `counted` is the most it asks for.
    fn repeat(&mut self, before: &'a str, repeated: Option<&'a str>, counted: Option<u32>) -> Parsed<'a, ()> {
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        if let Some(start) = repeated {
            return Err(("invalid nested repetition operator", self.since(start)));
        }
        let Some(inner) = self.frame().last else { return Err((NO_ARGUMENT, self.since(before))) };
        let times = counted.map_or(inner, |count| inner.max(1).saturating_mul(count.max(1)));
        if times > MOST_REPEATS {
            return Err((BAD_COUNT, self.since(before)));
        }
        self.part(times);
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else stands for itself.
    fn count(&mut self, repeated: Option<&'a str>) -> Parsed<'a, bool> {
        let before = self.rest;
        let Some((least, most, length)) = counts(before) else {
            self.skip(1);
            self.part(1);
            return Ok(false);
        };
        self.skip(length);
        let [least, most] = [Some(least), most].map(|number| number.map(|digits| digits.parse().unwrap_or(u32::MAX)));
        let least: u32 = least.unwrap_or(0);
        if least > MOST_REPEATS || most.is_some_and(|most| most > MOST_REPEATS || least > most) {
            return Err((BAD_COUNT, self.since(before)));
        }
        self.repeat(before, repeated, Some(most.unwrap_or(least)))?;
        Ok(true)
    }

    fn escape(&mut self) -> Parsed<'a, ()> {
        match self.rest.as_bytes().get(1) {
            Some(b'A' | b'b' | b'B' | b'z') => self.skip(2),
            Some(b'Q') => {
                let quoted = &self.rest[2..];
                let length = quoted.find("\\E").map_or(quoted.len(), |end| end + 2);
                self.skip(2 + length);
            }
            _ if self.shorthand()? => {}
            _ => drop(self.literal_escape()?),
        }
        self.part(1);
        Ok(())
    }

    /// `\d` and its like, `\pL`, `\p{Greek}`.
    fn shorthand(&mut self) -> Parsed<'a, bool> {
        let text = self.rest;
        match text.as_bytes().get(..2) {
            Some(b"\\d" | b"\\D" | b"\\s" | b"\\S" | b"\\w" | b"\\W") => self.skip(2),
            Some(b"\\p" | b"\\P") => match text[2..].chars().next() {
                None => return Err((BAD_RANGE, text)),
                Some('{') => {
                    let end = text.find('}').ok_or((BAD_RANGE, text))?;
                    self.skip(end + 1);
                    if !is_category(text[3..end].trim_start_matches('^')) {
                        return Err((BAD_RANGE, &text[..=end]));
                    }
                }
                Some(letter) => {
                    self.skip(2 + letter.len_utf8());
                    if !"CLMNPSZ".contains(letter) {
                        return Err((BAD_RANGE, self.since(text)));
                    }
                }
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A character behind a backslash.
    fn literal_escape(&mut self) -> Parsed<'a, u32> {
        let text = self.rest;
        self.skip(1);
        let Some(first) = self.rest.chars().next() else { return Err(("trailing backslash at end of expression", "")) };
        self.skip(first.len_utf8());
        let value = match first {
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            'x' => self.hexadecimal(),
            '0' => Some(self.octal(0)),
            '1'..='7' if self.rest.starts_with(|c| ('0'..='7').contains(&c)) => Some(self.octal(u32::from(first) - 48)),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(u32::from(other)),
            _ => None,
        };
        value.ok_or_else(|| (BAD_ESCAPE, self.since(text)))
    }

    fn octal(&mut self, first: u32) -> u32 {
        let mut value = first;
        for _ in 1..3 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            value = value * 8 + digit;
            self.skip(1);
        }
        value
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let braced = self.rest.starts_with('{');
        let mut value = 0;
        if braced {
            self.skip(1);
        }
        for index in 0.. {
            let next = self.rest.chars().next()?;
            self.skip(next.len_utf8());
            if braced && next == '}' {
                return (index > 0).then_some(value);
            }
            value = value * 16 + next.to_digit(16)?;
            if value > u32::from(char::MAX) {
                return None;
            }
            if !braced && index == 1 {
                return Some(value);
            }
        }
        None
    }

    fn class(&mut self) -> Parsed<'a, ()> {
        let whole = self.rest;
        self.skip(if whole.starts_with("[^") { 2 } else { 1 });
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if self.named_class()? || self.shorthand()? {
                continue;
            }
            let start = self.rest;
            let low = self.member(whole)?;
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.skip(1);
                if self.member(whole)? < low {
                    return Err((BAD_RANGE, self.since(start)));
                }
            }
        }
        self.skip(1);
        Ok(())
    }

    fn named_class(&mut self) -> Parsed<'a, bool> {
        let text = self.rest;
        let Some(end) = text.strip_prefix("[:").and_then(|rest| near(rest, ":]")) else { return Ok(false) };
        self.skip(end + 4);
        if CLASSES.contains(&text[2..end + 2].trim_start_matches('^')) { Ok(true) } else { Err((BAD_RANGE, self.since(text))) }
    }

    fn member(&mut self, whole: &'a str) -> Parsed<'a, u32> {
        match self.rest.chars().next() {
            None => Err((NO_BRACKET, whole)),
            Some('\\') => self.literal_escape(),
            Some(other) => {
                self.skip(other.len_utf8());
                Ok(u32::from(other))
            }
        }
    }
}

/// A general category, or what may be the name of a script.
fn is_category(name: &str) -> bool {
    let is_general = matches!(name.as_bytes(), [first] | [first, _] if b"CLMNPSZ".contains(first));
    is_general || name.len() > 2 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// The digits of a counted repetition, and how long it is.
fn counts(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let end = near(text, "}")?;
    let (least, most) = text[1..end].split_once(',').map_or((&text[1..end], None), |(least, most)| (least, Some(most)));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let open = most.is_some_and(str::is_empty);
    let fits = is_number(least) && most.is_none_or(|most| open || is_number(most));
    fits.then(|| (least, if most.is_none() { Some(least) } else { most.filter(|_| !open) }, end + 1))
}

#[cfg(test)]
mod tests;
