//! The query form of label selectors, with the words that upstream has for what is wrong (`apimachinery/pkg/labels`): a text becomes
//! tokens, and these become requirements.

use std::collections::BTreeSet;

use super::names;

/// No more wrong values are told of: there may be as many as fit into a body.
const MOST_TOLD: usize = 100;

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
    let mut parser = Parser::new(text);
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

/// The token that a text begins with, what it was written as, and the text behind it. Where nothing is left it is the end.
fn next_token(text: &str) -> ((Token, &str), &str) {
    let text = text.trim_start_matches(is_blank);
    let length = if text.starts_with("==") || text.starts_with("!=") {
        2
    } else if text.starts_with(is_symbol) {
        1
    } else {
        text.find(|character: char| is_symbol(character) || is_blank(character)).unwrap_or(text.len())
    };
    let (literal, behind) = text.split_at(length);
    let token = if literal.is_empty() { Token::End } else { token(literal) };
    ((token, literal), behind)
}

/// The next token and what follows it. Texts may be as long as a body is: their tokens are read one by one.
struct Parser<'a> {
    next: (Token, &'a str),
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let (next, rest) = next_token(text);
        Parser { next, rest }
    }

    /// The next token where a key or value may stand: `in` and `notin` are words like others there.
    fn peek(&self) -> (Token, &'a str) {
        match self.next {
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
        (self.next, self.rest) = next_token(self.rest);
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
        let values = if is_set { self.values()? } else { BTreeSet::from([self.exact_value()?]) };
        let values: Vec<String> = values.into_iter().collect();
        check_values(key, operator, &values)?;
        Ok(parsed(operator, values))
    }

    /// The operator, and whether a set of values follows it.
    fn operator(&mut self) -> Result<(Operator, bool), String> {
        let (token, found) = self.next;
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
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let (token, found) = self.take();
        if token != Token::Open {
            return Err(format!("found '{found}' expected: '('"));
        }
        let values = match self.peek() {
            (Token::Closed, _) => BTreeSet::from([String::new()]),
            (Token::Identifier | Token::Comma, _) => self.listed_values()?,
            (_, found) => return Err(format!("found '{found}', expected: ',', ')' or identifier")),
        };
        // The closing parenthesis, which was seen.
        self.advance();
        Ok(values)
    }

    /// Values up to the closing parenthesis; where there is nothing between two commas the empty value stands.
    fn listed_values(&mut self) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Token::Identifier, value) => {
                    values.insert(value.to_owned());
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Closed, _) => return Ok(values),
                        (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    let behind = self.peek().0;
                    if values.is_empty() || matches!(behind, Token::Comma | Token::Closed) {
                        values.insert(String::new());
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
        if !messages.is_empty() && wrong.len() < MOST_TOLD {
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
        let many: Vec<String> = (0..=MOST_TOLD).map(|count| format!("-{count}")).collect();
        assert_eq!(why(&format!("a in ({})", many.join(","))).matches("Invalid value").count(), MOST_TOLD);
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
