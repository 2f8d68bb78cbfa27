//! Labels of nodes by their old names, which say what those by the new names say. Pure.

use std::collections::BTreeMap;

use troupe_api::projection::Labels;

/// New and old names.
const RENAMED: [(&str, &str); 2] = [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// What the old labels should say, where they do not. Nothing is asked of old labels whose new ones are absent.
pub fn outdated(labels: &Labels) -> BTreeMap<&'static str, &str> {
    let wanted = RENAMED.iter().filter_map(|(new, old)| Some((*old, labels.get(new)?)));
    wanted.filter(|(old, value)| labels.get(old) != Some(*value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn outdated_of(labels: Value) -> Value {
        let labels: Labels = serde_json::from_value(labels).expect("labels");
        json!(outdated(&labels))
    }

    #[test]
    fn old_labels_follow_the_new_ones() {
        let new = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "plan9"});
        assert_eq!(outdated_of(new), json!({"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64"}));
        assert_eq!(outdated_of(json!({"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux"})), json!({}));
        assert_eq!(outdated_of(json!({"beta.kubernetes.io/arch": "arm64"})), json!({}), "nothing to follow");
    }
}
