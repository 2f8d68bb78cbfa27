//! Quantities, and the functions that they share names of with versions.

use std::cmp::Ordering;

use super::{Context, Row};
use crate::{
    expressions::{
        meter::Fault,
        values::{Named, Val, no_overload},
    },
    meta::quantity,
};

const UNIT: i128 = 1_000_000_000;

pub(super) const FUNCTIONS: &[Row] = &[
    ("quantity", to_quantity, &[("string_to_quantity", "(string) -> quantity")]),
    ("isQuantity", is_quantity, &[("is_quantity_string", "(string) -> bool")]),
    ("sign", sign, &[("quantity_sign", "quantity.() -> int")]),
    (
        "isGreaterThan",
        is_greater,
        &[("quantity_is_greater_than", "quantity.(quantity) -> bool"), ("semver_is_greater_than", "semver.(semver) -> bool")],
    ),
    ("isLessThan", is_less, &[("quantity_is_less_than", "quantity.(quantity) -> bool"), ("semver_is_less_than", "semver.(semver) -> bool")]),
    ("compareTo", compare_to, &[("quantity_compare_to", "quantity.(quantity) -> int"), ("semver_compare_to", "semver.(semver) -> int")]),
    ("asApproximateFloat", as_float, &[("quantity_get_float", "quantity.() -> double")]),
    ("asInteger", as_integer, &[("quantity_get_int", "quantity.() -> int")]),
    ("isInteger", is_integer, &[("quantity_is_integer", "quantity.() -> bool")]),
    ("add", add, &[("quantity_add", "quantity.(quantity) -> quantity"), ("quantity_add_int", "quantity.(int) -> quantity")]),
    ("sub", subtract, &[("quantity_sub", "quantity.(quantity) -> quantity"), ("quantity_sub_int", "quantity.(int) -> quantity")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

/// Quantities are not padded with blanks, unlike what configuration may be.
pub fn parse(text: &str) -> Option<i128> {
    quantity::nanos(text).filter(|_| text.trim() == text)
}

fn to_quantity<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text)] = args else { return Err(no_overload()) };
    let nanos =
        parse(text).ok_or_else(|| Fault::error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"))?;
    Ok(Val::named(Named::Quantity(nanos)))
}

fn is_quantity<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text)] = args else { return Err(no_overload()) };
    Ok(Val::Bool(parse(text).is_some()))
}

fn amount(value: Option<&Val<'_>>) -> Result<i128, Fault> {
    match value {
        Some(Val::Named(named)) => match **named {
            Named::Quantity(nanos) => Ok(nanos),
            _ => Err(no_overload()),
        },
        Some(Val::Int(whole)) => Ok(i128::from(*whole) * UNIT),
        _ => Err(no_overload()),
    }
}

fn sign<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    amount(args.first()).map(|nanos| Val::Int(i64::try_from(nanos.signum()).unwrap_or(0)))
}

fn order(args: &[Val<'_>]) -> Result<Ordering, Fault> {
    match args {
        [Val::Named(one), Val::Named(other)] => match (&**one, &**other) {
            (Named::Quantity(a), Named::Quantity(b)) => Ok(a.cmp(b)),
            (Named::Semver(a), Named::Semver(b)) => Ok(a.cmp(b)),
            _ => Err(no_overload()),
        },
        _ => Err(no_overload()),
    }
}

fn is_greater<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    order(args).map(|order| Val::Bool(order.is_gt()))
}

fn is_less<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    order(args).map(|order| Val::Bool(order.is_lt()))
}

fn compare_to<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    order(args).map(|order| Val::Int(order as i64))
}

fn as_float<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    amount(args.first()).map(|nanos| Val::Double(nanos as f64 / UNIT as f64))
}

fn whole(nanos: i128) -> Option<i64> {
    (nanos % UNIT == 0).then(|| i64::try_from(nanos / UNIT).ok()).flatten()
}

fn as_integer<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    whole(amount(args.first())?).map(Val::Int).ok_or_else(|| Fault::error("cannot convert value to integer"))
}

fn is_integer<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    amount(args.first()).map(|nanos| Val::Bool(whole(nanos).is_some()))
}

fn add<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Ok(Val::named(Named::Quantity(amount(args.first())?.saturating_add(amount(args.get(1))?))))
}

fn subtract<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    Ok(Val::named(Named::Quantity(amount(args.first())?.saturating_sub(amount(args.get(1))?))))
}
