//! The status of a job: controllers of other makers may write it, so it is held to what clients rely on.
//!
//! Most rules hold only for what a write changes: a change of the spec may leave the rest behind for a moment.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    IMMUTABLE,
    job_policies::{bare, intervals},
    non_negative,
};
use crate::{
    meta::{Object, time::parse_time},
    resources::tree::{at, items, text},
    status::FieldError,
};

/// One version of a job's status.
struct Version<'a> {
    object: &'a Object,
    status: &'a Value,
}

impl<'a> Version<'a> {
    fn of(object: &'a Object) -> Self {
        Version { object, status: object.get(&["status"]).unwrap_or(&Value::Null) }
    }

    fn says(&self, kind: &str, state: &str) -> bool {
        let mut conditions = items(self.status, &["conditions"]).iter();
        conditions.any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == state)
    }

    fn is(&self, kind: &str) -> bool {
        self.says(kind, "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn count(&self, field: &str) -> i64 {
        at(self.status, &[field]).as_i64().unwrap_or(0)
    }

    fn spec(&self, field: &str) -> &Value {
        self.object.get(&["spec", field]).unwrap_or(&Value::Null)
    }

    fn has_no(&self, field: &str) -> bool {
        at(self.status, &[field]).is_null()
    }
}

/// What a write changes.
struct Changes<'a> {
    new: Version<'a>,
    old: Version<'a>,
}

impl Changes<'_> {
    fn of(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| at(self.new.status, &[field]) != at(self.old.status, &[field]))
    }

    fn of_conditions(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.new.is(kind) != self.old.is(kind))
    }

    fn of_finished(&self) -> bool {
        self.new.is_finished() != self.old.is_finished()
    }
}

/// Checks the status of a job.
pub fn job_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let changes = Changes { new: Version::of(new), old: Version::of(old) };
    let mut errors = Vec::new();
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        non_negative(&mut errors, changes.new.status, "status", field);
    }
    uncounted(&mut errors, changes.new.status);
    conditions(&mut errors, &changes);
    times(&mut errors, &changes);
    finished(&mut errors, &changes);
    indexes(&mut errors, &changes);
    counters(&mut errors, &changes);
    errors
}

fn uncounted(errors: &mut Vec<FieldError>, status: &Value) {
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        for (index, uid) in items(status, &["uncountedTerminatedPods", list]).iter().filter_map(Value::as_str).enumerate() {
            let field = format!("status.uncountedTerminatedPods.{list}[{index}]");
            if uid.is_empty() {
                errors.push(FieldError::invalid(field, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(field, uid));
            }
        }
    }
}

fn conditions(errors: &mut Vec<FieldError>, changes: &Changes<'_>) {
    const FIELD: &str = "status.conditions";
    let (new, old) = (&changes.new, &changes.old);
    let mut check = |applies: bool, wrong: bool, detail: &str| {
        if applies && wrong {
            errors.push(bare(FIELD, detail));
        }
    };
    let (complete, failed) = (new.is("Complete"), new.is("Failed"));
    let (met, target) = (new.is("SuccessCriteriaMet"), new.is("FailureTarget"));
    let changed = |kinds: &[&str]| changes.of_conditions(kinds);
    check(changed(&["Complete", "Failed"]), complete && failed, "cannot set Complete=True and Failed=true conditions");
    check(changed(&["Complete", "FailureTarget"]), complete && target, "cannot set Complete=True and FailureTarget=true conditions");
    let without = "cannot set Failed=True condition without the FailureTarget=true condition";
    check(changed(&["Failed"]) || changes.of(&["failedIndexes"]), failed && !target, without);
    let without = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
    check(changed(&["Complete", "SuccessCriteriaMet"]), complete && !met, without);
    check(true, met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    check(true, met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    let unless = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
    check(!new.spec("successPolicy").is_null(), complete && !met, unless);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        check(old.is(kind), !new.is(kind), &format!("cannot disable the terminal {kind}=True condition"));
    }
    check(old.is("SuccessCriteriaMet"), !met, "cannot disable the SuccessCriteriaMet=True condition");
    let late = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
    check(old.is("Complete") && !old.is("SuccessCriteriaMet"), met, late);
}

fn times(errors: &mut Vec<FieldError>, changes: &Changes<'_>) {
    let (new, old) = (&changes.new, &changes.old);
    let (start, completion) = (text(new.status, &["startTime"]), text(new.status, &["completionTime"]));
    if changes.of_conditions(&["Complete"]) || changes.of(&["completionTime"]) {
        if !completion.is_empty() && !new.is("Complete") {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid("status.completionTime", completion, detail));
        }
        if completion.is_empty() && new.is("Complete") {
            errors.push(FieldError::required("status.completionTime", "completionTime is required for Complete jobs"));
        }
    }
    let before = matches!((parse_time(start), parse_time(completion)), (Ok(start), Ok(completion)) if completion < start);
    if before && changes.of(&["startTime", "completionTime"]) {
        errors.push(FieldError::invalid("status.completionTime", completion, "must be equal to or after `startTime`"));
    }
    if !old.has_no("completionTime") && !completion.is_empty() && changes.of(&["completionTime"]) {
        errors.push(FieldError::invalid("status.completionTime", completion, IMMUTABLE));
    }
    let resumes = old.is("Suspended") && new.says("Suspended", "False");
    let suspended = new.spec("suspend").as_bool() == Some(true);
    if changes.of(&["startTime"]) && !old.has_no("startTime") && !resumes && !suspended {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(FieldError::invalid("status.startTime", at(new.status, &["startTime"]).clone(), detail));
    }
}

