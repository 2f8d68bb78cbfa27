//! Leases, and candidates for them.

use serde_json::Value;

use super::Field;
use crate::{
    meta::{Object, semver::SemanticVersion},
    status::FieldError,
};

/// The candidate of the oldest emulated version is chosen.
const OLDEST: &str = "OldestEmulationVersion";

/// Checks a lease.
pub fn lease(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null)), Vec::new());
    let (duration, transitions) = (spec.child("leaseDurationSeconds"), spec.child("leaseTransitions"));
    if duration.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    transitions.check_non_negative(&mut errors);
    let (strategy, preferred) = (spec.child("strategy"), spec.child("preferredHolder"));
    if strategy.is_set() {
        check_strategy(&mut errors, &strategy);
    }
    if !preferred.text().is_empty() && strategy.text().is_empty() {
        errors.push(preferred.forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}

/// How the holder is chosen among candidates. As upstream, the path names the field twice.
fn check_strategy(errors: &mut Vec<FieldError>, strategy: &Field<'_>) {
    let shown = strategy.child("strategy");
    let shown = shown.with(strategy.value);
    if strategy.text().contains('/') {
        shown.check_qualified(errors);
    } else {
        shown.check_supported(errors, &[OLDEST]);
    }
}

/// Checks a candidate.
pub fn candidate(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null)), Vec::new());
    let (name, strategy) = (spec.child("leaseName"), spec.child("strategy"));
    if name.text().is_empty() {
        errors.push(name.required(""));
    }
    let (emulated, binary) = (spec.child("emulationVersion"), spec.child("binaryVersion"));
    let emulation = version(&mut errors, &emulated);
    if binary.text().is_empty() {
        errors.push(binary.required(""));
    }
    let of_binary = version(&mut errors, &binary);
    if !binary.text().is_empty() && !emulated.text().is_empty() && of_binary < emulation {
        errors.push(binary.invalid("must be greater than or equal to `emulationVersion`"));
    }
    match strategy.text() {
        "" => errors.push(strategy.required("")),
        text => {
            if text == OLDEST && emulation.is_none_or(|emulation| emulation.is_zero()) {
                errors.push(emulated.required("must be specified when `strategy` is 'OldestEmulationVersion'"));
            }
            check_strategy(&mut errors, &strategy);
        }
    }
    errors
}

/// Checks the update of a candidate.
pub fn candidate_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = candidate(new);
    let (now, before) = (new.get(&["spec", "leaseName"]).unwrap_or(&Value::Null), old.get(&["spec", "leaseName"]).unwrap_or(&Value::Null));
    Field::root("spec.leaseName", now).check_unchanged(&mut errors, before);
    errors
}

/// A version, where one is said that is one.
fn version(errors: &mut Vec<FieldError>, field: &Field<'_>) -> Option<SemanticVersion> {
    let said = SemanticVersion::parse(field.text());
    if said.is_none() && !field.text().is_empty() {
        errors.push(field.invalid("must be a valid semantic version"));
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(spec: Value) -> Vec<String> {
        let object = Object::from_value(json!({ "spec": spec })).expect("an object");
        candidate(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_candidate_says_its_versions_and_how_to_choose() {
        let usual = json!({"leaseName": "l", "binaryVersion": "1.36.0", "emulationVersion": "1.35.0", "strategy": "OldestEmulationVersion"});
        let with = |field: &str, value: &str| {
            let mut spec = usual.clone();
            spec[field] = value.into();
            said(spec)
        };
        assert_eq!(said(usual.clone()), Vec::<String>::new());
        assert_eq!(with("strategy", "example.com/mine"), Vec::<String>::new());
        let emulation = "spec.emulationVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'";
        assert_eq!(
            said(json!({"strategy": "OldestEmulationVersion"})),
            ["spec.leaseName: Required value", "spec.binaryVersion: Required value", emulation]
        );
        assert_eq!(with("strategy", ""), ["spec.strategy: Required value"]);
        assert_eq!(
            with("binaryVersion", "1.34.0"),
            ["spec.binaryVersion: Invalid value: \"1.34.0\": must be greater than or equal to `emulationVersion`"]
        );
        assert_eq!(with("emulationVersion", "1.35"), ["spec.emulationVersion: Invalid value: \"1.35\": must be a valid semantic version", emulation]);
        assert_eq!(with("strategy", "Mine"), ["spec.strategy.strategy: Unsupported value: \"Mine\": supported values: \"OldestEmulationVersion\""]);
    }

    #[test]
    fn a_candidate_stays_with_its_lease() {
        let of = |lease: &str| {
            let spec = json!({"leaseName": lease, "binaryVersion": "1.36.0", "emulationVersion": "1.36.0", "strategy": "OldestEmulationVersion"});
            Object::from_value(json!({ "spec": spec })).expect("an object")
        };
        assert!(candidate_update(&of("a"), &of("a")).is_empty());
        let errors = candidate_update(&of("b"), &of("a"));
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["spec.leaseName: Invalid value: \"b\": field is immutable"]);
    }

    #[test]
    fn a_lease_lasts_and_counts_its_holders() {
        let spec = json!({"leaseDurationSeconds": 0, "leaseTransitions": -1, "strategy": "Mine", "preferredHolder": "b"});
        let errors = lease(&Object::from_value(json!({"spec": spec})).expect("an object"));
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                "spec.strategy.strategy: Unsupported value: \"Mine\": supported values: \"OldestEmulationVersion\"",
            ]
        );
        let errors = lease(&Object::from_value(json!({"spec": {"preferredHolder": "b"}})).expect("an object"));
        assert_eq!(errors[0].to_string(), "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined");
    }
}
