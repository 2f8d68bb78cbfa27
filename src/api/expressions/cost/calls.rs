//! The estimated costs of calls, by function and overload.

use super::{
    Estimate, LIST, PATTERN, TRAVERSAL, actual,
    known::{Known, Within},
};
use crate::expressions::types::{CIDR, FORMAT, IP, QUANTITY, SEMVER, Type, URL};

/// The cost of a call with that of its arguments, and the size of its result.
pub(super) struct CallCost {
    pub cost: Estimate,
    pub size: Option<Estimate>,
}

/// Estimates a call of one overload. The cost of the target is not in it.
pub(super) fn cost(function: &str, overload: &str, target: Option<&Known>, args: &[Known]) -> CallCost {
    let sum = args.iter().fold(Estimate::fixed(0), |sum, arg| sum.plus(arg.cost));
    let found = list_function(overload, target, args).or_else(|| library(function, overload, target, args));
    if let Some((cost, size)) = found {
        return CallCost { cost: cost.plus(sum), size };
    }
    standard(overload, target, args, sum)
}

/// The sizes of what is in the result.
pub(super) fn within(function: &str, args: &[Known]) -> Option<Within> {
    match (function, args) {
        ("_?_:_", [_, one, other]) | ("_+_", [one, other]) => Some(one.within?.or(other.within?)),
        _ => None,
    }
}

/// Sorting so many entries by keys.
pub(super) fn sorting(count: Estimate) -> Estimate {
    count.times(count).by(2.0).plus(Estimate::fixed(1 + LIST))
}

type Found = Option<(Estimate, Option<Estimate>)>;

fn allocating(factor: f64, size: Estimate) -> Found {
    Some((size.by(factor).plus(Estimate::fixed(1 + LIST)), Some(size)))
}

/// Functions of `cel-go/ext/lists.go` and `sets.go`.
fn list_function(overload: &str, target: Option<&Known>, args: &[Known]) -> Found {
    if let ("list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list", [one, other]) = (overload, args) {
        let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
        return Some((one.size().times(other.size()).by(factor).plus(Estimate::fixed(1)), None));
    }
    if overload == "lists_range" {
        return allocating(1.0, Estimate::fixed(args.first()?.integer_or(u64::MAX)));
    }
    let size = target?.size();
    match overload {
        "list_slice" => {
            let (start, end) = (args.first()?.integer_or(0), args.get(1)?.integer_or(size.most));
            // An end before the start is an error, which costs nothing.
            allocating(1.0, Estimate::fixed(end.saturating_sub(start)))
        }
        "list_reverse" => allocating(1.0, size),
        "list_flatten" => allocating(1.0, size),
        "list_flatten_int" => allocating(args.first()?.integer_or(u64::MAX) as f64, size),
        "list_distinct" => allocating(2.0, size.times(size)),
        "list_string_sort" | "list_bytes_sort" => allocating(2.0 + TRAVERSAL, size.times(size)),
        _ if overload.starts_with("list_") && overload.ends_with("_sort") => allocating(2.0, size.times(size)),
        _ => None,
    }
}

/// Functions of Kubernetes, and those of `cel-go/ext/strings.go` that it has figures for.
fn library(function: &str, overload: &str, target: Option<&Known>, args: &[Known]) -> Found {
    let one = || Some((Estimate::fixed(1), None));
    let first = || args.first().map(Known::size);
    match function {
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => over_entries(target?),
        "url" => first().map(|size| (size.by(TRAVERSAL), Some(size))),
        "check" => Some((Estimate::fixed(actual::CHECK), None)),
        "fieldSelector" | "labelSelector" => {
            let size = first()?;
            Some((Estimate::new(actual::selector(size.least), actual::selector(size.most)), None))
        }
        "jsonpatch.escapeKey" => first().map(|size| (size.by(TRAVERSAL), None)),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            let size = target?.size();
            Some((size.by(TRAVERSAL), Some(size)))
        }
        "replace" => {
            let size = target?.size();
            Some((size.by(2.0 * TRAVERSAL), Some(replaced(size, first()?, args.get(1)?.size()))))
        }
        "split" => {
            let size = target?.size();
            let most = args.get(1).and_then(|limit| limit.integer).map_or(size.most, |limit| limit as u64);
            Some((size.by(2.0 * TRAVERSAL), Some(Estimate::new(0, most))))
        }
        "join" => joined(target?, args),
        "find" | "findAll" => {
            let size = target?.size();
            let text = size.plus(Estimate::fixed(1)).by(TRAVERSAL);
            Some((text.times(first()?.by(PATTERN)), Some(Estimate::new(0, size.most))))
        }
        "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => first().map(|size| (size.by(TRAVERSAL), None)),
        "ip" if overload == "cidr_ip" => one(),
        "ip" => first().map(|size| (size.by(TRAVERSAL), None)),
        "ip.isCanonical" => first().map(|size| (size.by(2.0 * TRAVERSAL), None)),
        "containsIP" | "containsCIDR" => {
            let address = Estimate::new(4, 16);
            let mut cost = address.plus(address).by(TRAVERSAL);
            if function == "containsCIDR" {
                cost = cost.plus(address.by(TRAVERSAL)).plus(Estimate::fixed(1));
            }
            if overload.ends_with("_string") {
                cost = cost.plus(first()?.by(TRAVERSAL));
            }
            Some((cost, None))
        }
        "validate" => first().map(|size| (size.by(TRAVERSAL).by(128.0 * PATTERN), None)),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => one(),
        "_==_" => equality_of_named(args),
        _ => None,
    }
}

