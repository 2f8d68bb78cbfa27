//! Operators on numbers, times and lists, and negation.

use jiff::SignedDuration;

use super::{Context, Row, lists};
use crate::expressions::{
    meter::Fault,
    values::{Time, Val, no_overload, times},
};

pub(super) const FUNCTIONS: &[Row] = &[
    (
        "_+_",
        add,
        &[
            ("add_bytes", "(bytes, bytes) -> bytes"),
            ("add_double", "(double, double) -> double"),
            ("add_duration_duration", "(duration, duration) -> duration"),
            ("add_duration_timestamp", "(duration, timestamp) -> timestamp"),
            ("add_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("add_int64", "(int, int) -> int"),
            ("add_list", "(list(A), list(A)) -> list(A)"),
            ("add_string", "(string, string) -> string"),
            ("add_uint64", "(uint, uint) -> uint"),
        ],
    ),
    (
        "_-_",
        subtract,
        &[
            ("subtract_double", "(double, double) -> double"),
            ("subtract_duration_duration", "(duration, duration) -> duration"),
            ("subtract_int64", "(int, int) -> int"),
            ("subtract_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("subtract_timestamp_timestamp", "(timestamp, timestamp) -> duration"),
            ("subtract_uint64", "(uint, uint) -> uint"),
        ],
    ),
    (
        "_*_",
        multiply,
        &[("multiply_double", "(double, double) -> double"), ("multiply_int64", "(int, int) -> int"), ("multiply_uint64", "(uint, uint) -> uint")],
    ),
    (
        "_/_",
        divide,
        &[("divide_double", "(double, double) -> double"), ("divide_int64", "(int, int) -> int"), ("divide_uint64", "(uint, uint) -> uint")],
    ),
    ("_%_", modulo, &[("modulo_int64", "(int, int) -> int"), ("modulo_uint64", "(uint, uint) -> uint")]),
    ("-_", negate, &[("negate_double", "(double) -> double"), ("negate_int64", "(int) -> int")]),
    ("!_", not, &[("logical_not", "(bool) -> bool")]),
    // Evaluated where they stand, because not every operand is.
    ("_&&_", nothing, &[("logical_and", "(bool, bool) -> bool")]),
    ("_||_", nothing, &[("logical_or", "(bool, bool) -> bool")]),
    ("_?_:_", nothing, &[("conditional", "(bool, A, A) -> A")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn nothing<'a>(_args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Err(no_overload())
}

fn int(result: Option<i64>) -> Ran<'static> {
    result.map(Val::Int).ok_or_else(|| Fault::error("integer overflow"))
}

fn uint(result: Option<u64>) -> Ran<'static> {
    result.map(Val::Uint).ok_or_else(|| Fault::error("unsigned integer overflow"))
}

fn duration(result: Option<i64>) -> Ran<'static> {
    result.map(Val::Duration).ok_or_else(|| Fault::error("duration overflow"))
}

fn shifted(time: Time, nanos: i64) -> Ran<'static> {
    let moved = time.at.checked_add(SignedDuration::from_nanos(nanos)).ok().filter(times::is_within);
    moved.map(|at| Val::Timestamp(Time { at, ..time })).ok_or_else(|| Fault::error("timestamp overflow"))
}

fn add<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Int(a), Val::Int(b)] => int(a.checked_add(*b)),
        [Val::Uint(a), Val::Uint(b)] => uint(a.checked_add(*b)),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a + b)),
        [Val::Duration(a), Val::Duration(b)] => duration(a.checked_add(*b)),
        [Val::Timestamp(time), Val::Duration(nanos)] | [Val::Duration(nanos), Val::Timestamp(time)] => shifted(*time, *nanos),
        [Val::String(a), Val::String(b)] => {
            context.meter.allocate(a.len() + b.len())?;
            Ok(Val::text([&**a, &**b].concat()))
        }
        [Val::Bytes(a), Val::Bytes(b)] => {
            context.meter.allocate(a.len() + b.len())?;
            Ok(Val::Bytes([&**a, &**b].concat().into()))
        }
        [Val::List(a), Val::List(b)] => lists::joined(a, b, context.meter),
        _ => Err(no_overload()),
    }
}

fn subtract<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Int(a), Val::Int(b)] => int(a.checked_sub(*b)),
        [Val::Uint(a), Val::Uint(b)] => uint(a.checked_sub(*b)),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a - b)),
        [Val::Duration(a), Val::Duration(b)] => duration(a.checked_sub(*b)),
        [Val::Timestamp(time), Val::Duration(nanos)] => match nanos.checked_neg() {
            Some(nanos) => shifted(*time, nanos),
            None => Err(Fault::error("timestamp overflow")),
        },
        [Val::Timestamp(a), Val::Timestamp(b)] => duration(i64::try_from(a.at.as_nanosecond() - b.at.as_nanosecond()).ok()),
        _ => Err(no_overload()),
    }
}

fn multiply<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Int(a), Val::Int(b)] => int(a.checked_mul(*b)),
        [Val::Uint(a), Val::Uint(b)] => uint(a.checked_mul(*b)),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a * b)),
        _ => Err(no_overload()),
    }
}

fn divide<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Int(_), Val::Int(0)] | [Val::Uint(_), Val::Uint(0)] => Err(Fault::error("division by zero")),
        [Val::Int(a), Val::Int(b)] => int(a.checked_div(*b)),
        [Val::Uint(a), Val::Uint(b)] => uint(a.checked_div(*b)),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a / b)),
        _ => Err(no_overload()),
    }
}

fn modulo<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Int(_), Val::Int(0)] | [Val::Uint(_), Val::Uint(0)] => Err(Fault::error("modulus by zero")),
        [Val::Int(a), Val::Int(b)] => int(a.checked_rem(*b)),
        [Val::Uint(a), Val::Uint(b)] => uint(a.checked_rem(*b)),
        _ => Err(no_overload()),
    }
}

fn negate<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Int(value)] => int(value.checked_neg()),
        [Val::Double(value)] => Ok(Val::Double(-value)),
        _ => Err(no_overload()),
    }
}

fn not<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match args {
        [Val::Bool(value)] => Ok(Val::Bool(!value)),
        _ => Err(no_overload()),
    }
}
