//! Conversions between types.

use std::rc::Rc;

use super::{Context, Row, formatting};
use crate::expressions::{
    meter::Fault,
    values::{Named, Val, no_overload, times},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("type", type_of, &[("type", "(A) -> type(A)")]),
    ("dyn", dynamic, &[("to_dyn", "(A) -> dyn")]),
    ("bool", to_bool, &[("bool_to_bool", "(bool) -> bool"), ("string_to_bool", "(string) -> bool")]),
    ("bytes", to_bytes, &[("bytes_to_bytes", "(bytes) -> bytes"), ("string_to_bytes", "(string) -> bytes")]),
    (
        "double",
        to_double,
        &[
            ("double_to_double", "(double) -> double"),
            ("int64_to_double", "(int) -> double"),
            ("string_to_double", "(string) -> double"),
            ("uint64_to_double", "(uint) -> double"),
        ],
    ),
    (
        "int",
        to_int,
        &[
            ("int64_to_int64", "(int) -> int"),
            ("double_to_int64", "(double) -> int"),
            ("duration_to_int64", "(duration) -> int"),
            ("string_to_int64", "(string) -> int"),
            ("timestamp_to_int64", "(timestamp) -> int"),
            ("uint64_to_int64", "(uint) -> int"),
        ],
    ),
    (
        "uint",
        to_uint,
        &[
            ("uint64_to_uint64", "(uint) -> uint"),
            ("double_to_uint64", "(double) -> uint"),
            ("int64_to_uint64", "(int) -> uint"),
            ("string_to_uint64", "(string) -> uint"),
        ],
    ),
    (
        "string",
        to_string,
        &[
            ("string_to_string", "(string) -> string"),
            ("bool_to_string", "(bool) -> string"),
            ("bytes_to_string", "(bytes) -> string"),
            ("double_to_string", "(double) -> string"),
            ("duration_to_string", "(duration) -> string"),
            ("int64_to_string", "(int) -> string"),
            ("timestamp_to_string", "(timestamp) -> string"),
            ("uint64_to_string", "(uint) -> string"),
            ("ip_to_string", "(ip) -> string"),
            ("cidr_to_string", "(cidr) -> string"),
        ],
    ),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn type_of<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Ok(Val::Type(args[0].type_name().into()))
}

fn dynamic<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Ok(args[0].clone())
}

fn failed(from: &str, to: &str) -> Fault {
    Fault::error(format!("type conversion error from '{from}' to '{to}'"))
}

fn to_bool<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match &args[0] {
        Val::Bool(value) => Ok(Val::Bool(*value)),
        Val::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            _ => Err(failed("string", "bool")),
        },
        _ => Err(no_overload()),
    }
}

fn to_bytes<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    match &args[0] {
        Val::Bytes(bytes) => Ok(Val::Bytes(bytes.clone())),
        Val::String(text) => {
            context.meter.allocate(text.len())?;
            Ok(Val::Bytes(Rc::from(text.as_bytes())))
        }
        _ => Err(no_overload()),
    }
}

fn to_double<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match &args[0] {
        Val::Double(value) => Ok(Val::Double(*value)),
        Val::Int(value) => Ok(Val::Double(*value as f64)),
        Val::Uint(value) => Ok(Val::Double(*value as f64)),
        Val::String(text) => text.parse().map(Val::Double).map_err(|_| failed("string", "double")),
        _ => Err(no_overload()),
    }
}

fn to_int<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    const MOST: f64 = 9_223_372_036_854_775_808.0;
    let overflow = || Fault::error("integer overflow");
    match &args[0] {
        Val::Int(value) => Ok(Val::Int(*value)),
        Val::Uint(value) => i64::try_from(*value).map(Val::Int).map_err(|_| overflow()),
        Val::Double(value) if *value > -MOST && *value < MOST => Ok(Val::Int(*value as i64)),
        Val::Double(_) => Err(overflow()),
        Val::Duration(nanos) => Ok(Val::Int(*nanos)),
        Val::Timestamp(time) => Ok(Val::Int(time.at.as_second())),
        Val::String(text) => text.parse().map(Val::Int).map_err(|_| failed("string", "int")),
        _ => Err(no_overload()),
    }
}

fn to_uint<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    const MOST: f64 = 18_446_744_073_709_551_616.0;
    let overflow = || Fault::error("unsigned integer overflow");
    match &args[0] {
        Val::Uint(value) => Ok(Val::Uint(*value)),
        Val::Int(value) => u64::try_from(*value).map(Val::Uint).map_err(|_| overflow()),
        Val::Double(value) if *value >= 0.0 && *value < MOST => Ok(Val::Uint(*value as u64)),
        Val::Double(_) => Err(overflow()),
        Val::String(text) if !text.starts_with('+') => text.parse().map(Val::Uint).map_err(|_| failed("string", "uint")),
        Val::String(_) => Err(failed("string", "uint")),
        _ => Err(no_overload()),
    }
}

fn to_string<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    Ok(match &args[0] {
        Val::String(text) => Val::String(text.clone()),
        Val::Bool(value) => Val::text(value.to_string()),
        Val::Int(value) => Val::text(value.to_string()),
        Val::Uint(value) => Val::text(value.to_string()),
        Val::Double(value) => Val::text(formatting::shortest(*value)),
        Val::Duration(nanos) => Val::text(times::seconds(*nanos)),
        Val::Timestamp(time) => Val::text(times::shown(*time)),
        Val::Bytes(bytes) => {
            context.meter.allocate(bytes.len())?;
            let text = std::str::from_utf8(bytes).map_err(|_| Fault::error("invalid UTF-8 in bytes, cannot convert to string"))?;
            Val::text(text)
        }
        Val::Named(named) => match &**named {
            Named::Ip(address) => Val::text(address.to_string()),
            Named::Cidr(address, bits) => Val::text(format!("{address}/{bits}")),
            _ => return Err(no_overload()),
        },
        _ => return Err(no_overload()),
    })
}