fn equality_of_named(args: &[Known]) -> Found {
    let [one, other] = args else { return None };
    match &one.ty {
        ty if *ty != other.ty => None,
        ty if [IP, CIDR, QUANTITY, SEMVER].contains(ty) => Some((Estimate::fixed(1), None)),
        ty if *ty == FORMAT => Some((Estimate::new(1, 64).by(TRAVERSAL), None)),
        ty if *ty == URL => Some((Estimate::new(1, other.size.map_or(1, |size| size.most)).by(TRAVERSAL), None)),
        _ => None,
    }
}

/// A function that looks at every entry of a list, or at a whole text.
fn over_entries(target: &Known) -> Found {
    let Some(items) = target.items else { return Some((target.size().by(TRAVERSAL), None)) };
    let is_text = matches!(&target.ty, Type::List(of) if matches!(**of, Type::String | Type::Bytes));
    let entry = if is_text { Estimate::fixed(1).plus(items.by(TRAVERSAL)) } else { Estimate::fixed(1) };
    Some((target.size().times(entry), None))
}

/// The size of a text in which parts were replaced.
fn replaced(size: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let ratio = |whole: u64, part: u64| (whole as f64 / part as f64).ceil() as u64;
    let (mut count, mut kept) = (Estimate::fixed(0), Estimate::fixed(0));
    if old.least == 0 {
        (count.most, kept.most) = (size.most.saturating_add(1), size.most);
    } else if new.most <= old.least {
        kept.most = size.most;
    } else {
        count.most = ratio(size.most, old.least);
    }
    if old.most == 0 {
        (count.least, kept.least) = (size.least.saturating_add(1), size.least);
    } else if old.most <= new.least {
        kept.least = size.least;
    } else {
        count.least = ratio(size.least, old.most);
    }
    count.times(new).plus(kept)
}

fn joined(target: &Known, args: &[Known]) -> Found {
    let list = target.size();
    let mut size = target.items.map_or(Estimate::fixed(0), |items| list.times(items));
    if let Some(separator) = args.first() {
        size = size.plus(separator.size().times(Estimate::new(list.least.saturating_sub(1), list.most.saturating_sub(1))));
    }
    Some((size.by(TRAVERSAL), Some(size)))
}

/// The functions of the language itself.
fn standard(overload: &str, target: Option<&Known>, args: &[Known], sum: Estimate) -> CallCost {
    let plain = |cost: Estimate| CallCost { cost: cost.plus(sum), size: None };
    let sized = |cost: Estimate, size: Estimate| CallCost { cost: cost.plus(sum), size: Some(size) };
    let on = |known: Option<&Known>| known.map_or(Estimate::UNKNOWN, Known::size);
    let (first, second) = (on(args.first()), on(args.get(1)));
    match overload {
        "string_format" => plain(on(target).by(TRAVERSAL)),
        "string_to_bytes" => sized(first.by(TRAVERSAL), Estimate::new(first.least, first.most.saturating_mul(4))),
        "bytes_to_string" => sized(first.by(TRAVERSAL), Estimate::new(first.least / 4, first.most)),
        "strings_quote" => sized(first.by(TRAVERSAL), Estimate::new(first.least.saturating_add(2), first.most.saturating_mul(2).saturating_add(2))),
        "starts_with_string" | "ends_with_string" => plain(first.by(TRAVERSAL)),
        "in_list" => plain(second),
        "matches_string" => plain(on(target).plus(Estimate::fixed(1)).by(TRAVERSAL).times(first.by(PATTERN))),
        "contains_string" => plain(on(target).by(TRAVERSAL).times(first.by(TRAVERSAL))),
        "logical_and" | "logical_or" => {
            let least = args.first().map_or(0, |arg| arg.cost.least);
            CallCost { cost: Estimate::new(least, sum.most), size: None }
        }
        "conditional" => {
            let [condition, yes, no] = args else { return plain(Estimate::fixed(1)) };
            CallCost { cost: condition.cost.plus(yes.cost.or(no.cost)), size: Some(yes.size().or(no.size())) }
        }
        "add_list" => sized(Estimate::fixed(1), first.plus(second)),
        "add_string" | "add_bytes" => sized(first.plus(second).by(TRAVERSAL), first.plus(second)),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => {
            let most = first.most.min(second.most);
            plain(Estimate::new(u64::from(most > 0), most).by(TRAVERSAL))
        }
        _ => plain(Estimate::fixed(1)),
    }
}
