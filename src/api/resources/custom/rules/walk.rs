//! One pass of rules over a value.

use serde_json::Value;

use super::{Junctors, MOST_ERRORS, MOST_STEPS, MOST_TEXT, Rules, bounds, embedded, type_name};
use crate::{
    meta::names,
    resources::custom::lists,
    schema::ListType,
    status::{FieldError, FieldErrorKind},
};

/// Everything that is wrong with a value that stands at `path`. What is wrong with a part that is as it was in `old` may stay
/// (`apiextensions-apiserver/pkg/apiserver/validation/ratcheting.go`), but for what objects within the object are; and lists may repeat
/// entries if the old value has any that do.
pub(super) fn check(rules: &Rules, value: &Value, old: Option<&Value>, path: String) -> Vec<FieldError> {
    let mut walk = Walk { path: path.clone(), steps: MOST_STEPS, text: MOST_TEXT, embedded: Vec::new(), repeated: Vec::new() };
    let mut errors = Vec::new();
    walk.value(rules, value, old, &mut errors);
    errors.append(&mut walk.embedded);
    if !walk.repeated.is_empty() && !old.is_some_and(|old| repeats(rules, old, path)) {
        errors.append(&mut walk.repeated);
    }
    if walk.text == 0 {
        errors.insert(0, FieldError::invalid("<nil>", "", "more is wrong than can be told"));
    } else if walk.steps == 0 {
        return vec![FieldError::invalid("<nil>", "", format!("validation takes more than {MOST_STEPS} steps"))];
    }
    errors.truncate(MOST_ERRORS);
    errors
}

/// Whether nothing changed at a place, as upstream tells (`CachedDeepEqual` of `k8s.io/apiserver/pkg/cel/common`): by what the schema knows.
/// An object with fields that it does not know, such as the metadata of all, never is what it was; entries with keys may stand elsewhere.
fn is_unchanged(rules: &Rules, value: &Value, old: &Value) -> bool {
    match (value, old) {
        (Value::Object(fields), Value::Object(before)) => {
            let is_kept = |(name, value): (&String, &Value)| match (rules.inner(name), before.get(name)) {
                (Some(rules), Some(old)) => is_unchanged(rules, value, old),
                _ => false,
            };
            fields.len() == before.len() && fields.iter().all(is_kept)
        }
        (Value::Array(entries), Value::Array(before)) if matches!(rules.list, ListType::Map(_)) => {
            let before_by_key = lists::by_key(&rules.list, before);
            let is_kept = |entry: &Value| {
                let old = lists::key(&rules.list, entry).and_then(|key| before_by_key.get(&key).copied());
                rules.items.as_deref().zip(old).is_some_and(|(items, old)| is_unchanged(items, entry, old))
            };
            entries.len() == before.len() && entries.iter().all(is_kept)
        }
        _ => value == old,
    }
}

/// Whether a list somewhere in a value has entries that must differ and do not.
fn repeats(rules: &Rules, value: &Value, path: String) -> bool {
    let mut walk = Walk { path, steps: MOST_STEPS, text: MOST_TEXT, embedded: Vec::new(), repeated: Vec::new() };
    walk.value(rules, value, None, &mut Vec::new());
    !walk.repeated.is_empty()
}

/// Floats from here on are no integers, whole as they are: not all integers have one (2^53).
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

struct Walk {
    path: String,
    steps: usize,
    /// What is wrong with objects within the object.
    embedded: Vec<FieldError>,
    /// Entries of lists that must differ and do not.
    repeated: Vec<FieldError>,
    /// Bytes that may still be said of what is wrong, also within alternatives of which another one may hold.
    text: usize,
}

impl Walk {
    fn value(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let known = errors.len();
        self.all(rules, value, old, errors);
        if errors.len() > known && old.is_some_and(|old| is_unchanged(rules, value, old)) {
            self.text += errors.drain(known..).map(|error| error.length()).sum::<usize>();
        }
    }

