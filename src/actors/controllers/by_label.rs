//! Objects by their labels: what a selector selects is found without looking at everything in its namespace. Few need that, so a cache is
//! filed when the first of them comes.

use std::sync::Arc;

use troupe_api::{
    meta::LabelSelector,
    stored::{KubeObject, StoredObject},
};

use crate::runtime::{cache::Cache, turn::Turn};

/// Files each object under its namespace and each of its labels.
const BY_LABEL: &str = "label";

/// Makes a cache ready for [`selected`], unless it is, and waits until all that it has is filed.
pub async fn filed<K: KubeObject>(objects: &Cache<K>) {
    objects.add_meta_index(BY_LABEL, |meta| meta.labels.iter().map(|(key, value)| entry(&meta.namespace, key, value).into()).collect());
    objects.synced().await;
}

/// What a selector selects in a namespace, in key order, as it is stored. Others have their turns meanwhile.
pub async fn selected<K: KubeObject>(objects: &Cache<K>, namespace: &str, selector: &LabelSelector) -> Vec<Arc<StoredObject>> {
    let required = selector.required_labels().map(|(key, value)| entry(namespace, key, value));
    let found = match required.min_by_key(|entry| objects.index_count(BY_LABEL, entry)) {
        Some(rarest) => objects.by_index_stored(BY_LABEL, &rarest, |_| true),
        None => objects.select_stored(namespace, |_| true),
    };
    selected_of(found, selector).await
}

/// What a selector selects of these. A selector may have thousands of requirements: others have their turns meanwhile.
pub async fn selected_of(objects: Vec<Arc<StoredObject>>, selector: &LabelSelector) -> Vec<Arc<StoredObject>> {
    let (mut turn, mut selected, cost) = (Turn::default(), Vec::new(), selector.requirements.len() * REQUIREMENT);
    for object in objects {
        if selector.matches_projection(&object.meta().labels) {
            selected.push(object);
        }
        turn.step_bytes(cost).await;
    }
    selected
}

/// To compare a requirement with an object's labels takes as long as to decode so many bytes.
const REQUIREMENT: usize = 32;

/// No namespace's name has a slash.
pub fn entry(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use troupe_api::{
        decoding::decoded_here,
        meta::{Object, Revision},
    };

    use super::*;

    #[actix::test]
    async fn what_is_selected_is_found_by_its_rarest_label_and_nothing_is_decoded() {
        let pod = |namespace: &str, name: &str, labels: serde_json::Value| {
            let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels}});
            Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
        };
        let pods = [
            pod("n", "a", json!({"app": "web", "tier": "x"})),
            pod("n", "b", json!({"app": "web", "tier": "y"})),
            pod("n", "c", json!({"app": "db", "tier": "x"})),
            pod("n", "d", json!({})),
            pod("nn", "a", json!({"app": "web", "tier": "x"})),
        ];
        let cache = Cache::<Pod>::default();
        cache.replace_now(pods.into_iter().map(|stored| (stored.key.clone(), stored)).collect(), Revision(1));
        filed(&cache).await;
        for (selector, names) in [
            ("app=web", vec!["a", "b"]),
            ("app=web,tier=x", vec!["a"]),
            ("app=web,tier!=x", vec!["b"]),
            ("app in (web,db)", vec!["a", "b", "c"]),
            ("!app", vec!["d"]),
            ("app=none", vec![]),
        ] {
            let before = decoded_here();
            let found = selected(&cache, "n", &LabelSelector::parse(selector).expect("parses")).await;
            assert_eq!(found.iter().map(|pod| &*pod.key.name).collect::<Vec<_>>(), names, "{selector}");
            assert_eq!(decoded_here(), before);
        }
    }
}
