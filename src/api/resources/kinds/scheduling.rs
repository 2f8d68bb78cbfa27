//! Workloads and pod groups (KEP-4671), which are off where nothing is said.

use serde_json::Value;

use super::{empty_status, keep_status, reset_metadata, take_status};
use crate::{
    meta::{Clock, Object, tree::text},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, non_empty, or_none, string},
        resource::{ALL_METADATA, age_of},
        validation::scheduling,
    },
    status::FieldError,
};

/// Fields of groups and of their templates whose features this server does not have: topology, claims of groups, preemption of groups.
const WITHOUT_FEATURE: [&str; 5] = ["schedulingConstraints", "resourceClaims", "disruptionMode", "priorityClassName", "priority"];

/// The rules of workloads.
#[derive(Default)]
pub struct Workload;

impl Strategy for Workload {
    fn has_generation(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        drop_from_templates(object);
    }

    fn prepare_update(&self, new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {
        drop_from_templates(new);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        scheduling::workload(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        scheduling::workload_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), age_of(object, clock).into()]
    }
}

/// The rules of pod groups.
#[derive(Default)]
pub struct PodGroup;

impl Strategy for PodGroup {
    fn has_generation(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
        drop_fields(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            take_status(new, old);
            reset_metadata(new, old);
            new.remove(&["status", "resourceClaimStatuses"]);
        } else {
            keep_status(new, old);
            drop_fields(new);
        }
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        scheduling::pod_group(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { scheduling::pod_group_status(new) } else { scheduling::pod_group_update(new, old) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Policy", "How the pods of the group are scheduled: one by one, or all or none."),
            string("Workload", "Name of the referenced Workload object"),
            string("Status", "Status of the PodGroup"),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let policy = if object.get(&["spec", "schedulingPolicy", "gang"]).is_some() { "Gang" } else { "Basic" };
        let workload = object.str(&["spec", "podGroupTemplateRef", "workload", "workloadName"]);
        vec![object.name().into(), policy.into(), or_none(workload).into(), state(object).into(), age_of(object, clock).into()]
    }
}

/// What becomes of a group, in a word.
fn state(group: &Object) -> String {
    let conditions = group.list(&["status", "conditions"]);
    let of = |kind: &str| conditions.iter().rfind(|condition| text(condition, &["type"]) == kind);
    if let Some(disruption) = of("DisruptionTarget") {
        return non_empty(text(disruption, &["reason"]), "Disrupted");
    }
    let state = match of("PodGroupScheduled").map(|condition| text(condition, &["status"])) {
        Some("True") => "Scheduled",
        Some(_) => "Unschedulable",
        None => "Pending",
    };
    state.to_owned()
}

fn drop_fields(group: &mut Object) {
    for field in WITHOUT_FEATURE {
        group.remove(&["spec", field]);
    }
}

fn drop_from_templates(workload: &mut Object) {
    for template in workload.list_mut(&["spec", "podGroupTemplates"]).into_iter().flatten() {
        if let Some(fields) = template.as_object_mut() {
            WITHOUT_FEATURE.iter().for_each(|field| drop(fields.remove(*field)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        meta::{request::UserInfo, tree::at},
        resources::kinds::tests::{FixedClock, object},
    };

    fn spec() -> Value {
        json!({"schedulingPolicy": {"gang": {"minCount": 2}}, "disruptionMode": "Pod", "priority": 3, "schedulingConstraints": {"topology": []}})
    }

    #[test]
    fn fields_without_their_feature_are_not_stored() {
        let user = UserInfo::default();
        let context = |subresource: &'static str| WriteContext { user: &user, clock: &FixedClock, subresource };
        let mut group = object(json!({"metadata": {"name": "g"}, "spec": spec(), "status": {"conditions": [{"type": "A"}]}}));
        PodGroup.prepare_create(&mut group, &context(""));
        assert_eq!(group.get(&["spec"]), Some(&json!({"schedulingPolicy": {"gang": {"minCount": 2}}})));
        assert_eq!(group.get(&["status"]), Some(&json!({})));
        let template = json!({"name": "t", "schedulingPolicy": {"basic": {}}, "priorityClassName": "p", "resourceClaims": []});
        let mut workload = object(json!({"metadata": {"name": "w"}, "spec": {"podGroupTemplates": [template]}}));
        Workload.prepare_create(&mut workload, &context(""));
        assert_eq!(workload.list(&["spec", "podGroupTemplates"]), [json!({"name": "t", "schedulingPolicy": {"basic": {}}})]);
    }

    #[test]
    fn a_status_is_written_beside_the_rest() {
        let user = UserInfo::default();
        let context = |subresource: &'static str| WriteContext { user: &user, clock: &FixedClock, subresource };
        let old = object(json!({"metadata": {"name": "g", "labels": {"a": "b"}}, "spec": {"schedulingPolicy": {"basic": {}}}, "status": {}}));
        let said = json!({"conditions": [{"type": "PodGroupScheduled", "status": "True"}], "resourceClaimStatuses": [{"name": "c"}]});
        let written = json!({"metadata": {"name": "g", "labels": {"c": "d"}}, "spec": {}, "status": said});
        let mut new = object(written.clone());
        PodGroup.prepare_update(&mut new, &old, &context("status"));
        assert_eq!(new.get(&["spec"]), old.get(&["spec"]));
        assert_eq!(new.label("a"), Some("b"));
        assert_eq!(new.get(&["status"]), Some(&json!({"conditions": at(&said, &["conditions"])})));
        let mut new = object(written);
        PodGroup.prepare_update(&mut new, &old, &context(""));
        assert_eq!((new.get(&["status"]), new.label("c")), (Some(&json!({})), Some("d")));
    }

    #[test]
    fn kubectl_shows_policy_workload_and_state() {
        let with = |status: Value| {
            let reference = json!({"workload": {"workloadName": "w", "podGroupTemplateName": "t"}});
            let spec = json!({"podGroupTemplateRef": reference, "schedulingPolicy": {"gang": {"minCount": 2}}});
            object(json!({"metadata": {"name": "g", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status}))
        };
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R"});
        assert_eq!(PodGroup.cells(&with(json!({})), &FixedClock), [json!("g"), json!("Gang"), json!("w"), json!("Pending"), json!("60m")]);
        for (conditions, word) in [
            (vec![condition("PodGroupScheduled", "True")], "Scheduled"),
            (vec![condition("PodGroupScheduled", "False")], "Unschedulable"),
            (vec![condition("PodGroupScheduled", "True"), condition("DisruptionTarget", "True")], "R"),
        ] {
            assert_eq!(PodGroup.cells(&with(json!({"conditions": conditions})), &FixedClock)[3], json!(word));
        }
        let basic = object(json!({"metadata": {"name": "g"}, "spec": {"schedulingPolicy": {"basic": {}}}}));
        assert_eq!(PodGroup.cells(&basic, &FixedClock)[1..3], [json!("Basic"), json!("<none>")]);
        assert_eq!(PodGroup.columns().len(), 5);
    }
}
