//! Functions on lists: Kubernetes' and those of `cel-go/ext/lists.go`.

use std::{cmp::Ordering, collections::HashMap};

use super::{Context, Row};
use crate::expressions::{
    meter::{Fault, Meter},
    types::Identity,
    values::{Key, List, Val, compare, equal, key_of, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    (
        "isSorted",
        is_sorted,
        &[
            ("list_int_is_sorted_bool", "list(int).() -> bool"),
            ("list_uint_is_sorted_bool", "list(uint).() -> bool"),
            ("list_double_is_sorted_bool", "list(double).() -> bool"),
            ("list_bool_is_sorted_bool", "list(bool).() -> bool"),
            ("list_duration_is_sorted_bool", "list(duration).() -> bool"),
            ("list_timestamp_is_sorted_bool", "list(timestamp).() -> bool"),
            ("list_string_is_sorted_bool", "list(string).() -> bool"),
            ("list_bytes_is_sorted_bool", "list(bytes).() -> bool"),
        ],
    ),
    (
        "sum",
        sum,
        &[
            ("list_int_sum_int", "list(int).() -> int"),
            ("list_uint_sum_uint", "list(uint).() -> uint"),
            ("list_double_sum_double", "list(double).() -> double"),
            ("list_duration_sum_duration", "list(duration).() -> duration"),
        ],
    ),
    ("max", max, MOST),
    ("min", min, LEAST),
    ("slice", slice, &[("list_slice", "list(T).(int, int) -> list(T)")]),
    ("flatten", flatten, &[("list_flatten", "list(list(T)).() -> list(T)"), ("list_flatten_int", "list(dyn).(int) -> list(dyn)")]),
    (
        "sort",
        sort,
        &[
            ("list_int_sort", "list(int).() -> list(int)"),
            ("list_uint_sort", "list(uint).() -> list(uint)"),
            ("list_double_sort", "list(double).() -> list(double)"),
            ("list_bool_sort", "list(bool).() -> list(bool)"),
            ("list_duration_sort", "list(duration).() -> list(duration)"),
            ("list_timestamp_sort", "list(timestamp).() -> list(timestamp)"),
            ("list_string_sort", "list(string).() -> list(string)"),
            ("list_bytes_sort", "list(bytes).() -> list(bytes)"),
        ],
    ),
    ("lists.range", range, &[("lists_range", "(int) -> list(int)")]),
    ("reverse", reverse, &[("list_reverse", "list(T).() -> list(T)")]),
    ("distinct", distinct, &[("list_distinct", "list(T).() -> list(T)")]),
];

const MOST: &[(&str, &str)] = &[
    ("list_int_max_int", "list(int).() -> int"),
    ("list_uint_max_uint", "list(uint).() -> uint"),
    ("list_double_max_double", "list(double).() -> double"),
    ("list_bool_max_bool", "list(bool).() -> bool"),
    ("list_duration_max_duration", "list(duration).() -> duration"),
    ("list_timestamp_max_timestamp", "list(timestamp).() -> timestamp"),
    ("list_string_max_string", "list(string).() -> string"),
    ("list_bytes_max_bytes", "list(bytes).() -> bytes"),
];

const LEAST: &[(&str, &str)] = &[
    ("list_int_min_int", "list(int).() -> int"),
    ("list_uint_min_uint", "list(uint).() -> uint"),
    ("list_double_min_double", "list(double).() -> double"),
    ("list_bool_min_bool", "list(bool).() -> bool"),
    ("list_duration_min_duration", "list(duration).() -> duration"),
    ("list_timestamp_min_timestamp", "list(timestamp).() -> timestamp"),
    ("list_string_min_string", "list(string).() -> string"),
    ("list_bytes_min_bytes", "list(bytes).() -> bytes"),
];

type Ran<'a> = Result<Val<'a>, Fault>;

/// What an entry takes of memory, about.
const ENTRY: usize = 64;

fn list<'b, 'a>(args: &'b [Val<'a>]) -> Result<&'b List<'a>, Fault> {
    match args {
        [Val::List(list), ..] => Ok(list),
        _ => Err(no_overload()),
    }
}