    fn all(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let cost = 1 + rules.bounds.as_ref().map_or(0, |bounds| bounds.cost(value));
        self.steps = self.steps.saturating_sub(cost);
        if self.steps == 0 || self.text == 0 || errors.len() > MOST_ERRORS {
            return;
        }
        let known = errors.len();
        let is_right = self.itself(rules, value, errors);
        self.take_text(&errors[known..]);
        if !is_right {
            return;
        }
        match value {
            Value::Object(_) => self.object(rules, value, old, errors),
            Value::Array(entries) => self.list(rules, entries, old, errors),
            _ => {}
        }
        if let Some(junctors) = &rules.junctors {
            self.junctors(junctors, value, errors);
        }
    }

    /// What is wrong with the value itself; whether it is of the right type, so that what is within matters.
    fn itself(&self, rules: &Rules, value: &Value, errors: &mut Vec<FieldError>) -> bool {
        let is_allowed = if value.is_null() { rules.nullable || rules.types == super::Types::default() } else { self.is_of_type(rules, value) };
        if !is_allowed {
            let format = rules.bounds.as_ref().map_or("", |bounds| bounds.told_format());
            errors.push(match value {
                Value::Bool(_) | Value::Number(_) | Value::Object(_) if !format.is_empty() => self.wrong_type(format, number_format(value)),
                _ => self.wrong_type(&rules.types.text(), type_name(value)),
            });
        }
        let is_integer = rules.types == super::Types::of("integer");
        if let Value::Number(number) = value
            && is_integer
        {
            errors.extend(bounds::outside(rules.bounds.as_ref().map_or("", |bounds| bounds.integer_format()), number, &self.path));
        }
        // Also a number that is no integer is held against the bounds of integers.
        let is_compared = if is_allowed { !value.is_null() } else { is_integer && value.is_number() };
        if let Some(bounds) = rules.bounds.as_ref().filter(|_| is_compared) {
            bounds.check(&self.path, value, errors);
        }
        is_allowed && !value.is_null()
    }

    fn take_text(&mut self, errors: &[FieldError]) {
        self.text = self.text.saturating_sub(errors.iter().map(FieldError::length).sum());
    }

