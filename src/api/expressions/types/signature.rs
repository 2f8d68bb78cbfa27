//! Signatures as they are written in tables: `list(A).indexOf(A) -> int` without the name, `list(A).(A) -> int`.

use std::sync::Arc;

use super::{
    AUTHORIZER, CIDR, DECISION, FORMAT, GROUP_CHECK, IP, PATH_CHECK, QUANTITY, RESOURCE_CHECK, SEMVER, Substitution, Type, URL, unify::LETTERS,
};

/// One way to call a function.
#[derive(Debug)]
pub struct Overload {
    /// Its name in `cel-go`, by which costs are told apart.
    pub id: &'static str,
    pub is_member: bool,
    /// With the target first.
    pub args: Vec<Type>,
    pub result: Type,
}

impl Overload {
    /// Arguments and result with parameters of their own.
    pub fn instance(&self, substitution: &mut Substitution) -> (Vec<Type>, Type) {
        let mut fresh: [Option<Type>; LETTERS] = [const { None }; LETTERS];
        let args = self.args.iter().map(|ty| renamed(ty, &mut fresh, substitution)).collect();
        (args, renamed(&self.result, &mut fresh, substitution))
    }
}

fn renamed(ty: &Type, fresh: &mut [Option<Type>; LETTERS], substitution: &mut Substitution) -> Type {
    match ty {
        Type::Parameter(letter) => match fresh.get_mut(*letter) {
            Some(slot) => slot.get_or_insert_with(|| substitution.fresh()).clone(),
            None => ty.clone(),
        },
        Type::List(of) => Type::list(renamed(of, fresh, substitution)),
        Type::Optional(of) => Type::optional(renamed(of, fresh, substitution)),
        Type::Type(of) => Type::Type(Arc::new(renamed(of, fresh, substitution))),
        Type::Map(of) => Type::map(renamed(&of.0, fresh, substitution), renamed(&of.1, fresh, substitution)),
        other => other.clone(),
    }
}

/// Reads a signature of a table.
///
/// # Panics
/// If the table is wrong.
pub fn overload(id: &'static str, text: &str) -> Overload {
    let (call, result) = text.split_once(" -> ").expect("a signature has a result");
    let open = call.rfind(".(").map_or(0, |at| at + 1);
    let (target, args) = call.split_at(open);
    let args = args.strip_prefix('(').and_then(|args| args.strip_suffix(')')).expect("arguments stand in brackets");
    let is_member = !target.is_empty();
    let mut types: Vec<Type> = target.strip_suffix('.').map(parse).into_iter().collect();
    types.extend(split(args).into_iter().map(parse));
    Overload { id, is_member, args: types, result: parse(result) }
}

/// Splits at the commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !text[begin..].trim().is_empty() {
        parts.push(text[begin..].trim());
    }
    parts
}

fn parse(text: &str) -> Type {
    if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut types = split(inner).into_iter().map(parse);
        let mut next = || types.next().expect("a type with parameters has them");
        return match name {
            "list" => Type::list(next()),
            "optional" => Type::optional(next()),
            "type" => Type::Type(Arc::new(next())),
            "map" => {
                let key = next();
                Type::map(key, next())
            }
            other => panic!("{other} has no parameters"),
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "quantity" => QUANTITY,
        "url" => URL,
        "ip" => IP,
        "cidr" => CIDR,
        "semver" => SEMVER,
        "format" => FORMAT,
        "authorizer" => AUTHORIZER,
        "pathcheck" => PATH_CHECK,
        "groupcheck" => GROUP_CHECK,
        "resourcecheck" => RESOURCE_CHECK,
        "decision" => DECISION,
        letter => Type::Parameter(letter.bytes().next().map_or(0, |letter| usize::from(letter - b'A'))),
    }
}
