//! Calls that are macros: `has`, `all`, `map` and the like.

use super::{
    Issue,
    ast::{Fold, Kind, Macro, Node},
};

/// What a call means.
pub(super) enum Meaning {
    Macro(Kind),
    /// Nothing but a call, of these.
    Call(Option<Node>, Vec<Node>),
}

/// A call without a target.
pub(super) fn global(at: usize, name: &str, mut args: Vec<Node>) -> Result<Meaning, Issue> {
    if name != "has" || args.len() != 1 {
        return Ok(Meaning::Call(None, args));
    }
    match args.pop().map(|node| node.kind) {
        Some(Kind::Select { operand, field, test: false }) => Ok(Meaning::Macro(Kind::Select { operand, field, test: true })),
        _ => Err(Issue::new(at, "invalid argument to has() macro")),
    }
}

/// A call with a target.
pub(super) fn member(at: usize, target: Node, name: &str, args: Vec<Node>) -> Result<Meaning, Issue> {
    if name == "bind" && args.len() == 3 && matches!(&target.kind, Kind::Name { name, .. } if &**name == "cel") {
        return bind(at, args);
    }
    let Some((kind, with_key)) = kind(name, args.len()) else {
        return Ok(Meaning::Call(Some(target), args));
    };
    let mut args = args.into_iter();
    let key = if with_key { Some(variable(args.next(), at)?) } else { None };
    let item = variable(args.next(), at)?;
    if key.as_ref() == Some(&item) {
        return Err(Issue::new(at, format!("duplicate variable name: {item}")));
    }
    let (first, second) = (args.next(), args.next());
    let (condition, result) = match (kind, name) {
        (Macro::All | Macro::Exists | Macro::ExistsOne, _) | (_, "filter") => (first, None),
        _ if second.is_some() => (first, second),
        _ => (None, first),
    };
    Ok(Meaning::Macro(Kind::Fold(Box::new(Fold { kind, range: target, key, item, condition, result }))))
}

/// `cel.bind(name, value, expression)`.
fn bind(at: usize, args: Vec<Node>) -> Result<Meaning, Issue> {
    let mut args = args.into_iter();
    let item = variable(args.next(), at)?;
    let range = args.next().ok_or_else(|| Issue::new(at, "cel.bind() names a value"))?;
    let fold = Fold { kind: Macro::Bind, range, key: None, item, condition: None, result: args.next() };
    Ok(Meaning::Macro(Kind::Fold(Box::new(fold))))
}

/// Which macro a name and a number of arguments mean, and whether it has two variables.
fn kind(name: &str, arguments: usize) -> Option<(Macro, bool)> {
    Some(match (name, arguments) {
        ("all", 2) => (Macro::All, false),
        ("all", 3) => (Macro::All, true),
        ("exists", 2) => (Macro::Exists, false),
        ("exists", 3) => (Macro::Exists, true),
        ("exists_one" | "existsOne", 2) => (Macro::ExistsOne, false),
        ("exists_one" | "existsOne", 3) => (Macro::ExistsOne, true),
        ("map", 2 | 3) | ("filter", 2) => (Macro::Collect, false),
        ("transformList", 3 | 4) => (Macro::Collect, true),
        ("transformMap", 3 | 4) => (Macro::TransformMap, true),
        ("transformMapEntry", 3 | 4) => (Macro::TransformMapEntry, true),
        ("sortBy", 2) => (Macro::SortBy, false),
        ("optMap", 2) => (Macro::OptMap, false),
        ("optFlatMap", 2) => (Macro::OptFlatMap, false),
        _ => return None,
    })
}

fn variable(node: Option<Node>, at: usize) -> Result<Box<str>, Issue> {
    match node.map(|node| (node.at, node.kind)) {
        Some((_, Kind::Name { name, .. })) if !matches!(&*name, "__result__" | "@result") => Ok(name),
        Some((place, _)) => Err(Issue::new(place, "argument must be a simple name")),
        None => Err(Issue::new(at, "argument must be a simple name")),
    }
}
