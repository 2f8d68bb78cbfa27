//! Which updates of a pod are looked at again.

use serde_json::Value;
use troupe_api::{meta::Object, resources::tree};

/// Whether an update brings a container or an image that was not there before. Nothing else of what checks look at can
/// change in a pod, and pods older than their namespace's labels must stay writable.
pub fn is_significant(new: &Object, old: &Object) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        let (new, old) = (new.list(&["spec", list]), old.list(&["spec", list]));
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| has_other_image(new, old))
    }) || new.list(&["spec", "ephemeralContainers"]).iter().any(|container| {
        let name = tree::text(container, &["name"]);
        let before = old.list(&["spec", "ephemeralContainers"]).iter().find(|old| tree::text(old, &["name"]) == name);
        before.is_none_or(|before| has_other_image(container, before))
    })
}

fn has_other_image(new: &Value, old: &Value) -> bool {
    tree::text(new, &["image"]) != tree::text(old, &["image"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_new_containers_and_images_matter() {
        let container = |name: &str, image: &str| json!({"name": name, "image": image});
        let pod = |spec: Value| Object::from_value(json!({"metadata": {"labels": {"a": "b"}}, "spec": spec})).expect("an object");
        let old = pod(json!({
            "containers": [container("a", "1")],
            "initContainers": [container("i", "1")],
            "ephemeralContainers": [container("e", "1"), container("f", "1")],
        }));
        let changed = |list: &str, value: Value| {
            let mut new = old.clone();
            new.set(&["spec", list], value);
            is_significant(&new, &old)
        };
        assert!(!is_significant(&old, &old));
        assert!(!changed("activeDeadlineSeconds", json!(5)));
        assert!(!changed("ephemeralContainers", json!([container("f", "1"), container("e", "1")])));
        assert!(changed("containers", json!([container("a", "2")])));
        assert!(changed("containers", json!([container("a", "1"), container("b", "1")])));
        assert!(changed("initContainers", json!([container("i", "2")])));
        assert!(changed("ephemeralContainers", json!([container("e", "1"), container("f", "1"), container("g", "1")])));
        assert!(changed("ephemeralContainers", json!([container("e", "2"), container("f", "1")])));
    }
}
