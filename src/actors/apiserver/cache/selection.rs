//! Which objects a list or watch wants, and what a change looks like through that window.

use std::{
    hash::{Hash, Hasher},
    ptr,
    sync::Arc,
};

use troupe_api::{
    meta::{FieldMatcher, LabelMatcher},
    resources::Resource,
    service::{EventType, WatchItem},
    stored::StoredObject,
};

use super::{Change, Delivery};

/// The objects that a list or watch wants. Equal ones show the same.
#[derive(Clone, Debug)]
pub struct Selection {
    pub resource: Arc<Resource>,
    /// Empty for all.
    pub namespace: Arc<str>,
    /// Empty for all.
    pub name: Arc<str>,
    pub labels: LabelMatcher,
    pub fields: FieldMatcher,
    /// The `apiVersion` that is shown, where objects of several lie in the store: those of custom resources.
    pub shows: Option<Arc<str>>,
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.resource, &other.resource)
            && (&self.namespace, &self.name, &self.shows) == (&other.namespace, &other.name, &other.shows)
            && (&self.labels, &self.fields) == (&other.labels, &other.fields)
    }
}

impl Eq for Selection {}

impl Hash for Selection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(Arc::as_ptr(&self.resource), state);
        (&self.namespace, &self.name, &self.shows, &self.labels, &self.fields).hash(state);
    }
}

impl Selection {
    /// What finding out whether a change is selected costs, in bytes of a document that would be as long in work.
    pub fn cost(&self) -> usize {
        const AT_LEAST: usize = 32;
        const PER_CONDITION: usize = 16;
        AT_LEAST + PER_CONDITION * self.labels.len()
    }

    /// Whether an object is selected by its place, which it has in every version.
    pub fn covers(&self, object: &StoredObject) -> bool {
        (self.namespace.is_empty() || self.namespace == object.key.namespace) && (self.name.is_empty() || self.name == object.key.name)
    }

    /// Whether an object is selected that is in the version which is shown.
    pub fn matches(&self, object: &StoredObject) -> bool {
        self.covers(object)
            && self.labels.matches(&object.meta().labels)
            && self.fields.matches(|path| self.resource.selectable_field(object, path).unwrap_or_default())
    }

    /// Whether everything there is, in its namespace, is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object has to be decoded for it, unless its fields are known already.
    pub fn reads_documents(&self) -> bool {
        self.fields.paths().any(|path| !path.starts_with("metadata."))
    }

    /// Whether only a webhook can say whether an object of another version is selected: it may change everything but its place.
    pub fn asks_webhook(&self) -> bool {
        let converts = self.resource.versions().is_some_and(|versions| versions.webhook().is_some());
        converts && (!self.labels.is_everything() || self.reads_documents())
    }

    /// What a watcher gets of a change.
    pub fn deliver(&self, change: &Change) -> Option<Delivery> {
        let both = || change.previous.iter().chain(&change.current);
        let is_other = self.shows.as_ref().is_some_and(|wanted| both().any(|object| object.api_version() != &**wanted));
        if !is_other {
            return self.view(change).map(Delivery::Item);
        }
        let concerns = if self.asks_webhook() { both().any(|object| self.covers(object)) } else { both().any(|object| self.matches(object)) };
        concerns.then(|| Delivery::Change(change.clone()))
    }

    /// What the change means for somebody who sees only the selection.
    pub fn view(&self, change: &Change) -> Option<WatchItem> {
        let before = change.previous.as_ref().filter(|object| self.matches(object));
        let now = change.current.as_ref().filter(|object| self.matches(object));
        let (event, object) = match (before, now) {
            (None, None) => return None,
            (None, Some(object)) => (EventType::Added, object.clone()),
            (Some(_), Some(object)) => (EventType::Modified, object.clone()),
            (Some(object), None) => (EventType::Deleted, Arc::new(object.at_revision(change.revision))),
        };
        Some(WatchItem::Event { event, object, cause: change.cause.clone() })
    }
}
