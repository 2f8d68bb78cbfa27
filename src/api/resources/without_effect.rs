//! Fields of pods that are stored and that nothing acts on.

use serde_json::{Map, Value};

use super::tree;

/// Paths below a pod's spec, and what does not happen.
const FIELDS: [(&[&str], &str); 4] = [
    (&["affinity", "podAffinity"], "the scheduler does not look at other pods"),
    (&["affinity", "podAntiAffinity"], "the scheduler does not look at other pods"),
    (&["resourceClaims"], "devices are not allocated"),
    (&["topologySpreadConstraints"], "the scheduler does not spread pods"),
];

/// Warnings about a pod or a template that stands at `path`.
pub fn in_pod(path: &[&str], pod: &Map<String, Value>) -> Vec<String> {
    let Some(spec) = pod.get("spec") else { return Vec::new() };
    let set = FIELDS.iter().filter(|(field, _)| !tree::is_empty(spec, field));
    let name = |field: &[&str]| path.iter().chain(&["spec"]).chain(field).copied().collect::<Vec<_>>().join(".");
    set.map(|(field, why)| format!("{} is stored, but without effect: {why}", name(field))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_fields_that_say_something_are_told() {
        let spec = json!({"affinity": {"podAffinity": {}, "nodeAffinity": {"a": 1}, "podAntiAffinity": {"a": 1}}});
        let pod = Map::from_iter([("spec".to_owned(), spec)]);
        assert_eq!(
            in_pod(&["spec", "template"], &pod),
            ["spec.template.spec.affinity.podAntiAffinity is stored, but without effect: the scheduler does not look at other pods"]
        );
        assert!(in_pod(&[], &Map::new()).is_empty());
    }
}
