//! What the status of a custom resource definition should say. Pure; the rules are upstream's naming, establishing, nonstructural-schema and
//! API-approval controllers (`apiextensions-apiserver/pkg/controller`).

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};
use troupe_api::{
    meta::{Object, time::format_time},
    resources::{
        tree::{at, items, text},
        validation::definition::approval_condition,
    },
};

/// The finalizer that keeps a definition until its objects are gone.
pub use troupe_api::resources::kinds::CLEANUP_FINALIZER;

/// Names that a definition has.
#[derive(Debug)]
pub struct Names {
    resources: Box<[Box<str>]>,
    kinds: Box<[Box<str>]>,
}

impl Names {
    /// Those of `acceptedNames`.
    pub fn of(names: &Value) -> Self {
        let single = ["plural", "singular"].map(|name| text(names, &[name]));
        let short = items(names, &["shortNames"]).iter().filter_map(Value::as_str);
        let kinds = ["kind", "listKind"].map(|name| text(names, &[name]));
        Names { resources: given(single.into_iter().chain(short)), kinds: given(kinds.into_iter()) }
    }
}

/// The names that are not empty.
fn given<'a>(names: impl Iterator<Item = &'a str>) -> Box<[Box<str>]> {
    names.filter(|name| !name.is_empty()).map(Box::from).collect()
}