/// The entries as values.
fn entries<'a>(list: &List<'a>, meter: &mut Meter) -> Result<Vec<Val<'a>>, Fault> {
    meter.allocate(ENTRY * list.len())?;
    list.iter().collect()
}

/// Two lists as one. Entries that are the same by the identity of the left one are there once.
///
/// # Errors
/// The document holds something else than was declared, or the meter's limit is reached.
pub fn joined<'a>(one: &List<'a>, other: &List<'a>, meter: &mut Meter) -> Ran<'a> {
    meter.allocate(ENTRY * (one.len() + other.len()))?;
    let mut made: Vec<Val<'a>> = one.iter().collect::<Result<_, _>>()?;
    match one.identity() {
        Identity::Place => {
            for entry in other.iter() {
                made.push(entry?);
            }
        }
        Identity::Value => {
            let mut known: HashMap<Option<Key<'a>>, ()> = made.iter().map(|entry| (Key::of(entry), ())).collect();
            for entry in other.iter() {
                let entry = entry?;
                if known.insert(Key::of(&entry), ()).is_none() {
                    made.push(entry);
                }
            }
        }
        Identity::Keys(keys) => {
            let mut places = HashMap::new();
            for (place, entry) in made.iter().enumerate() {
                places.insert(key_of(entry, keys, meter)?, place);
            }
            for entry in other.iter() {
                let entry = entry?;
                match places.get(&key_of(&entry, keys, meter)?) {
                    Some(place) => made[*place] = entry,
                    None => made.push(entry),
                }
            }
        }
    }
    Ok(Val::List(List::Made { entries: made.into(), identity: one.identity() }))
}

/// The place of the first entry that equals a value, or -1.
///
/// # Errors
/// The document holds something else than was declared, or the meter's limit is reached.
pub fn index_of<'a>(entries: impl Iterator<Item = (usize, Ran<'a>)>, wanted: &Val<'a>, meter: &mut Meter) -> Ran<'a> {
    for (at, entry) in entries {
        if equal(&entry?, wanted, meter)? {
            return Ok(Val::Int(i64::try_from(at).unwrap_or(i64::MAX)));
        }
    }
    Ok(Val::Int(-1))
}

fn is_sorted<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let mut before: Option<Val<'a>> = None;
    for entry in list(args)?.iter() {
        let entry = entry?;
        if let Some(before) = &before
            && compare(before, &entry, context.meter)? == Ordering::Greater
        {
            return Ok(Val::Bool(false));
        }
        before = Some(entry);
    }
    Ok(Val::Bool(true))
}

fn sum<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let mut total: Option<Val<'a>> = None;
    for entry in list(args)?.iter() {
        total = Some(match (total, entry?) {
            (None, entry) => entry,
            (Some(Val::Int(a)), Val::Int(b)) => Val::Int(a.checked_add(b).ok_or_else(|| Fault::error("integer overflow"))?),
            (Some(Val::Uint(a)), Val::Uint(b)) => Val::Uint(a.checked_add(b).ok_or_else(|| Fault::error("unsigned integer overflow"))?),
            (Some(Val::Double(a)), Val::Double(b)) => Val::Double(a + b),
            (Some(Val::Duration(a)), Val::Duration(b)) => Val::Duration(a.checked_add(b).ok_or_else(|| Fault::error("duration overflow"))?),
            _ => return Err(no_overload()),
        });
    }
    Ok(total.unwrap_or_else(|| zero(args)))
}

/// The sum of no entries, by what the list was declared to be of.
fn zero<'a>(args: &[Val<'a>]) -> Val<'a> {
    use crate::expressions::types::Type;
    match args {
        [Val::List(List::Document { of, .. })] => match of.ty {
            Type::Uint => Val::Uint(0),
            Type::Double => Val::Double(0.0),
            Type::Duration => Val::Duration(0),
            _ => Val::Int(0),
        },
        _ => Val::Int(0),
    }
}

