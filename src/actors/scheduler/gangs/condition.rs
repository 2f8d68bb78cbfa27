//! The condition `PodGroupScheduled` of a group.

use k8s_openapi::{api::scheduling::v1alpha2::PodGroup, apimachinery::pkg::apis::meta::v1::Condition};
use serde_json::{Value, json};
use troupe_api::{service::PatchType, status::Status};
use troupe_api_client::Client;

const SCHEDULED: &str = "PodGroupScheduled";

/// What came of an attempt on a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Scheduled,
    /// With what it lacks.
    Unschedulable(String),
    /// Something went wrong.
    Failed(String),
}

impl Verdict {
    /// Status, reason and message.
    fn parts(&self) -> (&'static str, &'static str, &str) {
        match self {
            Verdict::Scheduled => ("True", "Scheduled", ""),
            Verdict::Unschedulable(why) => ("False", "Unschedulable", why),
            Verdict::Failed(why) => ("False", "SchedulerError", why),
        }
    }
}

/// The condition as it is to be written; `None` if the group says so already. A group that was scheduled stays so, whatever becomes of
/// further pods.
pub fn plan(group: &PodGroup, verdict: &Verdict, now: &str) -> Option<Value> {
    let (status, reason, message) = verdict.parts();
    let mut conditions = group.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known: Option<&Condition> = conditions.find(|condition| condition.type_ == SCHEDULED);
    let mut since = json!(now);
    if let Some(known) = known {
        let is_same = (known.status.as_str(), known.reason.as_str(), known.message.as_str()) == (status, reason, message);
        if is_same || (known.status == "True" && status != "True") {
            return None;
        }
        if known.status == status {
            since = json!(known.last_transition_time);
        }
    }
    let generation = group.metadata.generation;
    let mut condition = json!({"type": SCHEDULED, "status": status, "reason": reason, "message": message, "lastTransitionTime": since});
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation.into();
    }
    Some(condition)
}

/// Writes a condition of a group.
pub async fn write(client: &Client, group: &PodGroup, condition: Value) -> Result<(), Status> {
    let patch = json!({"metadata": {"uid": group.metadata.uid}, "status": {"conditions": [condition]}});
    let groups = client.namespaced::<PodGroup>(group.metadata.namespace.as_deref().unwrap_or_default());
    groups.patch(group.metadata.name.as_deref().unwrap_or_default(), "status", PatchType::StrategicMerge, &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-01-01T00:01:00Z";

    fn group(conditions: Value) -> PodGroup {
        let spec = json!({"schedulingPolicy": {"gang": {"minCount": 2}}});
        serde_json::from_value(json!({"metadata": {"name": "g"}, "spec": spec, "status": {"conditions": conditions}})).expect("a group")
    }

    fn condition(status: &str, reason: &str, message: &str, since: &str) -> Value {
        json!({"type": SCHEDULED, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    }

    #[test]
    fn a_group_tells_what_became_of_it_and_since_when() {
        let lacks = Verdict::Unschedulable("no room".into());
        assert_eq!(plan(&group(json!([])), &lacks, NOW), Some(condition("False", "Unschedulable", "no room", NOW)));
        let told = group(json!([condition("False", "Unschedulable", "no room", BEFORE)]));
        assert_eq!(plan(&told, &lacks, NOW), None);
        let failed = Verdict::Failed("broken".into());
        assert_eq!(plan(&told, &failed, NOW), Some(condition("False", "SchedulerError", "broken", BEFORE)));
        assert_eq!(plan(&told, &Verdict::Scheduled, NOW), Some(condition("True", "Scheduled", "", NOW)));
    }

    #[test]
    fn a_group_that_was_scheduled_stays_so() {
        let scheduled = group(json!([condition("True", "Scheduled", "", BEFORE)]));
        assert_eq!(plan(&scheduled, &Verdict::Unschedulable("one more".into()), NOW), None);
        assert_eq!(plan(&scheduled, &Verdict::Scheduled, NOW), None);
    }
}
