//! Fields of pods, and of templates of pods, whose features are off: they are dropped where they come new, and stay where they are stored
//! already, as by upstream's `DropDisabledPodFields`. Nobody can turn these features on here.

use serde_json::Value;

use super::tree::{Fields, at, child, descend, each, items};
use crate::meta::Object;

/// All containers of a pod.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// A signal of a container's own (KEP-4960, `ContainerStopSignals`).
const STOP_SIGNAL: &str = "stopSignal";

/// Drops them from the pod at `path` of `new`, unless that of `old` has them.
pub fn drop_disabled(new: &mut Object, old: Option<&Object>, path: &[&str]) {
    let is_in_use = old.and_then(|old| old.at(path)?.get("spec")).is_some_and(has_stop_signals);
    let pod = descend(new.root_mut(), path);
    if let Some(spec) = pod.and_then(|pod| child(pod, "spec")).filter(|_| !is_in_use) {
        CONTAINERS.into_iter().for_each(|list| each(spec, list, drop_stop_signal));
    }
}

fn has_stop_signals(spec: &Value) -> bool {
    let mut containers = CONTAINERS.into_iter().flat_map(|list| items(spec, &[list]));
    containers.any(|container| !at(container, &["lifecycle", STOP_SIGNAL]).is_null())
}

fn drop_stop_signal(container: &mut Fields) {
    let Some(lifecycle) = child(container, "lifecycle") else { return };
    if lifecycle.remove(STOP_SIGNAL).is_some() && lifecycle.is_empty() {
        container.remove("lifecycle");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEMPLATE: [&str; 2] = ["spec", "template"];

    fn pod(containers: &Value) -> Object {
        Object::from_value(json!({"spec": {"containers": containers, "initContainers": containers}})).expect("an object")
    }

    fn workload(containers: &Value) -> Object {
        Object::from_value(json!({"spec": {"template": {"spec": {"containers": containers}}}})).expect("an object")
    }

    fn dropped(mut new: Object, old: Option<&Object>, path: &[&str]) -> Object {
        drop_disabled(&mut new, old, path);
        new
    }

    #[test]
    fn signals_of_containers_are_dropped_unless_the_pod_has_one_already() {
        let sleep = json!({"sleep": {"seconds": 1}});
        let asked = json!([{"lifecycle": {"stopSignal": "SIGUSR1"}}, {"lifecycle": {"preStop": sleep, "stopSignal": "SIGUSR1"}}, {"name": "c"}]);
        let left = json!([{}, {"lifecycle": {"preStop": sleep}}, {"name": "c"}]);
        assert_eq!(dropped(pod(&asked), None, &[]), pod(&left));
        assert_eq!(dropped(pod(&asked), Some(&pod(&left)), &[]), pod(&left));
        let one = pod(&json!([{}, {"lifecycle": {"stopSignal": "SIGTERM"}}]));
        assert_eq!(dropped(pod(&asked), Some(&one), &[]), pod(&asked));
        assert_eq!(dropped(workload(&asked), None, &TEMPLATE), workload(&left));
        assert_eq!(dropped(workload(&asked), Some(&workload(&asked)), &TEMPLATE), workload(&asked));
    }

    #[test]
    fn what_says_nothing_of_signals_stays_as_it_is() {
        for containers in [json!([{"lifecycle": {}}]), json!([]), json!(null), json!([{"lifecycle": null}])] {
            assert_eq!(dropped(pod(&containers), None, &[]), pod(&containers));
        }
        let empty = Object::from_value(json!({})).expect("an object");
        assert_eq!(dropped(empty.clone(), Some(&empty), &TEMPLATE), empty);
    }
}