fn best<'a>(args: &[Val<'a>], context: &mut Context<'_>, name: &str, wanted: Ordering) -> Ran<'a> {
    let mut best: Option<Val<'a>> = None;
    for entry in list(args)?.iter() {
        let entry = entry?;
        best = match best {
            Some(best) if compare(&entry, &best, context.meter)? != wanted => Some(best),
            _ => Some(entry),
        };
    }
    best.ok_or_else(|| Fault::error(format!("{name} called on empty list")))
}

fn max<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    best(args, context, "max", Ordering::Greater)
}

fn min<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    best(args, context, "min", Ordering::Less)
}

fn slice<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::List(list), Val::Int(start), Val::Int(end)] = args else { return Err(no_overload()) };
    let fault = |why: &str| Err(Fault::error(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else { return fault("negative indexes not supported") };
    if from > to {
        return fault("start index must be less than or equal to end index");
    }
    if list.len() < to {
        return fault(&format!("list is length {}", list.len()));
    }
    context.meter.allocate(ENTRY * (to - from))?;
    (from..to).map(|at| list.get(at)).collect::<Result<_, _>>().map(Val::list)
}

fn flatten<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let depth = match args.get(1) {
        None => 1,
        Some(Val::Int(depth)) => *depth,
        Some(_) => return Err(no_overload()),
    };
    let depth = usize::try_from(depth).map_err(|_| Fault::error("level must be non-negative"))?;
    let mut made = Vec::new();
    flattened(list(args)?, depth, &mut made, context.meter)?;
    Ok(Val::list(made))
}

/// Lists are within each other no deeper than documents and expressions are.
fn flattened<'a>(list: &List<'a>, depth: usize, made: &mut Vec<Val<'a>>, meter: &mut Meter) -> Result<(), Fault> {
    meter.allocate(ENTRY * list.len())?;
    for entry in list.iter() {
        match entry? {
            Val::List(inner) if depth > 0 => flattened(&inner, depth - 1, made, meter)?,
            other => made.push(other),
        }
    }
    Ok(())
}

fn sort<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let list = list(args)?;
    sorted_by(list, list, context.meter)
}

/// The entries of a list in the order of their keys.
///
/// # Errors
/// The keys have no order, or the meter's limit is reached.
pub fn sorted_by<'a>(list: &List<'a>, keys: &List<'a>, meter: &mut Meter) -> Ran<'a> {
    if list.len() != keys.len() {
        return Err(Fault::error(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let keys = entries(keys, meter)?;
    if keys.iter().any(|key| key.type_name() != keys[0].type_name()) {
        return Err(Fault::error("list elements must have the same type"));
    }
    let mut pairs: Vec<(Val<'a>, Val<'a>)> = keys.into_iter().zip(entries(list, meter)?).collect();
    let mut fault = None;
    pairs.sort_by(|(one, _), (other, _)| {
        if fault.is_some() {
            return Ordering::Equal;
        }
        compare(one, other, meter).unwrap_or_else(|found| {
            fault = Some(found);
            Ordering::Equal
        })
    });
    fault.map_or_else(|| Ok(Val::list(pairs.into_iter().map(|(_, entry)| entry).collect())), Err)
}

fn range<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::Int(count)] = args else { return Err(no_overload()) };
    context.meter.allocate(usize::try_from(*count).unwrap_or(0).saturating_mul(ENTRY))?;
    Ok(Val::list((0..*count).map(Val::Int).collect()))
}

fn reverse<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let mut made = entries(list(args)?, context.meter)?;
    made.reverse();
    Ok(Val::list(made))
}

fn distinct<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let mut made: Vec<Val<'a>> = Vec::new();
    let mut known: HashMap<Key<'a>, ()> = HashMap::new();
    for entry in entries(list(args)?, context.meter)? {
        // What can be a key is found at once, everything else is compared.
        let is_new = match Key::of(&entry) {
            Some(key) => known.insert(key, ()).is_none(),
            None => {
                let mut is_new = true;
                for other in &made {
                    if equal(&entry, other, context.meter)? {
                        is_new = false;
                        break;
                    }
                }
                is_new
            }
        };
        if is_new {
            made.push(entry);
        }
    }
    Ok(Val::list(made))
}
