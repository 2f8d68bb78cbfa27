//! Texts that are written down where a time, a duration or a pattern is wanted are tried at once, and patterns are kept compiled.

use std::sync::Arc;

use super::each;
use crate::expressions::{
    library::patterns,
    syntax::{
        Issue,
        ast::{Call, Kind, Literal, Node},
    },
    values::times,
};

/// What upstream finds out only when it makes a program of what was compiled.
pub const INSTANTIATION: &str = "program instantiation failed: ";

/// Checks such texts in a tree, and below it.
pub(super) fn check(node: &mut Node, issues: &mut Vec<Issue>) {
    if let Kind::Call(call) = &mut node.kind {
        one(call, issues);
    }
    each(node, &mut |child| check(child, issues));
}

fn one(call: &mut Call, issues: &mut Vec<Issue>) {
    let last = call.args.last().map(|arg| (arg.at, &arg.kind));
    let mut invalid = |at: usize, what: &str| issues.push(Issue::new(at, format!("invalid {what} argument")));
    match (&*call.function, last) {
        ("duration", Some((at, Kind::Literal(Literal::String(text))))) if times::duration(text).is_err() => invalid(at, "duration"),
        ("timestamp", Some((at, Kind::Literal(Literal::String(text))))) if times::timestamp(text).is_err() => invalid(at, "timestamp"),
        ("timestamp", Some((at, Kind::Literal(Literal::Int(seconds))))) if times::from_seconds(*seconds).is_err() => invalid(at, "timestamp"),
        ("matches" | "find" | "findAll", _) => {
            // The pattern is the second operand, whatever follows.
            let position = usize::from(call.target.is_none());
            let Some((at, Kind::Literal(Literal::String(text)))) = call.args.get(position).map(|arg| (arg.at, &arg.kind)) else { return };
            match patterns::compile(text) {
                Ok(pattern) => call.pattern = Some(Arc::new(pattern)),
                Err(_) if &*call.function == "matches" => invalid(at, &call.function),
                Err(why) => issues.push(Issue::new(at, format!("{INSTANTIATION}{why}"))),
            }
        }
        _ => {}
    }
}