fn finished(errors: &mut Vec<FieldError>, changes: &Changes<'_>) {
    let new = &changes.new;
    if new.is_finished() {
        for field in ["active", "terminating"] {
            if new.count(field) > 0 && (changes.of_finished() || changes.of(&[field])) {
                let detail = format!("{field}>0 is invalid for finished job");
                errors.push(FieldError::invalid(format!("status.{field}"), new.count(field), detail));
            }
        }
        let never_ran = new.spec("suspend").as_bool() == Some(true) && new.spec("completions").as_i64() == Some(0);
        if new.has_no("startTime") && !never_ran && (changes.of_finished() || changes.of(&["startTime"])) {
            errors.push(FieldError::required("status.startTime", "startTime is required for finished job"));
        }
        let pods = at(new.status, &["uncountedTerminatedPods"]);
        let some = ["succeeded", "failed"].iter().any(|list| !items(pods, &[list]).is_empty());
        if some && (changes.of_finished() || changes.of(&["uncountedTerminatedPods"])) {
            errors.push(FieldError::invalid("status.uncountedTerminatedPods", pods.clone(), "must be empty for finished job"));
        }
    }
    if new.count("ready") > new.count("active") && changes.of(&["ready", "active"]) {
        errors.push(FieldError::invalid("status.ready", new.count("ready"), "cannot set more ready pods than active"));
    }
}

fn indexes(errors: &mut Vec<FieldError>, changes: &Changes<'_>) {
    let new = &changes.new;
    let (completed, failed) = (text(new.status, &["completedIndexes"]), text(new.status, &["failedIndexes"]));
    let per_index = !new.spec("backoffLimitPerIndex").is_null();
    if let Some(completions) = new.spec("completions").as_i64() {
        for (field, value, applies) in [("completedIndexes", completed, true), ("failedIndexes", failed, per_index)] {
            let wrong = intervals(value, completions).err().filter(|_| applies && changes.of(&[field]));
            if let Some(error) = wrong {
                errors.push(FieldError::invalid(format!("status.{field}"), value, format!("error parsing {field}: {error}")));
            }
        }
        if changes.of(&["completedIndexes", "failedIndexes"])
            && let Some(index) = overlap(completed, failed, completions)
        {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.push(FieldError::invalid("status.failedIndexes", failed, detail));
        }
    }
    if changes.of(&["completedIndexes"]) && !completed.is_empty() && new.spec("completionMode").as_str() != Some("Indexed") {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid("status.completedIndexes", completed, detail));
    }
    if changes.of(&["failedIndexes"]) && !new.has_no("failedIndexes") && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid("status.failedIndexes", failed, detail));
    }
}

fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let (completed, failed) = (intervals(completed, completions).ok()?, intervals(failed, completions).ok()?);
    let both = completed.iter().flat_map(|one| failed.iter().map(move |other| (one.0.max(other.0), one.1.min(other.1))));
    both.filter(|(first, last)| first <= last).map(|(first, _)| first).min()
}

fn counters(errors: &mut Vec<FieldError>, changes: &Changes<'_>) {
    let (new, old) = (&changes.new, &changes.old);
    // A job that shrinks loses the successes of indexes that it has no more.
    let shrinks = new.spec("completionMode").as_str() == Some("Indexed") && new.spec("completions") == new.spec("parallelism");
    for (field, fixed) in [("failed", true), ("succeeded", !shrinks)] {
        if fixed && new.count(field) < old.count(field) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(format!("status.{field}"), new.count(field), detail));
        }
    }
}
