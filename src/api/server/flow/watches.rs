//! How many clients watch what: each of them makes a write that it hears of more work.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use troupe_api::meta::{FieldSelector, GroupResource};

/// A resource, a namespace or nothing, a name or nothing.
type Watched = (GroupResource, Box<str>, Box<str>);

/// The watches of one server's clients. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<HashMap<Watched, usize>>>);

/// One watch; counts until it is dropped.
#[derive(Debug)]
pub struct Watching {
    watches: Watches,
    watched: Watched,
}

impl Watches {
    /// A watch of what has this namespace and name, of everything where they are empty. Of pods only those are counted that do not select
    /// by node: one of the others hears of a pod.
    pub fn begin(&self, resource: GroupResource, namespace: &str, name: &str, fields: &FieldSelector) -> Option<Watching> {
        if &*resource.resource == "pods" && fields.required_value("spec.nodeName").is_some_and(|node| !node.is_empty()) {
            return None;
        }
        let watched = (resource, namespace.into(), name.into());
        *self.0.lock().entry(watched.clone()).or_default() += 1;
        Some(Watching { watches: self.clone(), watched })
    }

    /// How many may hear of a write to this namespace and name.
    pub fn interested(&self, resource: &GroupResource, namespace: &str, name: &str) -> usize {
        let watches = self.0.lock();
        if watches.is_empty() {
            return 0;
        }
        let count = |namespace: &str, name: &str| watches.get(&(resource.clone(), namespace.into(), name.into())).copied().unwrap_or(0);
        let mut all = count("", "");
        if !namespace.is_empty() {
            all += count(namespace, "");
        }
        if !name.is_empty() {
            all += count(namespace, name);
        }
        all
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watches = self.watches.0.lock();
        if let Some(count) = watches.get_mut(&self.watched) {
            *count -= 1;
            if *count == 0 {
                watches.remove(&self.watched);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_heard_of_by_those_who_watch_all_its_namespace_or_it() {
        let (watches, maps, pods) = (Watches::default(), GroupResource::new("", "configmaps"), GroupResource::new("", "pods"));
        let none = FieldSelector::default();
        let begin = |namespace: &str, name: &str| watches.begin(maps.clone(), namespace, name, &none).expect("counts");
        let watching = [begin("", ""), begin("a", ""), begin("a", "x"), begin("b", "")];
        assert_eq!(watches.interested(&maps, "a", "x"), 3);
        assert_eq!((watches.interested(&maps, "a", "y"), watches.interested(&maps, "b", ""), watches.interested(&maps, "c", "x")), (2, 2, 1));
        assert_eq!(watches.interested(&pods, "a", "x"), 0);
        let of_node = FieldSelector::parse("spec.nodeName=one").expect("a selector");
        assert!(watches.begin(pods.clone(), "", "", &of_node).is_none());
        let unbound = FieldSelector::parse("spec.nodeName=").expect("a selector");
        let scheduler = watches.begin(pods.clone(), "", "", &unbound);
        assert_eq!(watches.interested(&pods, "a", "x"), 1);
        drop((watching, scheduler));
        assert!(watches.0.lock().is_empty());
    }
}