    fn is_of_type(&self, rules: &Rules, value: &Value) -> bool {
        let (types, found) = (rules.types, type_name(value));
        let is_whole = || value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() < FIRST_INEXACT);
        types == super::Types::default()
            || types.has(found)
            || found == "integer" && types.has("number")
            || found == "number" && types.has("integer") && is_whole()
    }

    fn wrong_type(&self, wanted: &str, found: &str) -> FieldError {
        let detail = format!("{} in body must be of type {wanted}: {found:?}", self.path);
        FieldError { kind: FieldErrorKind::TypeInvalid, ..FieldError::invalid(self.path.as_str(), found, detail) }
    }

    fn object(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        if rules.embedded {
            self.embedded(value);
        }
        for (name, inner) in value.as_object().into_iter().flatten() {
            if let Some(rules) = rules.inner(name) {
                // Old and new objects are of the version that is asked for: what both say of themselves need not be what was sent before.
                let is_meant = self.path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind");
                let old = old.filter(|_| !is_meant).and_then(|old| old.get(name));
                let mark = self.enter(name);
                self.value(rules, inner, old, errors);
                self.path.truncate(mark);
            }
        }
        let known = errors.len();
        for name in rules.required.iter().filter(|name| value.get(&***name).is_none()) {
            let mark = self.enter(name);
            errors.push(FieldError::required(self.path.as_str(), ""));
            self.path.truncate(mark);
        }
        self.take_text(&errors[known..]);
    }

    fn list(&mut self, rules: &Rules, entries: &[Value], old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let mut repeated = Vec::new();
        lists::check(&rules.list, &self.path, entries, &mut repeated);
        self.take_text(&repeated);
        let room = MOST_ERRORS.saturating_sub(self.repeated.len());
        self.repeated.extend(repeated.into_iter().take(room));
        let Some(items) = &rules.items else { return };
        let before = lists::by_key(&rules.list, old.and_then(Value::as_array).map_or(&[], Vec::as_slice));
        for (index, entry) in entries.iter().enumerate() {
            let mark = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            let old = lists::key(&rules.list, entry).and_then(|key| before.get(&key).copied());
            self.value(items, entry, old, errors);
            self.path.truncate(mark);
        }
    }

    /// An object within the object says what it is.
    fn embedded(&mut self, value: &Value) {
        let mut errors = Vec::new();
        for name in ["apiVersion", "kind"] {
            let mark = self.enter(name);
            match value.get(name) {
                None => errors.push(FieldError::required(self.path.as_str(), "")),
                Some(Value::String(text)) if text.is_empty() => errors.push(FieldError::invalid(self.path.as_str(), "", "must not be empty")),
                Some(Value::String(text)) if name == "kind" => {
                    let faults = names::dns_1035_label(&text.to_lowercase(), false);
                    if !faults.is_empty() {
                        let detail = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
                        errors.push(FieldError::invalid(self.path.as_str(), text.as_str(), detail));
                    }
                }
                Some(Value::String(text)) if text.matches('/').count() > 1 => {
                    errors.push(FieldError::invalid(self.path.as_str(), text.as_str(), format!("unexpected GroupVersion string: {text}")));
                }
                Some(Value::String(_)) => {}
                Some(other) => errors.push(FieldError::invalid(self.path.as_str(), other.clone(), "must be a string")),
            }
            self.path.truncate(mark);
        }
        if let Some(metadata) = value.get("metadata").filter(|metadata| !metadata.is_null()) {
            errors.extend(embedded::metadata(metadata, &format!("{}.metadata", self.path)));
        }
        self.take_text(&errors);
        let room = MOST_ERRORS.saturating_sub(self.embedded.len());
        self.embedded.extend(errors.into_iter().take(room));
    }

    fn junctors(&mut self, junctors: &Junctors, value: &Value, errors: &mut Vec<FieldError>) {
        if !junctors.any.is_empty() {
            let failures = self.failures(&junctors.any, value, 1);
            if failures.valid == 0 {
                errors.push(self.fault("must validate at least one schema (anyOf)"));
                errors.extend(failures.best);
            }
        }
        if !junctors.one.is_empty() {
            let failures = self.failures(&junctors.one, value, usize::MAX);
            if failures.valid != 1 {
                let found = if failures.valid == 0 { "Found none valid".to_owned() } else { format!("Found {} valid alternatives", failures.valid) };
                errors.push(self.fault(&format!("must validate one and only one schema (oneOf). {found}")));
                errors.extend(failures.best);
            }
        }
        let (before, mut failed) = (errors.len(), 0);
        for rules in &junctors.all {
            let known = errors.len();
            // Parts of alternatives are not held against the old object.
            self.value(rules, value, None, errors);
            failed += usize::from(errors.len() > known);
        }
        if failed > 0 {
            let none = if failed == junctors.all.len() { ". None validated" } else { "" };
            let fault = self.fault(&format!("must validate all the schemas (allOf){none}"));
            errors.insert(before, fault);
        }
        if let Some(not) = &junctors.not {
            let mut inner = Vec::new();
            self.value(not, value, None, &mut inner);
            if inner.is_empty() {
                errors.push(self.fault("must not validate the schema (not)"));
            }
        }
    }

    fn failures(&mut self, alternatives: &[Rules], value: &Value, enough: usize) -> Failures {
        let mut failures = Failures { valid: 0, best: Vec::new() };
        for rules in alternatives {
            let mut errors = Vec::new();
            self.value(rules, value, None, &mut errors);
            if errors.is_empty() {
                failures.valid += 1;
                failures.best.clear();
                if failures.valid == enough {
                    break;
                }
            } else if failures.valid == 0 && (failures.best.is_empty() || errors.len() < failures.best.len()) {
                failures.best = errors;
            }
        }
        failures
    }

    fn fault(&mut self, what: &str) -> FieldError {
        let fault = FieldError::invalid("<nil>", "", format!("{:?} {what}", self.path));
        self.take_text(std::slice::from_ref(&fault));
        fault
    }

    /// Extends the path by a field; returns the length to cut back to.
    fn enter(&mut self, name: &str) -> usize {
        let mark = self.path.len();
        if mark > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        mark
    }
}

/// The format of a number as upstream infers it; nothing else has one.
fn number_format(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        _ => "",
    }
}

struct Failures {
    valid: usize,
    /// The errors of the alternative that has the fewest of them.
    best: Vec<FieldError>,
}
