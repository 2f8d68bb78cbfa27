//! FlowSchema: says of each schema whether the priority level that it refers to exists.

use jiff::Timestamp;
use k8s_openapi::{
    api::flowcontrol::v1::{FlowSchema, FlowSchemaCondition, FlowSchemaStatus, PriorityLevelConfiguration},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::meta::ObjectKey;

use super::writes::write_status;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const DANGLING: &str = "Dangling";

/// See the module. Keys are flow schemas.
pub struct FlowSchemaController {
    schemas: Cache<FlowSchema>,
    levels: Cache<PriorityLevelConfiguration>,
}

impl FlowSchemaController {
    pub fn new(caches: &Caches) -> Self {
        FlowSchemaController { schemas: caches.cache(), levels: caches.cache() }
    }
}

fn level_of(schema: &FlowSchema) -> &str {
    schema.spec.as_ref().map_or("", |spec| spec.priority_level_configuration.name.as_str())
}

/// The status to write, if it is another one.
fn plan(schema: &FlowSchema, level_exists: bool, now: Timestamp) -> Option<FlowSchemaStatus> {
    let level = level_of(schema);
    let refers = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = match level_exists {
        true => ("False", "Found", format!("{refers} and it exists")),
        false => ("True", "NotFound", format!("{refers} but there is no such object")),
    };
    let mut conditions = schema.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = conditions.iter().position(|condition| condition.type_.as_deref() == Some(DANGLING));
    let same = |condition: &FlowSchemaCondition| {
        condition.status.as_deref() == Some(status) && condition.reason.as_deref() == Some(reason) && condition.message.as_ref() == Some(&message)
    };
    if known.is_some_and(|at| same(&conditions[at])) {
        return None;
    }
    let condition = FlowSchemaCondition {
        type_: Some(DANGLING.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    Some(FlowSchemaStatus { conditions: Some(conditions) })
}

impl Controller for FlowSchemaController {
    const NAME: &'static str = "flow-schema";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<FlowSchema>();
        let schemas = self.schemas.clone();
        watches.map::<PriorityLevelConfiguration>(move |change| {
            let referring = schemas.list("").into_iter().filter(|schema| *level_of(schema) == *change.key.name);
            referring.map(|schema| ObjectKey::cluster(schema.metadata.name.clone().unwrap_or_default())).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(schema) = self.schemas.get(key) else { return Ok(Outcome::Done) };
        let exists = self.levels.get(&ObjectKey::cluster(level_of(&schema.object))).is_some();
        let Some(status) = plan(&schema.object, exists, cx.now()) else { return Ok(Outcome::Done) };
        let updated = FlowSchema { status: Some(status), ..(*schema.object).clone() };
        write_status(&updated, &self.schemas, cx).await?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_tells_whether_its_level_exists() {
        let schema: FlowSchema =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "gold"}}})).expect("a schema");
        let dangling = plan(&schema, false, Timestamp::UNIX_EPOCH).expect("a status");
        let condition = &dangling.conditions.as_ref().expect("conditions")[0];
        assert_eq!((condition.status.as_deref(), condition.reason.as_deref()), (Some("True"), Some("NotFound")));
        let known = FlowSchema { status: Some(dangling), ..schema };
        assert_eq!(plan(&known, false, Timestamp::UNIX_EPOCH), None);
        let found = plan(&known, true, Timestamp::UNIX_EPOCH).expect("a status").conditions.expect("conditions");
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].message.as_deref(),
            Some("This FlowSchema references the PriorityLevelConfiguration object named \"gold\" and it exists")
        );
    }
}
