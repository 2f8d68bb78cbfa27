//! When values are equal, and which comes first.

use std::{cmp::Ordering, collections::HashMap};

use serde_json::Value;

use super::{Key, List, Map, Val, no_overload};
use crate::expressions::{
    meter::{Fault, Meter},
    types::Identity,
};

/// Whether two values are equal. Values of different types are not, numbers of different types are by what they count.
///
/// # Errors
/// The document holds something else than was declared, or the meter's limit is reached.
pub fn equal<'a>(one: &Val<'a>, other: &Val<'a>, meter: &mut Meter) -> Result<bool, Fault> {
    meter.compare()?;
    meter.work(16 + one.bytes().min(other.bytes()))?;
    Ok(match (one, other) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Int(_) | Val::Uint(_) | Val::Double(_), Val::Int(_) | Val::Uint(_) | Val::Double(_)) => numbers(one, other) == Some(Ordering::Equal),
        (Val::String(a), Val::String(b)) => **a == **b,
        (Val::Bytes(a), Val::Bytes(b)) => a == b,
        (Val::Duration(a), Val::Duration(b)) => a == b,
        (Val::Timestamp(a), Val::Timestamp(b)) => a.at == b.at,
        (Val::List(a), Val::List(b)) => lists(a, b, meter)?,
        (Val::Map(a), Val::Map(b)) => maps(a, b, meter)?,
        (Val::Optional(a), Val::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b, meter)?,
            (None, None) => true,
            _ => false,
        },
        (Val::Type(a), Val::Type(b)) => a == b,
        (Val::Named(a), Val::Named(b)) => a == b,
        _ => false,
    })
}

/// The order of two numbers, whatever their types; `None` if there is none.
fn numbers(one: &Val<'_>, other: &Val<'_>) -> Option<Ordering> {
    let whole = |value: &Val<'_>| match value {
        Val::Int(value) => Some(i128::from(*value)),
        Val::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    let double = |value: &Val<'_>| match value {
        Val::Double(value) => Some(*value),
        _ => None,
    };
    match (whole(one), whole(other), double(one), double(other)) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (_, _, Some(a), Some(b)) => a.partial_cmp(&b),
        (Some(a), _, _, Some(b)) => beside_double(a, b),
        (_, Some(b), Some(a), _) => beside_double(b, a).map(Ordering::reverse),
        _ => None,
    }
}

fn beside_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Every whole number of 64 bits is within, so what saturates has the right order.
    let floor = double.floor() as i128;
    Some(whole.cmp(&floor).then(if double.fract() == 0.0 { Ordering::Equal } else { Ordering::Less }))
}

/// The order of two values.
///
/// # Errors
/// They have none.
pub fn compare(one: &Val<'_>, other: &Val<'_>, meter: &mut Meter) -> Result<Ordering, Fault> {
    meter.work(16 + one.bytes().min(other.bytes()))?;
    match (one, other) {
        (Val::Bool(a), Val::Bool(b)) => Ok(a.cmp(b)),
        (Val::Int(_) | Val::Uint(_) | Val::Double(_), Val::Int(_) | Val::Uint(_) | Val::Double(_)) => {
            numbers(one, other).ok_or_else(|| Fault::error("NaN values cannot be ordered"))
        }
        (Val::String(a), Val::String(b)) => Ok((**a).cmp(&**b)),
        (Val::Bytes(a), Val::Bytes(b)) => Ok(a.cmp(b)),
        (Val::Duration(a), Val::Duration(b)) => Ok(a.cmp(b)),
        (Val::Timestamp(a), Val::Timestamp(b)) => Ok(a.at.cmp(&b.at)),
        _ => Err(no_overload()),
    }
}

/// The left one says what makes entries the same.
fn lists<'a>(one: &List<'a>, other: &List<'a>, meter: &mut Meter) -> Result<bool, Fault> {
    if one.len() != other.len() {
        return Ok(false);
    }
    match one.identity() {
        Identity::Place => {
            for at in 0..one.len() {
                if !equal(&one.get(at)?, &other.get(at)?, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Identity::Value => {
            let known: Vec<Option<Key<'a>>> = one.iter().map(|entry| Ok(Key::of(&entry?))).collect::<Result<_, Fault>>()?;
            let known: HashMap<Option<Key<'a>>, ()> = known.into_iter().map(|key| (key, ())).collect();
            for entry in other.iter() {
                let entry = entry?;
                meter.compare()?;
                meter.work(16 + entry.bytes())?;
                if !known.contains_key(&Key::of(&entry)) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Identity::Keys(keys) => {
            let mut known = HashMap::with_capacity(one.len());
            for entry in one.iter() {
                let entry = entry?;
                known.insert(key_of(&entry, keys, meter)?, entry);
            }
            for entry in other.iter() {
                let entry = entry?;
                match known.get(&key_of(&entry, keys, meter)?) {
                    Some(mine) if equal(mine, &entry, meter)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
    }
}

/// The values of the key fields of an entry.
///
/// # Errors
/// The document holds something else than was declared, or the meter's limit is reached.
pub fn key_of<'a>(entry: &Val<'a>, keys: &[Box<str>], meter: &mut Meter) -> Result<Vec<Option<Key<'a>>>, Fault> {
    let Val::Map(map) = entry else { return Err(no_overload()) };
    meter.work(16 * keys.len())?;
    keys.iter().map(|key| Ok(map.field(&crate::expressions::escape(key).unwrap_or_default())?.and_then(|value| Key::of(&value)))).collect()
}

fn maps<'a>(one: &Map<'a>, other: &Map<'a>, meter: &mut Meter) -> Result<bool, Fault> {
    if one.len() != other.len() || is_message(one) != is_message(other) || is_message(one) && one.type_name() != other.type_name() {
        return Ok(false);
    }
    if let (Map::Object { entries, of }, Map::Object { entries: others, .. }) = (one, other) {
        // What nobody declared is compared as it stands.
        for (name, value) in *entries {
            let Some(theirs) = others.get(name) else { return Ok(false) };
            let same = match of.field(name).filter(|_| !value.is_null() && !theirs.is_null()) {
                Some(field) => equal(&super::from_json(value, field)?, &super::from_json(theirs, field)?, meter)?,
                None => same_document(value, theirs, meter)?,
            };
            if !same {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    for (key, value) in one.entries()? {
        match other.find(&key)? {
            Some(theirs) if equal(&value, &theirs, meter)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn is_message(map: &Map<'_>) -> bool {
    matches!(map, Map::Message(_))
}

fn same_document(one: &Value, other: &Value, meter: &mut Meter) -> Result<bool, Fault> {
    meter.compare()?;
    meter.work(16)?;
    match (one, other) {
        (Value::Array(a), Value::Array(b)) => {
            for (a, b) in a.iter().zip(b) {
                if !same_document(a, b, meter)? {
                    return Ok(false);
                }
            }
            Ok(a.len() == b.len())
        }
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in a {
                match b.get(name) {
                    Some(theirs) if same_document(value, theirs, meter)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(a.len() == b.len())
        }
        (Value::String(a), Value::String(b)) => meter.work(a.len().min(b.len())).map(|()| a == b),
        _ => Ok(one == other),
    }
}
