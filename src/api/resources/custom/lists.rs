//! Entries of lists that must differ: those of sets, and of lists of objects with keys.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::{schema::ListType, status::FieldError};

/// The faults of a list at `path`, whose entries `list` tells apart. Each entry is told of once, where it comes the second time.
pub(super) fn check(list: &ListType, path: &str, entries: &[Value], errors: &mut Vec<FieldError>) {
    match list {
        ListType::Atomic => {}
        ListType::Set => duplicates(path, entries, errors, |entry| Some((entry.to_string(), entry.clone()))),
        ListType::Map(keys) => {
            if let Some((index, odd)) = entries.iter().enumerate().find(|(_, entry)| !(entry.is_object() || entry.is_null())) {
                errors.push(FieldError::invalid(format!("{path}[{index}]"), odd.clone(), "must be an object for an array of list-type map"));
                return;
            }
            duplicates(path, entries, errors, |entry| {
                let key = keys_of(keys, entry);
                Some((key.to_string(), key))
            });
        }
    }
}

fn keys_of(keys: &[Box<str>], entry: &Value) -> Value {
    Value::Object(keys.iter().filter_map(|key| Some((key.to_string(), entry.get(&**key)?.clone()))).collect::<Map<_, _>>())
}

/// What tells an entry of a list of objects with keys from the others; nothing in other lists, and where a key is missing.
pub(super) fn key(list: &ListType, entry: &Value) -> Option<String> {
    let ListType::Map(keys) = list else { return None };
    keys.iter().all(|key| entry.get(&**key).is_some()).then(|| keys_of(keys, entry).to_string())
}

/// The entries of a list of objects with keys.
pub(super) fn by_key<'a>(list: &ListType, entries: &'a [Value]) -> HashMap<String, &'a Value> {
    entries.iter().filter_map(|entry| Some((key(list, entry)?, entry))).collect()
}

fn duplicates(path: &str, entries: &[Value], errors: &mut Vec<FieldError>, identity: impl Fn(&Value) -> Option<(String, Value)>) {
    if entries.len() < 2 {
        return;
    }
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let Some((identity, shown)) = identity(entry) else { continue };
        let times = seen.entry(identity).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), shown));
        }
    }
}
