//! Expressions as trees. Macros are nodes of their own ([`Fold`]), so that nothing is evaluated that was not written.

use std::sync::Arc;

use regex::Regex;

use crate::expressions::{library::Function, types::Type};

/// A value that is written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

/// What a name stands for, known after the types were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slot {
    #[default]
    Unknown,
    /// A variable of the environment, by position.
    Variable(usize),
    /// A variable of a macro, counted from the outermost.
    Local(usize),
    /// A type, such as `int`.
    Type,
}

/// A function that is called, known after the types were checked.
#[derive(Clone, Copy, Debug)]
pub struct Callee {
    pub function: &'static Function,
    /// Which overloads may be meant, a bit each, by position.
    pub overloads: u64,
}

/// Parts of the longest name of a type, `google.protobuf.Duration`.
const MOST_PARTS: usize = 3;

/// A node with its place in the text and its type.
#[derive(Debug)]
pub struct Node {
    /// Where it is told of in errors, in bytes.
    pub at: usize,
    pub kind: Kind,
    pub ty: Type,
    /// How many nodes are within each other here.
    pub depth: usize,
}

#[derive(Debug)]
pub enum Kind {
    Literal(Literal),
    Name {
        name: Box<str>,
        slot: Slot,
    },
    Select {
        operand: Box<Node>,
        field: Box<str>,
        test: bool,
    },
    OptionalSelect {
        operand: Box<Node>,
        field: Box<str>,
    },
    Call(Box<Call>),
    /// With what is marked as optional.
    List(Vec<(Node, bool)>),
    Map(Vec<Entry>),
    /// A message that is constructed.
    Message(Box<Message>),
    Fold(Box<Fold>),
}

#[derive(Debug)]
pub struct Call {
    pub function: Box<str>,
    pub target: Option<Node>,
    pub args: Vec<Node>,
    pub callee: Option<Callee>,
    /// The pattern, where it is written down.
    pub pattern: Option<Arc<Regex>>,
}

#[derive(Debug)]
pub struct Entry {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

/// The macros that go through something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macro {
    All,
    Exists,
    ExistsOne,
    /// `map`, `filter` and `transformList`.
    Collect,
    TransformMap,
    TransformMapEntry,
    SortBy,
    OptMap,
    OptFlatMap,
    /// `cel.bind`: names one value.
    Bind,
}

/// `Name{field: value}`.
#[derive(Debug)]
pub struct Message {
    pub name: Box<str>,
    pub fields: Vec<Initializer>,
}

/// A field of a message that is constructed.
#[derive(Debug)]
pub struct Initializer {
    pub at: usize,
    pub name: Box<str>,
    pub value: Node,
    pub optional: bool,
}

/// A macro over a list, a map or an optional value.
#[derive(Debug)]
pub struct Fold {
    pub kind: Macro,
    pub range: Node,
    /// The index or the key, in the forms with two variables.
    pub key: Option<Box<str>>,
    pub item: Box<str>,
    /// Which entries are taken.
    pub condition: Option<Node>,
    /// What becomes of an entry; the entry itself where there is none.
    pub result: Option<Node>,
}

impl Node {
    pub fn new(at: usize, kind: Kind, depth: usize) -> Self {
        Node { at, kind, ty: Type::Dyn, depth }
    }

    /// `a.b.c` as one name, where the node is nothing else. Names of types and functions have few parts.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            _ if self.depth > MOST_PARTS => None,
            Kind::Name { name, .. } => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", operand.qualified_name()?)),
            _ => None,
        }
    }

    /// The name of a message, `a.b.c`, of as many parts as there are.
    pub fn message_name(&self) -> Option<String> {
        let (mut parts, mut node) = (Vec::new(), self);
        loop {
            match &node.kind {
                Kind::Name { name, .. } => parts.push(&**name),
                Kind::Select { operand, field, test: false } => {
                    parts.push(field);
                    node = operand;
                    continue;
                }
                _ => return None,
            }
            parts.reverse();
            return Some(parts.join("."));
        }
    }

    /// Whether it reads `operand.field` anywhere, also optionally or to see whether it is there.
    pub fn selects(&self, operand: &str, field: &str) -> bool {
        let is_operand = |node: &Node| matches!(&node.kind, Kind::Name { name, .. } if &**name == operand);
        let within = |node: &Node| node.selects(operand, field);
        match &self.kind {
            Kind::Literal(_) | Kind::Name { .. } => false,
            Kind::Select { operand: of, field: read, .. } | Kind::OptionalSelect { operand: of, field: read } => {
                is_operand(of) && &**read == field || within(of)
            }
            Kind::Call(call) => call.target.iter().chain(&call.args).any(within),
            Kind::List(items) => items.iter().any(|(item, _)| within(item)),
            Kind::Map(entries) => entries.iter().any(|entry| within(&entry.key) || within(&entry.value)),
            Kind::Message(message) => message.fields.iter().any(|field| within(&field.value)),
            Kind::Fold(fold) => [Some(&fold.range), fold.condition.as_ref(), fold.result.as_ref()].into_iter().flatten().any(within),
        }
    }

    /// The integer that is written here.
    pub fn integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Literal(Literal::Int(number)) => Some(number),
            _ => None,
        }
    }
}
