//! `JobValidation`: a job whose pods get nodes all together or not at all keeps their number (the features `GenericWorkload` and
//! `WorkloadWithJob`).

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey},
    status::Status,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

const PARALLELISM: [&str; 2] = ["spec", "parallelism"];

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobValidation;

impl Plugin for JobValidation {
    fn name(&self) -> &'static str {
        "JobValidation"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::UPDATES
    }
}

#[async_trait]
impl ValidatingPlugin for JobValidation {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if request.operation != Operation::Update || !request.is_main("batch", "jobs") {
            return Ok(());
        }
        let (Some(new), Some(old)) = (request.object(), request.old) else { return Ok(()) };
        if new.int(&PARALLELISM) == old.int(&PARALLELISM) {
            return Ok(());
        }
        let groups = GroupResource::new("scheduling.k8s.io", "podgroups");
        let listers = request.reads.listers();
        let concerned: Vec<Object> = match named_group(old) {
            Some(name) => listers.get(&groups, &ObjectKey::new(old.namespace(), name)).map(|group| group.to_object()).into_iter().collect(),
            None => listers.list(&groups, old.namespace()).iter().map(|group| group.to_object()).filter(|group| is_controlled(group, old)).collect(),
        };
        match concerned.iter().find(|group| is_gang(group)) {
            None => Ok(()),
            Some(gang) => {
                let name = gang.name();
                Err(request.forbidden(format!("cannot change parallelism for a Job referencing gang-scheduled PodGroup {name:?}")))
            }
        }
    }
}

/// The group that the template of a job's pods names.
fn named_group(job: &Object) -> Option<&str> {
    job.get(&["spec", "template", "spec", "schedulingGroup", "podGroupName"])?.as_str()
}

fn is_gang(group: &Object) -> bool {
    group.get(&["spec", "schedulingPolicy", "gang"]).is_some_and(|gang| !gang.is_null())
}

fn is_controlled(group: &Object, job: &Object) -> bool {
    let is_job = |owner: &Value| owner["controller"] == true && owner["uid"] == job.str(&["metadata", "uid"]);
    group.list(&["metadata", "ownerReferences"]).iter().any(is_job)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(tree: Value) -> Object {
        Object::from_value(tree).expect("an object")
    }

    #[test]
    fn a_job_is_held_by_the_gang_that_it_names_or_controls() {
        let job = object(json!({"metadata": {"uid": "u"}, "spec": {"template": {"spec": {"schedulingGroup": {"podGroupName": "g"}}}}}));
        assert_eq!((named_group(&job), named_group(&object(json!({"spec": {}})))), (Some("g"), None));
        let owned = |uid: &str, controller: bool| object(json!({"metadata": {"ownerReferences": [{"uid": uid, "controller": controller}]}}));
        assert!(is_controlled(&owned("u", true), &job) && !is_controlled(&owned("u", false), &job) && !is_controlled(&owned("v", true), &job));
        let policy = |policy: Value| object(json!({"spec": {"schedulingPolicy": policy}}));
        assert!(is_gang(&policy(json!({"gang": {"minCount": 2}}))) && !is_gang(&policy(json!({"basic": {}}))));
    }
}
