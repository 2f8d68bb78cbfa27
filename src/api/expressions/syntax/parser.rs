//! From tokens to trees: one function for each level of the grammar that needs one, binary operators by their strength.

use super::{
    Issue,
    ast::{Call, Entry, Initializer, Kind, Literal, Message, Node},
    lexer::{Token, TokenKind, tokens},
    macros::{self, Meaning},
    numbers::{double, int, unsigned},
};
use crate::expressions::words::RESERVED;

/// How many nodes may stand within each other (`cel-go` has the same figure).
pub const DEEPEST: usize = 250;
/// How many brackets may stand within each other (`cel-go` has the same figure).
const MOST_ENTERED: usize = 250;
/// How many of them may be of lists, maps and arguments: who walks the tree later takes more of the stack for these.
const MOST_NESTED: usize = 100;
/// How many a thread's own stack is trusted with: each takes more of it than a node.
const ENTERED_HERE: usize = 100;
/// Bytes of a stack for all of them, of which only those that are used take memory.
const STACK: usize = 64 << 20;
/// How many nodes an expression may have.
const MOST_NODES: usize = 50_000;

/// Reads an expression.
///
/// # Errors
/// What is wrong first.
pub fn parse(text: &str) -> Result<Node, Issue> {
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens, next: 0, entered: 0, most_entered: ENTERED_HERE, nested: 0, nodes: 0 };
    let parsed = parser.whole();
    if parser.entered <= ENTERED_HERE {
        return parsed;
    }
    let deeper = Parser { next: 0, entered: 0, most_entered: MOST_ENTERED, nested: 0, nodes: 0, ..parser };
    on_own_stack(deeper)
}

/// Reads on a thread whose stack is long enough.
fn on_own_stack(mut parser: Parser<'_>) -> Result<Node, Issue> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("expression".into()).stack_size(STACK).spawn_scoped(scope, move || parser.whole());
        let parsed = thread.ok().and_then(|thread| thread.join().ok());
        parsed.unwrap_or_else(|| Err(Issue::new(0, "there is no thread for an expression of so many brackets")))
    })
}

/// The operators by their strength.
fn strength(symbol: &str) -> Option<(u8, &'static str)> {
    Some(match symbol {
        "||" => (1, "_||_"),
        "&&" => (2, "_&&_"),
        "==" => (3, "_==_"),
        "!=" => (3, "_!=_"),
        "<" => (3, "_<_"),
        "<=" => (3, "_<=_"),
        ">" => (3, "_>_"),
        ">=" => (3, "_>=_"),
        "in" => (3, "@in"),
        "+" => (4, "_+_"),
        "-" => (4, "_-_"),
        "*" => (5, "_*_"),
        "/" => (5, "_/_"),
        "%" => (5, "_%_"),
        _ => return None,
    })
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    /// Brackets around the next token; stays where it is when there are too many.
    entered: usize,
    most_entered: usize,
    /// Those of lists, maps and arguments.
    nested: usize,
    nodes: usize,
}

type Parsed<T> = Result<T, Issue>;

