//! Objects by what they select: whom a pod concerns is found without looking at everybody in its namespace.

use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    projection::Labels,
    stored::KubeObject,
};

use crate::runtime::cache::Cache;

/// Files each object under its namespace and its selector in words.
const BY_SELECTOR: &str = "selector";

/// Makes the cache ready for [`selecting`]. What has no selector selects nothing.
pub fn index<K: KubeObject>(objects: Cache<K>, selector: impl Fn(&K) -> Option<LabelSelector> + Send + Sync + 'static) -> Cache<K> {
    objects.add_index(BY_SELECTOR, move |object| {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        let selector = selector(object).filter(|selector| !selector.nothing);
        selector.map(|selector| format!("{}{selector}", prefix(namespace)).into()).into_iter().collect()
    });
    objects
}

/// The keys of the objects in a namespace that select something with one of these labels.
pub fn selecting<'a, K: KubeObject>(objects: &Cache<K>, namespace: &str, labels: impl Iterator<Item = &'a Labels> + Clone) -> Vec<ObjectKey> {
    let prefix = prefix(namespace);
    let concerned = |value: &str| {
        // One that is too long to be read back may select anything: whoever is woken looks for itself.
        let Ok(selector) = LabelSelector::parse(&value[prefix.len()..]) else { return true };
        labels.clone().any(|labels| selector.matches_projection(labels))
    };
    objects.index_keys_where(BY_SELECTOR, &prefix, concerned)
}

/// No namespace's name has a slash.
fn prefix(namespace: &str) -> String {
    format!("{namespace}/")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};
    use troupe_api::{
        decoding::decoded_here,
        meta::{Object, Revision},
        stored::StoredObject,
    };

    use super::*;

    fn stored(kind: &str, name: &str, namespace: &str, labels: Value, selector: Value) -> Arc<StoredObject> {
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        let tree = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": {"selector": selector}});
        Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
    }

    #[test]
    fn whoever_selects_a_pod_is_found_and_nobody_is_decoded_for_it() {
        let service = |name, namespace, selector| stored("Service", name, namespace, json!({}), selector);
        let services = [
            service("one", "n", json!({"app": "a"})),
            service("two", "n", json!({"app": "a"})),
            service("both", "n", json!({"app": "a", "tier": "x"})),
            service("other", "n", json!({"app": "b"})),
            service("none", "n", json!({})),
            service("far", "nn", json!({"app": "a"})),
        ];
        let selector = |service: &Service| {
            let labels = service.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
            Some(LabelSelector::from_map(labels))
        };
        let cache = index(Cache::<Service>::default(), selector);
        cache.replace_now(services.into_iter().map(|stored| (stored.key.clone(), stored)).collect(), Revision(1));
        let before = decoded_here();
        let pod = stored("Pod", "p", "n", json!({"app": "a"}), json!({}));
        let found = selecting(&cache, "n", std::iter::once(&pod.meta().labels));
        assert_eq!(found.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(decoded_here(), before);
    }
}
