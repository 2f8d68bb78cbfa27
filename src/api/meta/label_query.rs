//! The query form of label selectors, with the words that upstream has for what is wrong (`apimachinery/pkg/labels`): a text becomes
//! tokens, and these become requirements.

use super::names;

/// What a requirement asks of its label. `=` and `==` are `in` with one value, `!=` is `notin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement as it was written. Values are sorted, each once; of bounds there is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) values: Vec<String>,
}

/// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`, with at most `most` requirements.
///
/// # Errors
/// What was found and what was expected there, or what is wrong with a key or value.
pub(super) fn parse(text: &str, most: usize) -> Result<Vec<Parsed>, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            (Token::End, _) => return Ok(requirements),
            (Token::Identifier | Token::Not, _) if requirements.len() < most => {
                requirements.push(parser.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?);
                parser.separator()?;
            }
            (Token::Identifier | Token::Not, _) => return Err(format!("unable to parse requirement: a selector has at most {most} requirements")),
            (_, found) => return Err(format!("found '{found}', expected: !, identifier, or 'end of string'")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Identifier,
    In,
    NotIn,
    Not,
    Equals,
    NotEquals,
    Greater,
    Less,
    Open,
    Closed,
    Comma,
    End,
}

fn token(literal: &str) -> Token {
    match literal {
        "in" => Token::In,
        "notin" => Token::NotIn,
        "!" => Token::Not,
        "=" | "==" => Token::Equals,
        "!=" => Token::NotEquals,
        ">" => Token::Greater,
        "<" => Token::Less,
        "(" => Token::Open,
        ")" => Token::Closed,
        "," => Token::Comma,
        _ => Token::Identifier,
    }
}

fn is_symbol(character: char) -> bool {
    "=!(),><".contains(character)
}

fn is_blank(character: char) -> bool {
    " \t\r\n".contains(character)
}

/// The tokens of a text with what they were written as; the last one is the end.
fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let length = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if rest.starts_with(is_symbol) {
            1
        } else {
            rest.find(|character: char| is_symbol(character) || is_blank(character)).unwrap_or(rest.len())
        };
        let (literal, behind) = rest.split_at(length);
        found.push((token(literal), literal));
        rest = behind.trim_start_matches(is_blank);
    }
    found.push((Token::End, ""));
    found
}

