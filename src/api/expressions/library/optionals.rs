//! Values that may be absent.

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    values::{Val, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("optional.of", of, &[("optional_of", "(V) -> optional(V)")]),
    ("optional.ofNonZeroValue", of_non_zero, &[("optional_ofNonZeroValue", "(V) -> optional(V)")]),
    ("optional.none", |_, _| Ok(Val::Optional(None)), &[("optional_none", "() -> optional(V)")]),
    ("value", value, &[("optional_value", "optional(V).() -> V")]),
    ("hasValue", has_value, &[("optional_hasValue", "optional(V).() -> bool")]),
    // Evaluated where they stand, because the argument may not be needed.
    ("or", nothing, &[("optional_or_optional", "optional(V).(optional(V)) -> optional(V)")]),
    ("orValue", nothing, &[("optional_orValue_value", "optional(V).(V) -> V")]),
    ("first", first, &[("list_first", "list(V).() -> optional(V)")]),
    ("last", last, &[("list_last", "list(V).() -> optional(V)")]),
    ("optional.unwrap", unwrap, &[("optional_unwrap", "(list(optional(V))) -> list(V)")]),
    ("unwrapOpt", unwrap, &[("optional_unwrapOpt", "list(optional(V)).() -> list(V)")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn nothing<'a>(_args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Err(no_overload())
}

fn of<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Ok(Val::some(args[0].clone()))
}

fn of_non_zero<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let is_zero = match &args[0] {
        Val::Null | Val::Optional(None) => true,
        Val::Bool(value) => !value,
        Val::Int(value) | Val::Duration(value) => *value == 0,
        Val::Uint(value) => *value == 0,
        Val::Double(value) => *value == 0.0,
        Val::Timestamp(time) => time.at.as_second() == -62_135_596_800 && time.at.subsec_nanosecond() == 0,
        Val::String(text) => text.is_empty(),
        Val::Bytes(bytes) => bytes.is_empty(),
        Val::List(list) => list.len() == 0,
        Val::Map(map) => map.is_empty(),
        _ => false,
    };
    Ok(if is_zero { Val::Optional(None) } else { Val::some(args[0].clone()) })
}

fn value<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Optional(Some(inner))] => Ok((**inner).clone()),
        [Val::Optional(None)] => Err(Fault::error("optional.none() dereference")),
        _ => Err(no_overload()),
    }
}

fn has_value<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Optional(inner)] => Ok(Val::Bool(inner.is_some())),
        _ => Err(no_overload()),
    }
}

fn first<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let [Val::List(list)] = args else { return Err(no_overload()) };
    if list.len() == 0 { Ok(Val::Optional(None)) } else { list.get(0).map(Val::some) }
}

fn last<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let [Val::List(list)] = args else { return Err(no_overload()) };
    if list.len() == 0 { Ok(Val::Optional(None)) } else { list.get(list.len() - 1).map(Val::some) }
}

fn unwrap<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::List(list)] = args else { return Err(no_overload()) };
    context.meter.allocate(64 * list.len())?;
    let mut made = Vec::new();
    for entry in list.iter() {
        match entry? {
            Val::Optional(inner) => made.extend(inner.map(|inner| (*inner).clone())),
            _ => return Err(no_overload()),
        }
    }
    Ok(Val::list(made))
}
