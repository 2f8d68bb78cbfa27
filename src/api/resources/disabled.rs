//! Fields of pods, and of templates of pods, whose features are off: they are dropped where they come new, and stay where they are stored
//! already, as by upstream's `DropDisabledPodFields`. Values of such features are refused likewise.

use serde_json::Value;

use super::{
    gated::Gated,
    tree::{Fields, at, child, descend, each, items},
    validation::{Field, pod},
};
use crate::{meta::Object, status::FieldError};

/// All containers of a pod.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// A signal of a container's own (KEP-4960).
const STOP_SIGNAL: &str = "stopSignal";
/// Sources of projected volumes.
const TRUST_BUNDLE: &str = "clusterTrustBundle";
const CERTIFICATE: &str = "podCertificate";
/// The group that a pod gets a node with (KEP-4671).
const GROUP: &str = "schedulingGroup";
/// What a pod's containers call themselves (KEP-4762).
const HOSTNAME: &str = "hostnameOverride";
/// Tolerations that compare numbers (KEP-5471).
const COMPARISONS: &str = "TaintTolerationComparisonOperators";

/// What each feature brought to the specs of pods.
static OF_PODS: [Gated; 6] = [
    Gated { feature: "ContainerStopSignals", is_used: has_stop_signals, drop: drop_stop_signals },
    Gated { feature: "ClusterTrustBundleProjection", is_used: |spec| has_source(spec, TRUST_BUNDLE), drop: |spec| drop_source(spec, TRUST_BUNDLE) },
    Gated { feature: "PodCertificateRequest", is_used: |spec| has_source(spec, CERTIFICATE), drop: |spec| drop_source(spec, CERTIFICATE) },
    Gated { feature: "GenericWorkload", is_used: |spec| has(spec, GROUP), drop: |spec| drop(spec.remove(GROUP)) },
    Gated { feature: "HostnameOverride", is_used: |spec| has(spec, HOSTNAME), drop: |spec| drop(spec.remove(HOSTNAME)) },
    Gated { feature: "EnvFiles", is_used: has_env_files, drop: drop_env_files },
];

/// Drops them from the pod at `path` of `new`, unless that of `old` has them.
pub fn drop_disabled(new: &mut Object, old: Option<&Object>, path: &[&str], is_on: &dyn Fn(&str) -> bool) {
    let before = old.and_then(|old| old.at(path)?.get("spec")?.as_object());
    let Some(spec) = descend(new.root_mut(), path).and_then(|pod| child(pod, "spec")) else { return };
    for gated in &OF_PODS {
        gated.settle(spec, before, is_on);
    }
}

/// Adds to `errors` what is wrong with the pod at `path` of `new`, unless that of `old` makes use of the same feature.
pub fn judge_disabled(errors: &mut Vec<FieldError>, new: &Object, old: Option<&Object>, path: &[&str], is_on: &dyn Fn(&str) -> bool) {
    let Some(tolerations) = comparing(new, path).filter(|_| !is_on(COMPARISONS)) else { return };
    if old.and_then(|old| comparing(old, path)).is_none() {
        let path = [path, &["spec", "tolerations"][..]].concat().join(".");
        pod::refuse_comparisons(errors, &Field::root(&path, tolerations));
    }
}

/// The tolerations of the pod at `path`, if some of them compare numbers.
fn comparing<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let tolerations = object.at(path)?.get("spec")?.get("tolerations")?;
    pod::has_comparisons(items(tolerations, &[])).then_some(tolerations)
}

fn has(spec: &Fields, field: &str) -> bool {
    spec.get(field).is_some_and(|value| !value.is_null())
}

/// The items of a list among a pod's fields.
fn list<'a>(spec: &'a Fields, name: &str) -> &'a [Value] {
    spec.get(name).map_or(&[], |list| items(list, &[]))
}

fn containers(spec: &Fields) -> impl Iterator<Item = &Value> {
    CONTAINERS.into_iter().flat_map(move |name| list(spec, name))
}

fn has_stop_signals(spec: &Fields) -> bool {
    containers(spec).any(|container| !at(container, &["lifecycle", STOP_SIGNAL]).is_null())
}

fn drop_stop_signals(spec: &mut Fields) {
    for list in CONTAINERS {
        each(spec, list, drop_stop_signal);
    }
}

fn drop_stop_signal(container: &mut Fields) {
    let Some(lifecycle) = child(container, "lifecycle") else { return };
    if lifecycle.remove(STOP_SIGNAL).is_some() && lifecycle.is_empty() {
        container.remove("lifecycle");
    }
}

fn has_source(spec: &Fields, kind: &str) -> bool {
    let mut sources = list(spec, "volumes").iter().flat_map(|volume| items(volume, &["projected", "sources"]));
    sources.any(|source| !at(source, &[kind]).is_null())
}

