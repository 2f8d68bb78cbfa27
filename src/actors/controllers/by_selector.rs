//! Objects by what they select: whom a pod concerns is found without looking at everybody in its namespace.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    projection::Labels,
    stored::KubeObject,
};

use crate::runtime::cache::Cache;

/// Files each object under its namespace, a label that its selector requires, and its selector in words.
const BY_SELECTOR: &str = "selector";
/// Longer selectors are not read at each change of what they may select: every other one waits meanwhile.
const LONGEST: usize = 4096;
/// How many bytes of selectors' texts are remembered, with what they mean, on each thread.
const MOST_READ: usize = 1 << 20;

/// Makes the cache ready for [`selecting`]. What has no selector selects nothing.
pub fn index<K: KubeObject>(objects: Cache<K>, selector: impl Fn(&K) -> Option<LabelSelector> + Send + Sync + 'static) -> Cache<K> {
    objects.add_index(BY_SELECTOR, move |object| {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        let selector = selector(object).filter(|selector| !selector.nothing);
        selector.map(|selector| format!("{}{selector}", group(namespace, selector.required_labels().next())).into()).into_iter().collect()
    });
    objects
}

/// The keys of the objects in a namespace that select something with one of these labels, or may: long selectors are not looked at.
pub fn selecting<'a, K: KubeObject>(objects: &Cache<K>, namespace: &str, labels: impl Iterator<Item = &'a Labels> + Clone) -> Vec<ObjectKey> {
    let required = labels.clone().flat_map(|labels| labels.iter().map(|(key, value)| group(namespace, Some((key, value)))));
    let groups: BTreeSet<String> = required.chain([group(namespace, None)]).collect();
    let concerned = |text: &str| {
        // One that takes long to read may select anything: whoever is woken looks for itself, in its turn.
        text.len() > LONGEST
            || read(text, |selector| selector.is_none_or(|selector| labels.clone().any(|labels| selector.matches_projection(labels))))
    };
    let found: BTreeSet<ObjectKey> =
        groups.iter().flat_map(|group| objects.index_keys_where(BY_SELECTOR, group, |value| concerned(&value[group.len()..]))).collect();
    found.into_iter().collect()
}

/// What selectors of a namespace are filed under that require a label, or none. No namespace's name has a slash, nor has a label's value.
fn group(namespace: &str, required: Option<(&str, &str)>) -> String {
    match required {
        Some((key, value)) => format!("{namespace}/={key}={value}/"),
        None => format!("{namespace}/*/"),
    }
}

/// Selectors that were read on this thread, by their text, and how long their texts are together.
#[derive(Default)]
struct Read {
    by_text: HashMap<Box<str>, Option<LabelSelector>>,
    bytes: usize,
}

thread_local! {
    static READ: RefCell<Read> = RefCell::default();
}

/// Hands on the selector of a text; none where it is no selector.
fn read<R>(text: &str, look: impl FnOnce(Option<&LabelSelector>) -> R) -> R {
    READ.with_borrow_mut(|read| {
        if !read.by_text.contains_key(text) {
            if read.bytes >= MOST_READ {
                *read = Read::default();
            }
            read.bytes += text.len();
            read.by_text.insert(text.into(), LabelSelector::parse(text).ok());
        }
        look(read.by_text[text].as_ref())
    })
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
            service("long", "n", json!((0..300).map(|at| (format!("label-{at}"), json!("value"))).collect::<serde_json::Map<_, _>>())),
            service("longer", "n", json!({"app": "a", "z": "x".repeat(LONGEST)})),
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
        assert_eq!(found.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["longer", "one", "two"]);
        assert_eq!(decoded_here(), before);
    }
}
