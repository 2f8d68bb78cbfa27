//! `metadata.managedFields`: reading, writing and capping its entries.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::set::FieldSet;
use crate::meta::{
    Object,
    time::{format_time, parse_time},
};

/// How a manager came to own fields. Applied fields are removed when the manager no longer applies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What tells entries apart. An applier has one entry whatever version it speaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey {
    pub manager: String,
    pub operation: Operation,
    /// Empty for appliers.
    pub api_version: String,
    pub subresource: String,
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub api_version: String,
    pub time: Option<Timestamp>,
    pub fields: FieldSet,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagedFields {
    pub entries: BTreeMap<EntryKey, Entry>,
}

/// Upstream keeps no more entries of updates than this.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

impl EntryKey {
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        EntryKey {
            manager: if manager.is_empty() { "unknown".into() } else { manager.into() },
            operation,
            api_version: if operation == Operation::Apply { String::new() } else { api_version.into() },
            subresource: subresource.into(),
        }
    }
}

impl ManagedFields {
    /// Reads an object's entries; `None` where one of them is malformed.
    pub fn read(object: &Object) -> Option<Self> {
        let mut managed = ManagedFields::default();
        for entry in object.list(&["metadata", "managedFields"]) {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let fields = entry.get("fieldsV1").map_or_else(|| Some(FieldSet::default()), FieldSet::from_fields)?;
            let key = EntryKey::new(text("manager"), operation, text("apiVersion"), text("subresource"));
            managed.entries.insert(key, Entry { api_version: text("apiVersion").into(), time: parse_time(text("time")).ok(), fields });
        }
        Some(managed)
    }

    /// Writes the entries into an object, in upstream's order.
    pub fn write(&self, object: &mut Object) {
        let mut entries = self.entries.iter().collect::<Vec<_>>();
        entries.sort_by_key(|(key, entry)| (key.operation, seconds(entry.time), &key.manager, &entry.api_version, &key.subresource));
        if entries.is_empty() {
            object.remove(&["metadata", "managedFields"]);
            return;
        }
        let encoded = entries.into_iter().map(|(key, entry)| encode(key, entry)).collect::<Vec<_>>();
        object.set(&["metadata", "managedFields"], encoded);
    }

    /// Folds the oldest updates of each version into one entry while there are too many.
    pub fn cap(&mut self) {
        let mut updates =
            self.entries.iter().filter(|(key, _)| key.operation == Operation::Update).map(|(key, entry)| (seconds(entry.time), key.clone()));
        let mut updates: Vec<_> = updates.by_ref().collect();
        updates.sort();
        let mut count = updates.len();
        let mut first_of_version = BTreeMap::<String, EntryKey>::new();
        for (_, key) in updates {
            if count <= MAX_UPDATE_MANAGERS {
                return;
            }
            let version = key.api_version.clone();
            let Some(first) = first_of_version.get(&version).cloned() else {
                first_of_version.insert(version, key);
                continue;
            };
            let bucket = EntryKey::new(ANCIENT, Operation::Update, &version, "");
            if !self.entries.contains_key(&bucket)
                && let Some(entry) = self.entries.remove(&first)
            {
                self.entries.insert(bucket.clone(), entry);
            }
            if key == bucket {
                continue;
            }
            if let Some(entry) = self.entries.remove(&key)
                && let Some(ancient) = self.entries.get_mut(&bucket)
            {
                ancient.fields.extend(&entry.fields);
                ancient.time = entry.time;
                count -= 1;
            }
        }
    }

    /// Takes from all entries but `except` what `fields` has for their version; entries that are left with nothing go.
    pub fn take<'f>(&mut self, except: Option<&EntryKey>, fields: impl Fn(&str) -> Option<&'f FieldSet>) {
        for (key, entry) in &mut self.entries {
            if Some(key) == except {
                continue;
            }
            if let Some(fields) = fields(&entry.api_version) {
                entry.fields = entry.fields.difference(fields);
            }
        }
        self.entries.retain(|_, entry| !entry.fields.is_empty());
    }
}

fn seconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_second)
}

fn encode(key: &EntryKey, entry: &Entry) -> Value {
    let mut value = json!({
        "manager": key.manager, "operation": key.operation.name(), "apiVersion": entry.api_version,
        "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_fields(),
    });
    if let Some(time) = entry.time {
        value["time"] = format_time(time).into();
    }
    if !key.subresource.is_empty() {
        value["subresource"] = key.subresource.clone().into();
    }
    value
}
