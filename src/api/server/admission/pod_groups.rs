//! `PodGroupProtection` and `PodGroupWorkloadExists` (KEP-4671): groups are born with the finalizer that keeps them while pods are of them
//! (the controller `podgroup-protection-controller` takes it away), and of templates that there are.

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey, tree::text},
    status::Status,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin};

/// Keeps a group while pods are of it.
pub const POD_GROUP_FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

const GROUP: &str = "scheduling.k8s.io";

/// Gives new groups their finalizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodGroupProtection;

/// Refuses groups of workloads or templates that there are not.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodGroupWorkloadExists;

fn is_new_group(request: &Attributes<'_>) -> bool {
    request.operation == Operation::Create && request.is_main(GROUP, "podgroups")
}

impl Plugin for PodGroupProtection {
    fn name(&self) -> &'static str {
        "PodGroupProtection"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for PodGroupProtection {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !is_new_group(request) {
            return Ok(());
        }
        let Some(group) = request.object_mut() else { return Ok(()) };
        let mut finalizers = group.list(&["metadata", "finalizers"]).to_vec();
        if !finalizers.contains(&Value::from(POD_GROUP_FINALIZER)) {
            finalizers.push(POD_GROUP_FINALIZER.into());
            group.set(&["metadata", "finalizers"], finalizers);
        }
        Ok(())
    }
}

impl Plugin for PodGroupWorkloadExists {
    fn name(&self) -> &'static str {
        "PodGroupWorkloadExists"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl ValidatingPlugin for PodGroupWorkloadExists {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if !is_new_group(request) {
            return Ok(());
        }
        let Some(reference) = request.object().and_then(|group| group.get(&["spec", "podGroupTemplateRef", "workload"])) else { return Ok(()) };
        let (name, template) = (text(reference, &["workloadName"]), text(reference, &["podGroupTemplateName"]));
        let (workloads, key) = (GroupResource::new(GROUP, "workloads"), ObjectKey::new(request.target.namespace.clone(), name));
        let found = match request.reads.listers().get(&workloads, &key) {
            Some(workload) => Some(workload),
            None => request.reads.live(&workloads, &key).await?,
        };
        match found.map(|workload| workload.to_object()) {
            None => Err(request.forbidden(format!("PodGroup rejected: Workload {name:?} not found"))),
            Some(workload) => check(&workload, name, template).map_err(|why| request.forbidden(format!("PodGroup rejected: {why}"))),
        }
    }
}

/// Whether the workload stays and has the template.
fn check(workload: &Object, name: &str, template: &str) -> Result<(), String> {
    if workload.is_terminating() {
        return Err(format!("Workload {name:?} is being deleted"));
    }
    let mut templates = workload.list(&["spec", "podGroupTemplates"]).iter();
    match templates.any(|known| text(known, &["name"]) == template) {
        true => Ok(()),
        false => Err(format!("PodGroupTemplate {template:?} not found in Workload {name:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_is_of_a_template_that_there_is() {
        let workload = |metadata: Value| {
            Object::from_value(json!({"metadata": metadata, "spec": {"podGroupTemplates": [{"name": "a"}, {"name": "b"}]}})).expect("an object")
        };
        let there = workload(json!({"name": "w"}));
        assert_eq!(check(&there, "w", "b"), Ok(()));
        assert_eq!(check(&there, "w", "c"), Err("PodGroupTemplate \"c\" not found in Workload \"w\"".to_owned()));
        let going = workload(json!({"name": "w", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(check(&going, "w", "b"), Err("Workload \"w\" is being deleted".to_owned()));
    }
}