/// Names that other definitions of the group have.
#[derive(Debug, Default)]
pub struct Taken {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

impl Taken {
    /// Takes in the accepted names of another definition.
    pub fn add(&mut self, names: &Names) {
        self.resources.extend(names.resources.iter().map(|name| String::from(&**name)));
        self.kinds.extend(names.kinds.iter().map(|name| String::from(&**name)));
    }
}

/// The status that a definition should have; `None` where it has it. `served` says whether its resource is.
pub fn status(definition: &Object, taken: &Taken, served: bool, now: Timestamp) -> Option<Value> {
    let before = definition.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
    let mut status = before.clone();
    let (names, faults) = names(definition, taken);
    let mut conditions = Conditions { list: items(&status, &["conditions"]).to_vec(), now };
    let accepted = faults.is_none();
    match faults {
        None => conditions.set("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
        Some((reason, message)) => conditions.set("NamesAccepted", "False", reason, &message),
    }
    if !conditions.is_true("Established") {
        match (accepted, served) {
            (true, true) => conditions.set("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"),
            (true, false) => conditions.set("Established", "False", "Installing", "the initial names have been accepted"),
            (false, _) => conditions.set("Established", "False", "NotAccepted", "not all names are accepted"),
        }
    }
    if definition.get(&["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        conditions.set("NonStructuralSchema", "True", "Violations", "spec.preserveUnknownFields: Invalid value: true: must be false");
    } else {
        conditions.remove("NonStructuralSchema");
    }
    match approval_condition(definition) {
        Some((status, reason, message)) => conditions.set("KubernetesAPIApprovalPolicyConformant", status, reason, &message),
        None => conditions.remove("KubernetesAPIApprovalPolicyConformant"),
    }
    status["acceptedNames"] = names;
    status["conditions"] = conditions.list.into();
    (status != before).then_some(status)
}

/// The names that are the definition's own from now on, and why not all that it asks for are.
fn names(definition: &Object, taken: &Taken) -> (Value, Option<(&'static str, String)>) {
    let empty = json!({"plural": "", "kind": ""});
    let wanted = definition.get(&["spec", "names"]).unwrap_or(&Value::Null);
    let mut names = definition.get(&["status", "acceptedNames"]).cloned().unwrap_or(empty);
    let mut fault = None;
    // In upstream's order: the last name that is taken is told of.
    for (name, conflict) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        fault = single(&mut names, wanted, name, &taken.resources).map(|why| (conflict, why)).or(fault);
    }
    let own: HashSet<&str> = items(&names, &["shortNames"]).iter().filter_map(Value::as_str).collect();
    let asked = items(wanted, &["shortNames"]).iter().filter_map(Value::as_str);
    let used: Vec<String> = asked.filter(|name| !own.contains(name) && taken.resources.contains(*name)).map(in_use).collect();
    match used.as_slice() {
        [] => set_or_remove(&mut names, "shortNames", at(wanted, &["shortNames"])),
        [one] => fault = Some(("ShortNamesConflict", one.clone())),
        several => fault = Some(("ShortNamesConflict", format!("[{}]", several.join(", ")))),
    }
    for (name, conflict) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        fault = single(&mut names, wanted, name, &taken.kinds).map(|why| (conflict, why)).or(fault);
    }
    set_or_remove(&mut names, "categories", at(wanted, &["categories"]));
    (names, fault)
}

/// Takes over the name that is asked for, unless somebody else has it: then says so.
fn single(names: &mut Value, wanted: &Value, name: &str, taken: &HashSet<String>) -> Option<String> {
    let asked = text(wanted, &[name]);
    if asked != text(names, &[name]) && taken.contains(asked) {
        return Some(in_use(asked));
    }
    set_or_remove(names, name, at(wanted, &[name]));
    None
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn set_or_remove(names: &mut Value, name: &str, value: &Value) {
    let Some(names) = names.as_object_mut() else { return };
    match value {
        Value::Null => drop(names.remove(name)),
        value => drop(names.insert(name.to_owned(), value.clone())),
    }
}

/// A definition's conditions, in the order in which they came.
pub struct Conditions {
    pub list: Vec<Value>,
    pub now: Timestamp,
}

impl Conditions {
    pub fn is_true(&self, kind: &str) -> bool {
        self.list.iter().any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == "True")
    }

    /// Sets a condition; its time changes with its status only.
    pub fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = format_time(self.now);
        let Some(known) = self.list.iter_mut().find(|condition| text(condition, &["type"]) == kind) else {
            self.list.push(json!({"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}));
            return;
        };
        if text(known, &["status"]) != status {
            known["status"] = status.into();
            known["lastTransitionTime"] = now.into();
        }
        known["reason"] = reason.into();
        known["message"] = message.into();
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| text(condition, &["type"]) != kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(status: Value) -> Object {
        let names = json!({"plural": "widgets", "singular": "widget", "shortNames": ["w"], "kind": "Widget", "listKind": "WidgetList"});
        let metadata = json!({"name": "widgets.example.com"});
        Object::from_value(json!({"metadata": metadata, "spec": {"group": "example.com", "names": names}, "status": status})).expect("an object")
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn told(status: &Value) -> Vec<String> {
        let condition = |one: &Value| format!("{}={} {}", text(one, &["type"]), text(one, &["status"]), text(one, &["reason"]));
        items(status, &["conditions"]).iter().map(condition).collect()
    }

    #[test]
    fn names_are_accepted_then_served_then_established_and_nothing_is_left_to_do() {
        let accepted = status(&definition(json!({})), &Taken::default(), false, now()).expect("a change");
        assert_eq!(told(&accepted), ["NamesAccepted=True NoConflicts", "Established=False Installing"]);
        assert_eq!(accepted["acceptedNames"]["shortNames"], json!(["w"]));
        assert_eq!(status(&definition(accepted.clone()), &Taken::default(), false, now()), None);
        let established = status(&definition(accepted), &Taken::default(), true, now()).expect("a change");
        assert_eq!(told(&established), ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]);
        assert_eq!(status(&definition(established), &Taken::default(), true, now()), None);
    }

    #[test]
    fn names_that_others_have_are_refused_and_own_ones_kept() {
        let mut taken = Taken::default();
        taken.add(&Names::of(&json!({"plural": "ws", "singular": "w", "kind": "Widget", "listKind": "WsList"})));
        let refused = status(&definition(json!({})), &taken, false, now()).expect("a change");
        assert_eq!(told(&refused), ["NamesAccepted=False KindConflict", "Established=False NotAccepted"]);
        assert_eq!(refused["conditions"][0]["message"], "\"Widget\" is already in use", "it comes after short names");
        assert_eq!(refused["acceptedNames"], json!({"plural": "widgets", "singular": "widget", "kind": "", "listKind": "WidgetList"}));
        let own = json!({"acceptedNames": {"plural": "widgets", "shortNames": ["w"], "kind": "Widget"}});
        assert_eq!(told(&status(&definition(own), &taken, false, now()).expect("a change"))[0], "NamesAccepted=True NoConflicts");
    }
}