/// Tokens, and the place of the next one. The end is never passed.
struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token where a key or value may stand: `in` and `notin` are words like others there.
    fn peek(&self) -> (Token, &'a str) {
        match self.tokens[self.at] {
            (Token::In | Token::NotIn, literal) => (Token::Identifier, literal),
            other => other,
        }
    }

    fn take(&mut self) -> (Token, &'a str) {
        let next = self.peek();
        self.advance();
        next
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// A comma with another requirement behind it, or the end.
    fn separator(&mut self) -> Result<(), String> {
        match self.take() {
            (Token::End, _) => Ok(()),
            (Token::Comma, _) => match self.peek() {
                (Token::Identifier | Token::Not, _) => Ok(()),
                (_, found) => Err(format!("found '{found}', expected: identifier after ','")),
            },
            (_, found) => Err(format!("found '{found}', expected: ',' or 'end of string'")),
        }
    }

    fn requirement(&mut self) -> Result<Parsed, String> {
        let (mut token, mut key) = self.take();
        let is_negated = token == Token::Not;
        if is_negated {
            (token, key) = self.take();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let wrong = names::qualified(key);
        if !wrong.is_empty() {
            return Err(format!("<nil>: Invalid value: {key:?}: {}", wrong.join("; ")));
        }
        let parsed = |operator, values| Parsed { key: key.to_owned(), operator, values };
        if is_negated {
            return Ok(parsed(Operator::DoesNotExist, Vec::new()));
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(parsed(Operator::Exists, Vec::new()));
        }
        let (operator, is_set) = self.operator()?;
        let mut values = if is_set { self.values()? } else { vec![self.exact_value()?] };
        values.sort_unstable();
        values.dedup();
        check_values(key, operator, &values)?;
        Ok(parsed(operator, values))
    }

    /// The operator, and whether a set of values follows it.
    fn operator(&mut self) -> Result<(Operator, bool), String> {
        let (token, found) = self.tokens[self.at];
        self.advance();
        match token {
            Token::In => Ok((Operator::In, true)),
            Token::NotIn => Ok((Operator::NotIn, true)),
            Token::Equals => Ok((Operator::In, false)),
            Token::NotEquals => Ok((Operator::NotIn, false)),
            Token::Greater => Ok((Operator::GreaterThan, false)),
            Token::Less => Ok((Operator::LessThan, false)),
            _ => Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.take() {
            (Token::Identifier, value) => Ok(value.to_owned()),
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a,b)`; `()` has the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, found) = self.take();
        if token != Token::Open {
            return Err(format!("found '{found}' expected: '('"));
        }
        let values = match self.peek() {
            (Token::Closed, _) => vec![String::new()],
            (Token::Identifier | Token::Comma, _) => self.listed_values()?,
            (_, found) => return Err(format!("found '{found}', expected: ',', ')' or identifier")),
        };
        // The closing parenthesis, which was seen.
        self.advance();
        Ok(values)
    }

    /// Values up to the closing parenthesis; where there is nothing between two commas the empty value stands.
    fn listed_values(&mut self) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        loop {
            match self.take() {
                (Token::Identifier, value) => {
                    values.push(value.to_owned());
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Closed, _) => return Ok(values),
                        (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    let behind = self.peek().0;
                    if values.is_empty() || matches!(behind, Token::Comma | Token::Closed) {
                        values.push(String::new());
                    }
                    if behind == Token::Closed {
                        return Ok(values);
                    }
                }
                (_, found) => return Err(format!("found '{found}', expected: ',', or identifier")),
            }
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), String> {
    let mut wrong = Vec::new();
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        for value in values.iter().filter(|value| value.parse::<i64>().is_err()) {
            wrong.push(format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"));
        }
    }
    for (at, value) in values.iter().enumerate() {
        let messages = names::label_value(value);
        if !messages.is_empty() {
            wrong.push(format!("values[{at}][{key}]: Invalid value: {value:?}: {}", messages.join("; ")));
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [only] => Err(only.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        parse(text, 10).expect_err(text)
    }

    #[test]
    fn what_does_not_parse_is_told_in_upstreams_words() {
        for (text, wanted) in [
            ("a,", "found '', expected: identifier after ','"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("=b", "found '=', expected: !, identifier, or 'end of string'"),
            ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a!", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=!b", "unable to parse requirement: found '!', expected: identifier"),
            ("a<>b", "unable to parse requirement: found '>', expected: identifier"),
            ("a>=5", "unable to parse requirement: found '=', expected: identifier"),
            ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ] {
            assert_eq!(why(text), wanted, "{text}");
        }
        assert!(why("a=-b").starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be"));
        assert!(why("\"a\"=b").starts_with("unable to parse requirement: <nil>: Invalid value: \"\\\"a\\\"\": name part must"));
        assert!(why("a,b,c,d,e,f,g,h,i,j,k").ends_with("at most 10 requirements"));
    }

    #[test]
    fn words_are_keys_and_values_where_these_may_stand() {
        let parsed = |key: &str, operator, values: &[&str]| Parsed {
            key: key.to_owned(),
            operator,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        for (text, wanted) in [
            ("in", parsed("in", Operator::Exists, &[])),
            ("in in (in,notin)", parsed("in", Operator::In, &["in", "notin"])),
            ("a in ()", parsed("a", Operator::In, &[""])),
            ("a notin (b,,c)", parsed("a", Operator::NotIn, &["", "b", "c"])),
            ("a in (,)", parsed("a", Operator::In, &[""])),
            ("a=", parsed("a", Operator::In, &[""])),
            (" a == b ", parsed("a", Operator::In, &["b"])),
            ("a<3", parsed("a", Operator::LessThan, &["3"])),
        ] {
            assert_eq!(parse(text, 10), Ok(vec![wanted]), "{text}");
        }
    }
}
