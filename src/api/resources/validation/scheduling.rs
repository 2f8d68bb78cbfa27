//! Workloads and pod groups (`pkg/apis/scheduling/validation`, and what upstream declares beside their fields). Fields whose features this
//! server does not have never come here: they are dropped before.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Field, IMMUTABLE, conditions::conditions};
use crate::{
    meta::{
        Object,
        names::{label, path_segment, subdomain},
    },
    status::FieldError,
};

/// How many templates a workload may have.
const MOST_TEMPLATES: usize = 8;

/// Checks a new workload.
pub fn workload(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = spec_of(object);
    let owner = spec.child("controllerRef");
    if owner.is_set() {
        owner.child("apiGroup").check_name(&mut errors, subdomain);
        owner.child("kind").check_required_name(&mut errors, path_segment);
        owner.child("name").check_required_name(&mut errors, path_segment);
    }
    templates(&mut errors, &spec.child("podGroupTemplates"));
    errors
}

/// Checks an update of a workload: what it says is for good.
pub fn workload_update(new: &Object, old: &Object) -> Vec<FieldError> {
    unchanged(new, old, &["controllerRef", "podGroupTemplates"])
}

/// Checks a new group.
pub fn pod_group(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = spec_of(object);
    let reference = spec.child("podGroupTemplateRef");
    if reference.is_set() {
        let workload = reference.child("workload");
        if workload.is_set() {
            workload.child("workloadName").check_required_name(&mut errors, subdomain);
            workload.child("podGroupTemplateName").check_required_name(&mut errors, label);
        } else {
            errors.push(reference.invalid_as("", "must specify one of: `workload`"));
        }
    }
    policy(&mut errors, &spec.child("schedulingPolicy"));
    errors
}

/// Checks an update of a group: what it says is for good.
pub fn pod_group_update(new: &Object, old: &Object) -> Vec<FieldError> {
    unchanged(new, old, &["podGroupTemplateRef", "schedulingPolicy"])
}

/// Checks an update of a group's status.
pub fn pod_group_status(new: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::root("status", new.get(&["status"]).unwrap_or(&Value::Null));
    conditions(&mut errors, &status.child("conditions"));
    errors
}

fn spec_of(object: &Object) -> Field<'_> {
    Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null))
}

fn unchanged(new: &Object, old: &Object, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (spec, before) = (spec_of(new), spec_of(old));
    for field in fields {
        let now = spec.child(field);
        if now.value != before.child(field).value {
            errors.push(now.invalid_as(Value::Null, IMMUTABLE));
        }
    }
    errors
}

fn templates(errors: &mut Vec<FieldError>, templates: &Field<'_>) {
    match templates.items().len() {
        0 => return errors.push(templates.required("")),
        1..=MOST_TEMPLATES => {}
        _ => return errors.push(templates.too_many(MOST_TEMPLATES)),
    }
    let mut seen = BTreeSet::new();
    for template in templates.each() {
        let name = template.child("name");
        if !seen.insert(name.text().to_owned()) {
            errors.push(template.duplicate());
        }
        name.check_required_name(errors, label);
        policy(errors, &template.child("schedulingPolicy"));
    }
}

