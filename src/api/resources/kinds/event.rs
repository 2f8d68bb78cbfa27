//! Events, stored in the core form and served by two groups.

use serde_json::Value;

use crate::{
    meta::{
        Clock, GroupVersion, Object,
        names::{self, NameRule},
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{name, since, string, wide},
        tree::fill,
        validation::event,
    },
    status::FieldError,
};

/// Field names in the core group and in events.k8s.io.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The rules of events; those of events.k8s.io are strict.
#[derive(Default)]
pub struct Event {
    is_strict: bool,
}

/// The rules of events in events.k8s.io.
pub fn strict_event() -> std::sync::Arc<dyn Strategy> {
    std::sync::Arc::new(Event { is_strict: true })
}

impl Strategy for Event {
    fn default_object(&self, object: &mut Object) {
        let root = object.root_mut();
        for (field, empty) in [("source", serde_json::json!({})), ("involvedObject", serde_json::json!({}))] {
            fill(root, field, empty);
        }
        for field in ["reportingComponent", "reportingInstance"] {
            root.entry(field).or_insert_with(|| "".into());
        }
        for field in ["eventTime", "firstTimestamp", "lastTimestamp"] {
            root.entry(field).or_insert(Value::Null);
        }
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn convert(&self, object: &mut Object, from: &GroupVersion, to: &GroupVersion) {
        if from.group == to.group {
            return;
        }
        let root = object.root_mut();
        for (core, events) in NAMES {
            let (old, new) = if to.group.is_empty() { (*events, *core) } else { (*core, *events) };
            if let Some(value) = root.remove(old) {
                root.insert(new.to_owned(), value);
            }
        }
        if !to.group.is_empty() {
            // The core group tells of who reports although it is nobody.
            for field in ["reportingController", "reportingInstance"] {
                if root.get(field).is_some_and(|text| text == "") {
                    root.remove(field);
                }
            }
        }
    }

    /// Events of the core group may have any name that an address can hold.
    fn name_rule(&self) -> NameRule {
        if self.is_strict { names::subdomain } else { names::path_segment }
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        if self.is_strict { event::strict_event(object) } else { event::event(object) }
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        if self.is_strict { event::strict_event_update(new, old) } else { event::event(new) }
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        if path == "source" {
            let component = object.str(&["source", "component"]);
            return Some(if component.is_empty() { object.str(&["reportingComponent"]) } else { component }.to_owned());
        }
        super::text_field(self, object, path)
    }

    fn field_path(&self, group: &str, label: &str) -> String {
        let (head, rest) = label.split_once('.').map_or((label, None), |(head, rest)| (head, Some(rest)));
        match NAMES.iter().find(|(_, events)| !group.is_empty() && *events == head) {
            Some((core, _)) => rest.map_or_else(|| (*core).to_owned(), |rest| format!("{core}.{rest}")),
            None => label.to_owned(),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let hidden_name = Column { priority: 1, ..name() };
        vec![
            string("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
            string("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
            string("Reason", "The reason for the transition into the object's current status."),
            string("Object", "The object that this event is about."),
            wide("Subobject", "The part of the object that the event is about."),
            wide("Source", "The component reporting this event."),
            string("Message", "A human-readable description of the status of this operation."),
            wide("First Seen", "The time at which the event was first recorded."),
            wide("Count", "The number of times this event has occurred."),
            hidden_name,
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let (first, last, count) = times(object, clock);
        let kind = object.str(&["involvedObject", "kind"]).to_lowercase();
        let target = match object.str(&["involvedObject", "name"]) {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        vec![
            last.into(),
            object.str(&["type"]).into(),
            object.str(&["reason"]).into(),
            target.into(),
            object.str(&["involvedObject", "fieldPath"]).into(),
            source(object).into(),
            object.str(&["message"]).trim().into(),
            first.into(),
            count.into(),
            object.name().into(),
        ]
    }
}

fn times(object: &Object, clock: &dyn Clock) -> (String, String, i64) {
    let first_of = |fields: &[&str]| fields.iter().map(|field| object.str(&[field])).find(|time| !time.is_empty()).unwrap_or("");
    let first = since(first_of(&["firstTimestamp", "eventTime"]), clock);
    if object.get(&["series"]).is_some_and(Value::is_object) {
        let last = since(object.str(&["series", "lastObservedTime"]), clock);
        return (first, last, object.int(&["series", "count"]).unwrap_or(0));
    }
    let last = match object.str(&["lastTimestamp"]) {
        "" => first.clone(),
        time => since(time, clock),
    };
    (first, last, object.int(&["count"]).filter(|count| *count != 0).unwrap_or(1))
}

fn source(object: &Object) -> String {
    let pick = |old: &[&str], new: &[&str]| match object.str(old) {
        "" => object.str(new).to_owned(),
        value => value.to_owned(),
    };
    let component = pick(&["source", "component"], &["reportingComponent"]);
    match pick(&["source", "host"], &["reportingInstance"]) {
        host if host.is_empty() => component,
        host => format!("{component}, {host}"),
    }
}
