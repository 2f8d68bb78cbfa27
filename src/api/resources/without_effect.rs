//! Fields of pods that are stored and that nothing acts on.

use serde_json::{Map, Value};

use super::tree;

/// Paths below a pod's spec, and what does not happen.
const FIELDS: [(&[&str], &str); 1] = [(&["resourceClaims"], "devices are not allocated")];

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
        let pod = |spec: Value| Map::from_iter([("spec".to_owned(), spec)]);
        let claiming = pod(json!({"affinity": {"podAntiAffinity": {"a": 1}}, "resourceClaims": [{"name": "gpu"}]}));
        assert_eq!(
            in_pod(&["spec", "template"], &claiming),
            ["spec.template.spec.resourceClaims is stored, but without effect: devices are not allocated"]
        );
        assert!(in_pod(&[], &pod(json!({"resourceClaims": []}))).is_empty());
        assert!(in_pod(&[], &Map::new()).is_empty());
    }
}
