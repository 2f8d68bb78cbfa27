//! Equality, order, membership and size.

use std::cmp::Ordering;

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    values::{Val, compare, equal, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("_==_", equals, &[("equals", "(A, A) -> bool")]),
    ("_!=_", differs, &[("not_equals", "(A, A) -> bool")]),
    (
        "_<_",
        less,
        &[
            ("less_bool", "(bool, bool) -> bool"),
            ("less_int64", "(int, int) -> bool"),
            ("less_uint64", "(uint, uint) -> bool"),
            ("less_double", "(double, double) -> bool"),
            ("less_string", "(string, string) -> bool"),
            ("less_bytes", "(bytes, bytes) -> bool"),
            ("less_timestamp", "(timestamp, timestamp) -> bool"),
            ("less_duration", "(duration, duration) -> bool"),
            ("less_int64_uint64", "(int, uint) -> bool"),
            ("less_int64_double", "(int, double) -> bool"),
            ("less_uint64_int64", "(uint, int) -> bool"),
            ("less_uint64_double", "(uint, double) -> bool"),
            ("less_double_int64", "(double, int) -> bool"),
            ("less_double_uint64", "(double, uint) -> bool"),
        ],
    ),
    (
        "_<=_",
        less_or_equal,
        &[
            ("less_equals_bool", "(bool, bool) -> bool"),
            ("less_equals_int64", "(int, int) -> bool"),
            ("less_equals_uint64", "(uint, uint) -> bool"),
            ("less_equals_double", "(double, double) -> bool"),
            ("less_equals_string", "(string, string) -> bool"),
            ("less_equals_bytes", "(bytes, bytes) -> bool"),
            ("less_equals_timestamp", "(timestamp, timestamp) -> bool"),
            ("less_equals_duration", "(duration, duration) -> bool"),
            ("less_equals_int64_uint64", "(int, uint) -> bool"),
            ("less_equals_int64_double", "(int, double) -> bool"),
            ("less_equals_uint64_int64", "(uint, int) -> bool"),
            ("less_equals_uint64_double", "(uint, double) -> bool"),
            ("less_equals_double_int64", "(double, int) -> bool"),
            ("less_equals_double_uint64", "(double, uint) -> bool"),
        ],
    ),
    (
        "_>_",
        greater,
        &[
            ("greater_bool", "(bool, bool) -> bool"),
            ("greater_int64", "(int, int) -> bool"),
            ("greater_uint64", "(uint, uint) -> bool"),
            ("greater_double", "(double, double) -> bool"),
            ("greater_string", "(string, string) -> bool"),
            ("greater_bytes", "(bytes, bytes) -> bool"),
            ("greater_timestamp", "(timestamp, timestamp) -> bool"),
            ("greater_duration", "(duration, duration) -> bool"),
            ("greater_int64_uint64", "(int, uint) -> bool"),
            ("greater_int64_double", "(int, double) -> bool"),
            ("greater_uint64_int64", "(uint, int) -> bool"),
            ("greater_uint64_double", "(uint, double) -> bool"),
            ("greater_double_int64", "(double, int) -> bool"),
            ("greater_double_uint64", "(double, uint) -> bool"),
        ],
    ),
    (
        "_>=_",
        greater_or_equal,
        &[
            ("greater_equals_bool", "(bool, bool) -> bool"),
            ("greater_equals_int64", "(int, int) -> bool"),
            ("greater_equals_uint64", "(uint, uint) -> bool"),
            ("greater_equals_double", "(double, double) -> bool"),
            ("greater_equals_string", "(string, string) -> bool"),
            ("greater_equals_bytes", "(bytes, bytes) -> bool"),
            ("greater_equals_timestamp", "(timestamp, timestamp) -> bool"),
            ("greater_equals_duration", "(duration, duration) -> bool"),
            ("greater_equals_int64_uint64", "(int, uint) -> bool"),
            ("greater_equals_int64_double", "(int, double) -> bool"),
            ("greater_equals_uint64_int64", "(uint, int) -> bool"),
            ("greater_equals_uint64_double", "(uint, double) -> bool"),
            ("greater_equals_double_int64", "(double, int) -> bool"),
            ("greater_equals_double_uint64", "(double, uint) -> bool"),
        ],
    ),
    ("@in", contains, &[("in_list", "(A, list(A)) -> bool"), ("in_map", "(A, map(A, B)) -> bool")]),
    // Evaluated where they stand.
    (
        "_[_]",
        nothing,
        &[
            ("index_list", "(list(A), int) -> A"),
            ("index_map", "(map(A, B), A) -> B"),
            ("optional_list_index_int", "(optional(list(A)), int) -> optional(A)"),
            ("optional_map_index_value", "(optional(map(A, B)), A) -> optional(B)"),
        ],
    ),
    (
        "_[?_]",
        nothing,
        &[
            ("list_optindex_optional_int", "(list(A), int) -> optional(A)"),
            ("optional_list_optindex_optional_int", "(optional(list(A)), int) -> optional(A)"),
            ("map_optindex_optional_value", "(map(A, B), A) -> optional(B)"),
            ("optional_map_optindex_optional_value", "(optional(map(A, B)), A) -> optional(B)"),
        ],
    ),
    (
        "size",
        size,
        &[
            ("size_bytes", "(bytes) -> int"),
            ("bytes_size", "bytes.() -> int"),
            ("size_list", "(list(A)) -> int"),
            ("list_size", "list(A).() -> int"),
            ("size_map", "(map(A, B)) -> int"),
            ("map_size", "map(A, B).() -> int"),
            ("size_string", "(string) -> int"),
            ("string_size", "string.() -> int"),
        ],
    ),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn nothing<'a>(_args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Err(no_overload())
}

fn equals<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    equal(&args[0], &args[1], context.meter).map(Val::Bool)
}

fn differs<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    equal(&args[0], &args[1], context.meter).map(|same| Val::Bool(!same))
}

fn ordered<'a>(args: &[Val<'a>], context: &mut Context<'_>, holds: fn(Ordering) -> bool) -> Ran<'a> {
    compare(&args[0], &args[1], context.meter).map(|order| Val::Bool(holds(order)))
}

fn less<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    ordered(args, context, Ordering::is_lt)
}

fn less_or_equal<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    ordered(args, context, Ordering::is_le)
}

fn greater<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    ordered(args, context, Ordering::is_gt)
}

fn greater_or_equal<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    ordered(args, context, Ordering::is_ge)
}

fn contains<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    match &args[1] {
        Val::List(list) => {
            for entry in list.iter() {
                if equal(&args[0], &entry?, context.meter)? {
                    return Ok(Val::Bool(true));
                }
            }
            Ok(Val::Bool(false))
        }
        Val::Map(map) => Ok(Val::Bool(map.contains(&args[0])?)),
        _ => Err(no_overload()),
    }
}

fn size<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match &args[0] {
        value @ (Val::String(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_)) => Ok(Val::Int(i64::try_from(value.size()).unwrap_or(i64::MAX))),
        _ => Err(no_overload()),
    }
}
