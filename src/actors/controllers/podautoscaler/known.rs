//! What is remembered of autoscalers between two looks: found by autoscaler, and by the pods that they select.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    stored::StoredObject,
};

use super::behavior::Past;
use crate::controllers::by_label::entry;

/// What is remembered of one.
#[derive(Clone, Default)]
pub struct Known {
    pub uid: String,
    pub past: Past,
    pub selector: Option<LabelSelector>,
    pub looked: Option<(Timestamp, HorizontalPodAutoscalerSpec)>,
}

/// See the module.
#[derive(Default)]
pub struct Autoscalers {
    known: HashMap<ObjectKey, Known>,
    /// Under a label that their pods must have, or their namespace alone where there is none.
    by_label: HashMap<String, BTreeSet<ObjectKey>>,
}

fn place(key: &ObjectKey, known: &Known) -> Option<String> {
    let selector = known.selector.as_ref()?;
    let required = selector.required_labels().next();
    Some(required.map_or_else(|| format!("{}/", key.namespace), |(label, value)| entry(&key.namespace, label, value)))
}

impl Autoscalers {
    pub fn get(&self, key: &ObjectKey) -> Option<&Known> {
        self.known.get(key)
    }

    pub fn insert(&mut self, key: ObjectKey, known: Known) {
        self.remove(&key);
        if let Some(place) = place(&key, &known) {
            self.by_label.entry(place).or_default().insert(key.clone());
        }
        self.known.insert(key, known);
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(place) = self.known.remove(key).and_then(|known| place(key, &known)) else { return };
        if let Some(keys) = self.by_label.get_mut(&place) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_label.remove(&place);
            }
        }
    }

    /// An autoscaler, and the others of its namespace that select one of these pods, in order.
    pub fn sharing(&self, key: &ObjectKey, pods: &[Arc<StoredObject>]) -> Vec<ObjectKey> {
        let mut sharing = BTreeSet::from([key.clone()]);
        for pod in pods {
            let labels = &pod.meta().labels;
            let filed = labels.iter().map(|(label, value)| entry(&key.namespace, label, value));
            let places = filed.chain([format!("{}/", key.namespace)]);
            for other in places.filter_map(|place| self.by_label.get(&place)).flatten() {
                let selector = self.known.get(other).and_then(|known| known.selector.as_ref());
                if !sharing.contains(other) && selector.is_some_and(|selector| selector.matches_projection(labels)) {
                    sharing.insert(other.clone());
                }
            }
        }
        sharing.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::meta::Object;

    use super::*;

    #[test]
    fn those_that_select_the_same_pods_are_found_until_they_are_forgotten() {
        let mut autoscalers = Autoscalers::default();
        let key = |namespace: &str, name: &str| ObjectKey::new(namespace, name);
        for (namespace, name, selector) in
            [("n", "a", "app=web"), ("n", "b", "tier=x,app=web"), ("n", "c", "app in (web,db)"), ("n", "d", "app=db"), ("m", "a", "app=web")]
        {
            let selector = Some(LabelSelector::parse(selector).expect("parses"));
            autoscalers.insert(key(namespace, name), Known { selector, ..Known::default() });
        }
        let pod = |labels: serde_json::Value| {
            let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "labels": labels}});
            Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
        };
        let pods = [pod(json!({"app": "web"})), pod(json!({"app": "web", "tier": "x"}))];
        let names = |autoscalers: &Autoscalers| -> Vec<String> {
            autoscalers.sharing(&key("n", "a"), &pods).iter().map(|key| format!("{}/{}", key.namespace, key.name)).collect()
        };
        assert_eq!(names(&autoscalers), ["n/a", "n/b", "n/c"]);
        autoscalers.remove(&key("n", "c"));
        autoscalers.insert(key("n", "b"), Known { selector: Some(LabelSelector::parse("app=db").expect("parses")), ..Known::default() });
        assert_eq!(names(&autoscalers), ["n/a"]);
        autoscalers.remove(&key("n", "a"));
        assert_eq!(names(&autoscalers), ["n/a"], "it counts itself whatever is known of it");
    }
}
