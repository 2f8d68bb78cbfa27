//! Patches that set a condition of a pod, for all who set one.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

/// The status of a strategic merge patch that sets a condition. It says in which order they come, as upstream's patches do: those that are
/// there keep their places, and a new one comes last, while a patch without an order has new ones in front.
pub fn setting(pod: &Pod, condition: &Value) -> Value {
    let mut order: Vec<Value> = known(pod).map(|known| json!({"type": known.type_})).collect();
    let kind = json!({"type": condition["type"]});
    if !order.contains(&kind) {
        order.push(kind);
    }
    json!({"conditions": [condition], "$setElementOrder/conditions": order})
}

/// The same for a pod that does not say so yet; the time of the last transition stays where the status does.
pub fn change(pod: &Pod, mut condition: PodCondition) -> Option<Value> {
    if let Some(before) = known(pod).find(|known| known.type_ == condition.type_) {
        if before.status == condition.status {
            condition.last_transition_time = before.last_transition_time.clone();
        }
        // Upstream does not compare of which generation it is said.
        if (PodCondition { observed_generation: before.observed_generation, ..condition.clone() }) == *before {
            return None;
        }
    }
    Some(setting(pod, &json!(condition)))
}

fn known(pod: &Pod) -> impl Iterator<Item = &PodCondition> {
    pod.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use troupe_api::{
        meta::{GroupVersionKind, Object},
        patch,
        schema::Schemas,
        service::PatchType,
    };

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str, at: i64) -> PodCondition {
        let since = Time(Timestamp::from_second(at).expect("a time"));
        let (type_, reason) = (kind.to_owned(), Some(reason.to_owned()));
        PodCondition { type_, status: status.to_owned(), reason, last_transition_time: Some(since), ..PodCondition::default() }
    }

    fn pod(conditions: &[PodCondition]) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"conditions": conditions}})).expect("a pod")
    }

    /// Types and reasons of the conditions after a patch, made for a pod as it is known, of the pod as it is.
    fn patched(known: &Pod, is: &Pod, condition: PodCondition) -> Vec<String> {
        let mut object = json!(is);
        (object["apiVersion"], object["kind"], object["spec"]) = (json!("v1"), json!("Pod"), json!({"containers": [{"name": "c"}]}));
        let patch = json!({"status": change(known, condition).expect("it is news")});
        let schema = Schemas::builtin().get(&GroupVersionKind::new("", "v1", "Pod")).expect("a built-in kind");
        let object = Object::from_value(object).expect("an object");
        let after = patch::apply(PatchType::StrategicMerge, patch.to_string().as_bytes(), &object, &schema).expect("applies");
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let conditions = after.list(&["status", "conditions"]);
        conditions.iter().map(|condition| format!("{} {}", text(condition, "type"), text(condition, "reason"))).collect()
    }

    #[test]
    fn conditions_keep_their_places_and_a_new_one_comes_last() {
        let known = pod(&[condition("Ready", "True", "r", 1), condition("PodScheduled", "True", "s", 1)]);
        let new = condition("DisruptionTarget", "True", "d", 2);
        assert_eq!(patched(&known, &known, new.clone()), ["Ready r", "PodScheduled s", "DisruptionTarget d"]);
        assert_eq!(patched(&known, &known, condition("PodScheduled", "False", "n", 2)), ["Ready r", "PodScheduled n"]);
        assert_eq!(patched(&known, &known, condition("Ready", "False", "n", 2)), ["Ready n", "PodScheduled s"]);
        assert_eq!(patched(&pod(&[]), &pod(&[]), new.clone()), ["DisruptionTarget d"]);
        // What came meanwhile keeps its place behind what is known.
        let is = pod(&[condition("Ready", "True", "r", 1), condition("Gate", "True", "g", 1), condition("PodScheduled", "True", "s", 1)]);
        assert_eq!(patched(&known, &is, new), ["Ready r", "Gate g", "PodScheduled s", "DisruptionTarget d"]);
    }

    #[test]
    fn what_a_pod_says_already_is_not_told_again_and_the_time_stays_with_the_status() {
        let known = pod(&[condition("DisruptionTarget", "True", "d", 1)]);
        assert_eq!(change(&known, condition("DisruptionTarget", "True", "d", 9)), None);
        let later = PodCondition { observed_generation: Some(2), ..condition("DisruptionTarget", "True", "d", 9) };
        assert_eq!(change(&known, later), None);
        let since = |condition| change(&known, condition).map(|status| status["conditions"][0]["lastTransitionTime"].clone());
        assert_eq!(since(condition("DisruptionTarget", "True", "other", 9)), Some(json!("1970-01-01T00:00:01Z")));
        assert_eq!(since(condition("DisruptionTarget", "False", "d", 9)), Some(json!("1970-01-01T00:00:09Z")));
    }
}
