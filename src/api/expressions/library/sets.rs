//! Lists as sets (`cel-go/ext/sets.go`).

use super::{Context, Row};
use crate::expressions::{
    meter::{Fault, Meter},
    values::{List, Val, equal, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("sets.contains", contains, &[("list_sets_contains_list", "(list(T), list(T)) -> bool")]),
    ("sets.equivalent", equivalent, &[("list_sets_equivalent_list", "(list(T), list(T)) -> bool")]),
    ("sets.intersects", intersects, &[("list_sets_intersects_list", "(list(T), list(T)) -> bool")]),
];

fn has<'a>(list: &List<'a>, wanted: &Val<'a>, meter: &mut Meter) -> Result<bool, Fault> {
    for entry in list.iter() {
        if equal(&entry?, wanted, meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_all<'a>(list: &List<'a>, others: &List<'a>, meter: &mut Meter) -> Result<bool, Fault> {
    for other in others.iter() {
        if !has(list, &other?, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Result<Val<'a>, Fault> {
    let [Val::List(one), Val::List(other)] = args else { return Err(no_overload()) };
    has_all(one, other, context.meter).map(Val::Bool)
}

fn equivalent<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Result<Val<'a>, Fault> {
    let [Val::List(one), Val::List(other)] = args else { return Err(no_overload()) };
    Ok(Val::Bool(has_all(one, other, context.meter)? && has_all(other, one, context.meter)?))
}

fn intersects<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Result<Val<'a>, Fault> {
    let [Val::List(one), Val::List(other)] = args else { return Err(no_overload()) };
    for entry in one.iter() {
        if has(other, &entry?, context.meter)? {
            return Ok(Val::Bool(true));
        }
    }
    Ok(Val::Bool(false))
}
