//! A value together with the path at which it stands: rules read the one, and their errors name the other.
//!
//! The path is written only when an error needs it.

use std::fmt;

use serde_json::Value;

use super::{IMMUTABLE, between};
use crate::{
    meta::names::{self, NameRule},
    resources::tree,
    status::{FieldError, FieldErrorKind},
};

/// A value at its path.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub value: &'a Value,
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root(&'a str),
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Root(path) => write!(f, "{path}"),
            Step::Child(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl From<Field<'_>> for String {
    fn from(field: Field<'_>) -> String {
        field.to_string()
    }
}

impl<'a> Field<'a> {
    /// A value that stands at a path.
    pub fn root(path: &'a str, value: &'a Value) -> Self {
        Field { value, parent: None, step: Step::Root(path) }
    }

    /// A field of an object; null where it is missing.
    pub fn child<'b>(&'b self, name: &'b str) -> Field<'b> {
        Field { value: tree::at(self.value, &[name]), parent: Some(self), step: Step::Child(name) }
    }

    /// An entry of a list; null where it is missing.
    pub fn index(&self, index: usize) -> Field<'_> {
        Field { value: self.value.get(index).unwrap_or(&Value::Null), parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of a map.
    pub fn key<'b>(&'b self, key: &'b str) -> Field<'b> {
        Field { value: tree::at(self.value, &[key]), parent: Some(self), step: Step::Key(key) }
    }

    /// Another value at the same path.
    pub fn with<'b>(&'b self, value: &'b Value) -> Field<'b> {
        Field { value, ..*self }
    }

    /// The entries of a list.
    pub fn each(&self) -> impl Iterator<Item = Field<'_>> {
        self.items().iter().enumerate().map(move |(index, value)| Field { value, parent: Some(self), step: Step::Index(index) })
    }

    /// The entries of a map.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Field<'_>)> {
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| (key.as_str(), Field { value, parent: Some(self), step: Step::Key(key) }))
    }

    pub fn items(&self) -> &'a [Value] {
        tree::items(self.value, &[])
    }

    /// The text, or "".
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    /// The integer, where there is one.
    pub fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The integer, or 0.
    pub fn int(&self) -> i64 {
        self.number().unwrap_or(0)
    }

    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// Whether it is there at all.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    pub fn required(&self, detail: impl Into<String>) -> FieldError {
        FieldError::required(*self, detail)
    }

    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(*self, detail)
    }

    /// Shows the value.
    pub fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(*self, self.value.clone(), detail)
    }

    /// Shows another value.
    pub fn invalid_as(&self, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(*self, value, detail)
    }

    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(*self, self.value.clone())
    }

    pub fn duplicate_as(&self, value: impl Into<Value>) -> FieldError {
        FieldError::duplicate(*self, value)
    }

    /// Shows the value as upstream writes it, field by field in the order of its type.
    pub fn duplicate_shown(&self, fields: &[(&str, Value)]) -> FieldError {
        let shown = fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect::<Vec<_>>().join(",");
        FieldError { kind: FieldErrorKind::Duplicate, field: self.to_string(), value: Some(format!("{{{shown}}}")), detail: String::new() }
    }

    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(*self, self.value.clone(), supported)
    }

    pub fn not_found(&self, detail: impl Into<String>) -> FieldError {
        FieldError { kind: FieldErrorKind::NotFound, field: self.to_string(), value: Some(self.value.to_string()), detail: detail.into() }
    }

    pub fn too_long(&self, most: usize) -> FieldError {
        FieldError::too_long(*self, most)
    }

    pub fn too_many(&self, most: usize) -> FieldError {
        FieldError::too_many(*self, self.items().len(), most)
    }

    /// An error for each message about the value.
    pub fn judge(&self, errors: &mut Vec<FieldError>, messages: Vec<String>) {
        errors.extend(messages.into_iter().map(|message| self.invalid_as(self.text(), message)));
    }

    /// A name, where there is one.
    pub fn check_name(&self, errors: &mut Vec<FieldError>, rule: NameRule) {
        if !self.text().is_empty() {
            self.judge(errors, rule(self.text(), false));
        }
    }

    /// A text that must be there.
    pub fn check_required(&self, errors: &mut Vec<FieldError>) {
        if self.text().is_empty() {
            errors.push(self.required(""));
        }
    }

    /// A name that must be there.
    pub fn check_required_name(&self, errors: &mut Vec<FieldError>, rule: NameRule) {
        self.check_required(errors);
        self.check_name(errors, rule);
    }

    /// A label key, or another name with an optional domain before it.
    pub fn check_qualified(&self, errors: &mut Vec<FieldError>) {
        self.judge(errors, names::qualified(self.text()));
    }

    /// What may not change.
    pub fn check_unchanged(&self, errors: &mut Vec<FieldError>, old: &Value) {
        if self.value != old {
            errors.push(self.invalid(IMMUTABLE));
        }
    }

    /// A text out of a set that must be there.
    pub fn check_one_of(&self, errors: &mut Vec<FieldError>, supported: &[&str]) {
        if self.text().is_empty() {
            errors.push(self.required(""));
        } else {
            self.check_supported(errors, supported);
        }
    }

    /// A text out of a set, where the field is there.
    pub fn check_supported(&self, errors: &mut Vec<FieldError>, supported: &[&str]) {
        if self.is_set() && !supported.contains(&self.text()) {
            errors.push(self.not_supported(supported));
        }
    }

    pub fn check_non_negative(&self, errors: &mut Vec<FieldError>) {
        if self.int() < 0 {
            errors.push(self.invalid("must be greater than or equal to 0"));
        }
    }

    /// A number within bounds, where there is one.
    pub fn check_between(&self, errors: &mut Vec<FieldError>, low: i64, high: i64) {
        if self.number().is_some_and(|number| !(low..=high).contains(&number)) {
            errors.push(self.invalid(between(low, high)));
        }
    }

    /// A port by number or name.
    pub fn check_port(&self, errors: &mut Vec<FieldError>) {
        match self.value {
            Value::String(name) => self.judge(errors, names::port_name(name)),
            _ if !(1..=65_535).contains(&self.int()) => errors.push(self.invalid_as(self.int(), between(1, 65_535))),
            _ => {}
        }
    }

    /// An IP address in a form that everybody reads alike.
    pub fn check_ip(&self, errors: &mut Vec<FieldError>) {
        super::address::address(errors, &self.to_string(), self.text());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_reads_as_upstream_writes_it() {
        let value = json!({"containers": [{"env": [{"name": "A"}]}], "limits": {"cpu": "1"}});
        let spec = Field::root("spec.template.spec", &value);
        let containers = spec.child("containers");
        let paths: Vec<String> = containers.each().map(|container| container.child("env").index(0).child("name").to_string()).collect();
        assert_eq!(paths, ["spec.template.spec.containers[0].env[0].name"]);
        assert_eq!(spec.child("limits").key("cpu").to_string(), "spec.template.spec.limits[cpu]");
        assert_eq!(spec.child("gone").child("deeper").index(3).value, &Value::Null);
    }
}