impl Parser<'_> {
    fn whole(&mut self) -> Parsed<Node> {
        let node = self.expression()?;
        match self.peek() {
            TokenKind::End => Ok(node),
            _ => Err(self.mismatched("<EOF>")),
        }
    }

    fn peek(&self) -> &TokenKind {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), TokenKind::Symbol(found) if *found == symbol)
    }

    fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.mismatched(&format!("'{symbol}'"))) }
    }

    fn mismatched(&self, wanted: &str) -> Issue {
        let end = self.tokens.get(self.next + 1).map_or(self.text.len(), |token| token.at);
        let shown = self.peek().shown(self.text, self.at(), end);
        let is_last = self.tokens.get(self.next + 1).is_some_and(|token| token.kind == TokenKind::End);
        let what = if wanted == "<EOF>" && is_last { "extraneous" } else { "mismatched" };
        Issue::new(self.at(), format!("Syntax error: {what} input '{shown}' expecting {wanted}"))
    }

    /// A node, if there may be another one.
    fn node(&mut self, at: usize, kind: Kind) -> Parsed<Node> {
        let depth = 1 + deepest(&kind);
        self.nodes += 1;
        if depth > DEEPEST {
            return Err(Issue::new(at, format!("expression recursion limit exceeded: {DEEPEST}")));
        }
        if self.nodes > MOST_NODES {
            return Err(Issue::new(at, format!("expression has more than {MOST_NODES} nodes")));
        }
        Ok(Node::new(at, kind, depth))
    }

    /// The node of a call that may be a macro.
    fn meant(&mut self, at: usize, function: &str, meaning: Meaning) -> Parsed<Node> {
        match meaning {
            Meaning::Macro(kind) => self.node(at, kind),
            Meaning::Call(target, args) => self.call(at, function, target, args),
        }
    }

    fn call(&mut self, at: usize, function: &str, target: Option<Node>, args: Vec<Node>) -> Parsed<Node> {
        self.node(at, Kind::Call(Box::new(Call { function: function.into(), target, args, callee: None, pattern: None })))
    }

    fn expression(&mut self) -> Parsed<Node> {
        self.entered += 1;
        if self.entered > self.most_entered {
            return Err(Issue::new(self.at(), format!("expression recursion limit exceeded: {}", self.most_entered)));
        }
        let condition = self.binary(1)?;
        let node = if self.is("?") {
            let at = self.at();
            self.advance();
            let yes = self.binary(1)?;
            self.expect(":")?;
            let no = self.expression()?;
            self.call(at, "_?_:_", None, vec![condition, yes, no])?
        } else {
            condition
        };
        self.entered -= 1;
        Ok(node)
    }

    /// An expression in a list, a map or among arguments.
    fn entry(&mut self) -> Parsed<Node> {
        self.nested += 1;
        if self.nested > MOST_NESTED {
            return Err(Issue::new(self.at(), format!("expression recursion limit exceeded: {MOST_NESTED}")));
        }
        let node = self.expression()?;
        self.nested -= 1;
        Ok(node)
    }

    fn operator(&self) -> Option<(u8, &'static str)> {
        match self.peek() {
            TokenKind::Symbol(symbol) => strength(symbol),
            TokenKind::Name(name) if **name == *"in" => strength("in"),
            _ => None,
        }
    }

    fn binary(&mut self, weakest: u8) -> Parsed<Node> {
        let mut left = self.unary()?;
        while let Some((power, function)) = self.operator().filter(|(power, _)| *power >= weakest) {
            let at = self.at();
            self.advance();
            let right = self.binary(power + 1)?;
            left = self.joined(at, function, left, right)?;
        }
        Ok(left)
    }

    /// Logical operators take any number of operands, so that long chains are not deep.
    fn joined(&mut self, at: usize, function: &str, mut left: Node, right: Node) -> Parsed<Node> {
        if let Kind::Call(call) = &mut left.kind
            && *call.function == *function
            && matches!(function, "_&&_" | "_||_")
        {
            left.depth = left.depth.max(1 + right.depth);
            call.args.push(right);
            return if left.depth > DEEPEST { Err(Issue::new(at, format!("expression recursion limit exceeded: {DEEPEST}"))) } else { Ok(left) };
        }
        self.call(at, function, None, vec![left, right])
    }

    fn unary(&mut self) -> Parsed<Node> {
        let at = self.at();
        let mut count = 0;
        if self.is("!") {
            while self.take("!") {
                count += 1;
            }
            let operand = self.member()?;
            return if count % 2 == 0 { Ok(operand) } else { self.call(at, "!_", None, vec![operand]) };
        }
        if !self.is("-") {
            return self.member();
        }
        while self.take("-") {
            count += 1;
        }
        if count == 1
            && let Some(literal) = self.negative_literal(at)?
        {
            return self.members(literal);
        }
        let operand = self.member()?;
        if count % 2 == 0 { Ok(operand) } else { self.call(at, "-_", None, vec![operand]) }
    }

    fn negative_literal(&mut self, at: usize) -> Parsed<Option<Node>> {
        let literal = match self.peek() {
            TokenKind::Int(digits) => Literal::Int(int(digits, true).ok_or_else(|| Issue::new(at, "Syntax error: invalid int literal"))?),
            TokenKind::Double(digits) => Literal::Double(-double(digits, at)?),
            _ => return Ok(None),
        };
        self.advance();
        self.node(at, Kind::Literal(literal)).map(Some)
    }

    fn member(&mut self) -> Parsed<Node> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut operand: Node) -> Parsed<Node> {
        loop {
            let at = self.at();
            if self.take(".") {
                let optional = self.take("?");
                let (field, is_plain) = self.field_name()?;
                if optional {
                    operand = self.node(at, Kind::OptionalSelect { operand: Box::new(operand), field })?;
                } else if is_plain && self.is("(") {
                    let call_at = self.at();
                    self.advance();
                    let args = self.arguments(")")?;
                    let meaning = macros::member(call_at, operand, &field, args)?;
                    operand = self.meant(call_at, &field, meaning)?;
                } else {
                    operand = self.node(at, Kind::Select { operand: Box::new(operand), field, test: false })?;
                    if let (true, Some(name)) = (self.is("{"), operand.message_name()) {
                        operand = self.message(name)?;
                    }
                }
            } else if self.take("[") {
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.entry()?;
                self.expect("]")?;
                operand = self.call(at, function, None, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// A name behind a point, and whether it is written without quotes.
    fn field_name(&mut self) -> Parsed<(Box<str>, bool)> {
        let found = match self.peek() {
            TokenKind::Name(name) if !matches!(&**name, "in" | "true" | "false" | "null") => (name.clone(), true),
            TokenKind::Escaped(name) => (name.clone(), false),
            _ => return Err(self.mismatched("IDENTIFIER")),
        };
        self.advance();
        Ok(found)
    }

    fn arguments(&mut self, close: &str) -> Parsed<Vec<Node>> {
        let mut args = Vec::new();
        if self.take(close) {
            return Ok(args);
        }
        loop {
            args.push(self.entry()?);
            if self.take(close) {
                return Ok(args);
            }
            self.expect(",")?;
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let at = self.at();
        let token = self.peek().clone();
        let literal = match token {
            TokenKind::Int(digits) => Literal::Int(int(&digits, false).ok_or_else(|| Issue::new(at, "Syntax error: invalid int literal"))?),
            TokenKind::Uint(digits) => Literal::Uint(unsigned(&digits).ok_or_else(|| Issue::new(at, "Syntax error: invalid uint literal"))?),
            TokenKind::Double(digits) => Literal::Double(double(&digits, at)?),
            TokenKind::String(text) => Literal::String(text),
            TokenKind::Bytes(bytes) => Literal::Bytes(bytes),
            TokenKind::Name(name) => match &*name {
                "true" | "false" => Literal::Bool(*name == *"true"),
                "null" => Literal::Null,
                "in" => return Err(self.mismatched("IDENTIFIER")),
                _ => return self.named(at, &name),
            },
            TokenKind::Symbol("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            TokenKind::Symbol("[") => return self.list(at),
            TokenKind::Symbol("{") => return self.map(at),
            TokenKind::Symbol(".") => {
                self.advance();
                let TokenKind::Name(name) = self.peek().clone() else { return Err(self.mismatched("IDENTIFIER")) };
                return self.named(at, &name);
            }
            _ => {
                return Err(self
                    .mismatched("{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"));
            }
        };
        self.advance();
        self.node(at, Kind::Literal(literal))
    }

    fn named(&mut self, at: usize, name: &str) -> Parsed<Node> {
        if RESERVED.contains(&name) {
            return Err(Issue::new(at, format!("Syntax error: reserved identifier: {name}")));
        }
        self.advance();
        let call_at = self.at();
        if self.take("(") {
            let args = self.arguments(")")?;
            let meaning = macros::global(call_at, name, args)?;
            return self.meant(call_at, name, meaning);
        }
        if self.is("{") {
            return self.message(name.to_owned());
        }
        self.node(at, Kind::Name { name: name.into(), slot: Default::default() })
    }

    fn message(&mut self, name: String) -> Parsed<Node> {
        let at = self.at();
        self.expect("{")?;
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let (name, _) = self.field_name()?;
            let field_at = self.at();
            self.expect(":")?;
            fields.push(Initializer { at: field_at, name, value: self.entry()?, optional });
            if !self.take(",") && !self.is("}") {
                return Err(self.mismatched("'}'"));
            }
        }
        self.node(at, Kind::Message(Box::new(Message { name: name.into(), fields })))
    }

    fn list(&mut self, at: usize) -> Parsed<Node> {
        self.advance();
        let mut elements = Vec::new();
        while !self.take("]") {
            let optional = self.take("?");
            elements.push((self.entry()?, optional));
            if !self.take(",") && !self.is("]") {
                return Err(self.mismatched("']'"));
            }
        }
        self.node(at, Kind::List(elements))
    }

    fn map(&mut self, at: usize) -> Parsed<Node> {
        self.advance();
        let mut entries = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.entry()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.entry()?, optional });
            if !self.take(",") && !self.is("}") {
                return Err(self.mismatched("'}'"));
            }
        }
        self.node(at, Kind::Map(entries))
    }
}

fn deepest(kind: &Kind) -> usize {
    let depth = |node: &Option<Node>| node.as_ref().map_or(0, |node| node.depth);
    match kind {
        Kind::Literal(_) | Kind::Name { .. } => 0,
        Kind::Message(message) => message.fields.iter().map(|field| field.value.depth).max().unwrap_or(0),
        Kind::Select { operand, .. } | Kind::OptionalSelect { operand, .. } => operand.depth,
        Kind::Call(call) => call.args.iter().chain(&call.target).map(|node| node.depth).max().unwrap_or(0),
        Kind::List(elements) => elements.iter().map(|(node, _)| node.depth).max().unwrap_or(0),
        Kind::Map(entries) => entries.iter().map(|entry| entry.key.depth.max(entry.value.depth)).max().unwrap_or(0),
        Kind::Fold(fold) => fold.range.depth.max(depth(&fold.condition)).max(depth(&fold.result)),
    }
}