/// As upstream: what is left of the source names nothing, and the volume has a file less.
fn drop_source(spec: &mut Fields, kind: &str) {
    each(spec, "volumes", |volume| {
        if let Some(projected) = child(volume, "projected") {
            each(projected, "sources", |source| drop(source.remove(kind)));
        }
    });
}

fn has_env_files(spec: &Fields) -> bool {
    let mut variables = containers(spec).flat_map(|container| items(container, &["env"]));
    variables.any(|variable| !at(variable, &["valueFrom", "fileKeyRef"]).is_null())
}

fn drop_env_files(spec: &mut Fields) {
    for list in CONTAINERS {
        each(spec, list, |container| {
            each(container, "env", |variable| {
                if let Some(source) = child(variable, "valueFrom") {
                    source.remove("fileKeyRef");
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEMPLATE: [&str; 2] = ["spec", "template"];

    fn pod(containers: &Value) -> Object {
        of_spec(json!({"containers": containers, "initContainers": containers}))
    }

    fn of_spec(spec: Value) -> Object {
        Object::from_value(json!({ "spec": spec })).expect("an object")
    }

    fn workload(containers: &Value) -> Object {
        of_spec(json!({"template": {"spec": {"containers": containers}}}))
    }

    fn dropped(mut new: Object, old: Option<&Object>, path: &[&str]) -> Object {
        drop_disabled(&mut new, old, path, &|_| false);
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

    #[test]
    fn comparisons_are_refused_unless_the_pod_has_one_already() {
        let greater = |value: &str| json!([{"key": "a", "operator": "Exists"}, {"key": "k", "operator": "Gt", "value": value}]);
        let of = |tolerations: Value| of_spec(json!({ "tolerations": tolerations }));
        let said = |new: &Object, old: Option<&Object>, path: &[&str], is_on: bool| {
            let mut errors = vec![FieldError::invalid("spec.tolerations[1].value", "a", "must be a number")];
            judge_disabled(&mut errors, new, old, path, &|_| is_on);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let kept = ["spec.tolerations[1].value: Invalid value: \"a\": must be a number"];
        let refused =
            |at: &str| format!("{at}.tolerations[1].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"");
        assert_eq!(said(&of(greater("a")), None, &[], false), [refused("spec")], "nobody asks for a value then");
        assert_eq!(said(&of(greater("a")), Some(&of(json!([]))), &[], false), [refused("spec")]);
        assert_eq!(said(&of(greater("a")), Some(&of(greater("1"))), &[], false), kept);
        assert_eq!(said(&of(greater("a")), None, &[], true), kept);
        assert_eq!(said(&of(json!(null)), None, &[], false), kept);
        let template = of_spec(json!({"template": {"spec": {"tolerations": greater("1")}}}));
        assert_eq!(said(&template, None, &TEMPLATE, false)[1], refused("spec.template.spec"));
        assert_eq!(said(&template, Some(&template), &TEMPLATE, false), kept);
    }

    #[test]
    fn each_feature_drops_its_own_fields_alone() {
        let of = |features: &'static [&'static str]| {
            let mut pod = of_spec(json!({
                "schedulingGroup": {"podGroupName": "g"}, "hostnameOverride": "h",
                "containers": [{"name": "c", "env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "A"}}}, {"name": "B", "value": "b"}]}],
                "volumes": [{"projected": {"sources": [{"clusterTrustBundle": {"path": "t"}}, {"podCertificate": {"keyType": "ED25519"}}]}}],
            }));
            drop_disabled(&mut pod, None, &[], &|feature| !features.contains(&feature));
            pod
        };
        let all = of(&[]);
        assert_eq!(of(&["NodeDeclaredFeatures"]), all);
        assert_eq!(of(&["GenericWorkload"]).get(&["spec", "schedulingGroup"]), None);
        assert_eq!(of(&["HostnameOverride"]).get(&["spec", "hostnameOverride"]), None);
        let variables = of(&["EnvFiles"]).list(&["spec", "containers"])[0]["env"].clone();
        assert_eq!(variables, json!([{"name": "A", "valueFrom": {}}, {"name": "B", "value": "b"}]));
        let sources = |pod: &Object| pod.list(&["spec", "volumes"])[0]["projected"]["sources"].clone();
        assert_eq!(sources(&of(&["ClusterTrustBundleProjection"])), json!([{}, {"podCertificate": {"keyType": "ED25519"}}]));
        assert_eq!(sources(&of(&["PodCertificateRequest"])), json!([{"clusterTrustBundle": {"path": "t"}}, {}]));
        let mut again = all.clone();
        drop_disabled(&mut again, Some(&all), &[], &|_| false);
        assert_eq!(again, all, "what a pod has it keeps");
    }
}