/// A group is scheduled in one way.
fn policy(errors: &mut Vec<FieldError>, policy: &Field<'_>) {
    let (basic, gang) = (policy.child("basic"), policy.child("gang"));
    match (basic.is_set(), gang.is_set()) {
        (false, false) => errors.push(policy.invalid_as("", "must specify one of: `basic`, `gang`")),
        (true, true) => errors.push(policy.invalid_as("{basic, gang}", "must specify exactly one of: `basic`, `gang`")),
        _ => {}
    }
    if gang.is_set() {
        let least = gang.child("minCount");
        match least.int() {
            0 => errors.push(least.required("")),
            ..0 => errors.push(least.invalid("must be greater than or equal to 1")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn object(spec: Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "o"}, "spec": spec})).expect("an object")
    }

    fn gang(least: i64) -> Value {
        json!({"gang": {"minCount": least}})
    }

    #[test]
    fn a_group_is_scheduled_in_one_way() {
        let of = |policy: Value| said(&pod_group(&object(json!({"schedulingPolicy": policy}))));
        assert_eq!(of(gang(1)), Vec::<String>::new());
        assert_eq!(of(json!({"basic": {}})), Vec::<String>::new());
        assert_eq!(of(json!({})), ["spec.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`"]);
        assert_eq!(of(gang(0)), ["spec.schedulingPolicy.gang.minCount: Required value"]);
        assert_eq!(of(gang(-1)), ["spec.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1"]);
        let both = of(json!({"basic": {}, "gang": {"minCount": 1}}));
        assert_eq!(both, ["spec.schedulingPolicy: Invalid value: \"{basic, gang}\": must specify exactly one of: `basic`, `gang`"]);
    }

    #[test]
    fn a_group_names_its_template_whole_and_for_good() {
        let of = |reference: Value| object(json!({"podGroupTemplateRef": reference, "schedulingPolicy": gang(1)}));
        let named = |workload: &str, template: &str| json!({"workload": {"workloadName": workload, "podGroupTemplateName": template}});
        assert_eq!(said(&pod_group(&of(named("w.x", "t")))), Vec::<String>::new());
        assert_eq!(said(&pod_group(&of(json!({})))), ["spec.podGroupTemplateRef: Invalid value: \"\": must specify one of: `workload`"]);
        assert_eq!(
            said(&pod_group(&of(named("", "")))),
            [
                "spec.podGroupTemplateRef.workload.workloadName: Required value",
                "spec.podGroupTemplateRef.workload.podGroupTemplateName: Required value"
            ]
        );
        assert_eq!(said(&pod_group(&of(named("w", "t.u")))).len(), 1);
        let changed = said(&pod_group_update(&of(named("w", "t")), &of(named("w", "u"))));
        assert_eq!(changed, ["spec.podGroupTemplateRef: Invalid value: null: field is immutable"]);
        let larger = object(json!({"schedulingPolicy": gang(2)}));
        assert_eq!(said(&pod_group_update(&larger, &larger)), Vec::<String>::new());
        assert_eq!(pod_group_update(&larger, &object(json!({"schedulingPolicy": gang(1)}))).len(), 1);
    }

    #[test]
    fn a_workload_has_one_to_eight_templates_of_different_names() {
        let template = |name: &str| json!({"name": name, "schedulingPolicy": gang(1)});
        let of = |templates: Vec<Value>| object(json!({"podGroupTemplates": templates}));
        let many = |count: usize| of((0..count).map(|at| template(&format!("t{at}"))).collect());
        assert_eq!(said(&workload(&many(8))), Vec::<String>::new());
        assert_eq!(said(&workload(&many(0))), ["spec.podGroupTemplates: Required value"]);
        assert_eq!(said(&workload(&many(9))), ["spec.podGroupTemplates: Too many: 9: must have at most 8 items"]);
        assert_eq!(said(&workload(&of(vec![template("")]))), ["spec.podGroupTemplates[0].name: Required value"]);
        let twice = said(&workload(&of(vec![template("a"), template("a")])));
        assert!(twice.len() == 1 && twice[0].starts_with("spec.podGroupTemplates[1]: Duplicate value"), "{twice:?}");
        assert_eq!(workload_update(&many(2), &many(1)).len(), 1);
        assert_eq!(said(&workload_update(&many(2), &many(2))), Vec::<String>::new());
    }

    #[test]
    fn a_workloads_owner_has_a_kind_and_a_name() {
        let of = |owner: Value| {
            said(&workload(&object(json!({"controllerRef": owner, "podGroupTemplates": [{"name": "t", "schedulingPolicy": gang(1)}]}))))
        };
        assert_eq!(of(json!({"apiGroup": "batch", "kind": "Job", "name": "j"})), Vec::<String>::new());
        assert_eq!(of(json!({"apiGroup": "batch"})), ["spec.controllerRef.kind: Required value", "spec.controllerRef.name: Required value"]);
        assert_eq!(of(json!({"kind": "a/b", "name": "j"})), ["spec.controllerRef.kind: Invalid value: \"a/b\": may not contain '/'"]);
    }

    #[test]
    fn conditions_of_a_group_are_whole() {
        let status = |conditions: Value| Object::from_value(json!({"status": {"conditions": conditions}})).expect("an object");
        let whole = json!({"type": "PodGroupScheduled", "status": "True", "reason": "Scheduled", "lastTransitionTime": "2030-01-01T00:00:00Z"});
        assert_eq!(said(&pod_group_status(&status(json!([whole])))), Vec::<String>::new());
        assert!(!pod_group_status(&status(json!([{"type": "PodGroupScheduled"}]))).is_empty());
    }
}
