//! The costs of calls that were made.

use super::{LIST, MESSAGE, PATTERN, TRAVERSAL};
use crate::expressions::{
    meter::{Fault, Meter},
    values::{List, Named, Val},
};

/// Charges a call, beside its arguments; the target is the first of them.
///
/// # Errors
/// The limit is reached.
pub fn charge(function: &str, args: &[Val<'_>], result: &Val<'_>, meter: &mut Meter) -> Result<(), Fault> {
    match (function, args.first()) {
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(first)) => traverse(first, meter),
        _ => meter.charge(call(function, args, result)),
    }
}

fn call(function: &str, args: &[Val<'_>], result: &Val<'_>) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Val::size);
    let traversed = |size: u64, factor: f64| (size as f64 * factor).ceil() as u64;
    match (function, args.first()) {
        (
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "jsonpatch.escapeKey"
            | "cidr"
            | "isIP"
            | "isCIDR"
            | "quantity"
            | "isQuantity"
            | "semver"
            | "isSemver",
            _,
        ) => traversed(size(0), TRAVERSAL),
        ("check", _) => CHECK,
        ("fieldSelector" | "labelSelector", _) => selector(size(1)),
        ("replace" | "split" | "ip.isCanonical", _) => traversed(size(0), 2.0 * TRAVERSAL),
        ("join", _) => traversed(result.size(), 2.0 * TRAVERSAL),
        ("find" | "findAll" | "matches", _) => pattern(size(0), size(1)),
        ("ip", Some(Val::String(_))) => traversed(size(0), TRAVERSAL),
        ("containsIP" | "containsCIDR", _) => contains(function, &args[0], args.get(1)),
        ("validate", Some(Val::Named(named))) => match &**named {
            Named::Format(format) => pattern(size(1), format.pattern_length),
            _ => 1,
        },
        ("_==_" | "_!=_", Some(Val::Named(_))) => 1,
        ("_==_" | "_!=_", _) => traversed(size(0).min(size(1)), TRAVERSAL),
        ("_<_" | "_<=_" | "_>_" | "_>=_", Some(Val::String(_) | Val::Bytes(_))) => traversed(size(0).min(size(1)), TRAVERSAL),
        ("_+_", Some(Val::String(_) | Val::Bytes(_))) => traversed(size(0) + size(1), TRAVERSAL),
        ("@in", _) => match args.get(1) {
            Some(Val::List(list)) => list.len() as u64,
            _ => 1,
        },
        ("startsWith" | "endsWith" | "strings.quote" | "format", _) => traversed(size(0), TRAVERSAL),
        ("bytes", Some(Val::String(_))) | ("string", Some(Val::Bytes(_))) => traversed(size(0), TRAVERSAL),
        ("contains", _) => traversed(size(0), TRAVERSAL).saturating_mul(traversed(size(1), TRAVERSAL)),
        ("slice" | "lists.range", _) => allocating(result.size(), 1.0),
        ("reverse", Some(Val::List(_))) => allocating(result.size(), 1.0),
        ("flatten", _) => {
            let depth = match args.get(1) {
                Some(Val::Int(depth)) => *depth as f64,
                _ => 1.0,
            };
            allocating(size(0), depth)
        }
        ("distinct" | "sort", Some(Val::List(list))) => squared(list),
        ("@sortByAssociatedKeys", _) => match args.get(1) {
            Some(Val::List(keys)) => squared(keys),
            _ => 1,
        },
        ("sets.contains" | "sets.intersects", _) => size(0).saturating_mul(size(1)).saturating_add(1),
        ("sets.equivalent", _) => size(0).saturating_mul(size(1)).saturating_mul(2).saturating_add(1),
        _ => 1,
    }
}

/// Asking the authorizer is dear, so that an expression asks at most twice.
pub(super) const CHECK: u64 = 350_000;

/// A selector of so many characters is gone through, and its parts are made.
pub(super) fn selector(length: u64) -> u64 {
    let parts = length.div_ceil(2).saturating_mul(LIST + MESSAGE);
    LIST.saturating_add((length as f64 * TRAVERSAL).ceil() as u64).saturating_add(parts)
}

fn pattern(text: u64, pattern: u64) -> u64 {
    let text = ((1.0 + text as f64) * TRAVERSAL).ceil() as u64;
    text.saturating_mul((pattern as f64 * PATTERN).ceil() as u64)
}

fn contains(function: &str, range: &Val<'_>, other: Option<&Val<'_>>) -> u64 {
    let traversed = |size: u64| (size as f64 * TRAVERSAL).ceil() as u64;
    let mut cost = traversed(2 * range.size());
    if function == "containsCIDR" {
        cost += traversed(range.size()) + 1;
    }
    match other {
        Some(text @ Val::String(_)) => cost + traversed(text.size()),
        _ => cost,
    }
}

fn allocating(size: u64, factor: f64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

/// Every entry is held against every other.
fn squared(list: &List<'_>) -> u64 {
    let size = list.len() as u64;
    let factor = match list.get(0) {
        Ok(Val::String(_) | Val::Bytes(_)) => 2.0 + TRAVERSAL,
        _ => 2.0,
    };
    allocating(size.saturating_mul(size), factor)
}

/// A whole value is gone through. One that was made may hold the same list many times over, so that it is charged as it goes.
fn traverse(value: &Val<'_>, meter: &mut Meter) -> Result<(), Fault> {
    meter.work(16)?;
    match value {
        Val::String(text) => meter.charge((text.len() as f64 * TRAVERSAL) as u64),
        Val::Bytes(bytes) => meter.charge((bytes.len() as f64 * TRAVERSAL) as u64),
        // What does not fit its declaration costs as much as anything.
        Val::List(list) => list.iter().try_for_each(|entry| match entry {
            Ok(entry) => traverse(&entry, meter),
            Err(_) => meter.charge(1),
        }),
        Val::Map(map) => {
            meter.work(16 * map.len())?;
            let entries = map.entries().unwrap_or_default();
            entries.iter().try_for_each(|(key, value)| traverse(key, meter).and_then(|()| traverse(value, meter)))
        }
        _ => meter.charge(1),
    }
}
