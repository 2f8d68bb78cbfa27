//! Which objects a list or watch wants, and what a change looks like through that window.

use std::sync::Arc;

use troupe_api::{
    meta::{FieldMatcher, LabelMatcher},
    resources::Resource,
    service::{EventType, WatchItem},
    stored::StoredObject,
};

use super::Change;

/// The objects that a list or watch wants.
#[derive(Clone, Debug)]
pub struct Selection {
    pub resource: Arc<Resource>,
    /// Empty for all.
    pub namespace: Arc<str>,
    /// Empty for all.
    pub name: Arc<str>,
    pub labels: LabelMatcher,
    pub fields: FieldMatcher,
}

impl Selection {
    pub fn matches(&self, object: &StoredObject) -> bool {
        (self.namespace.is_empty() || self.namespace == object.key.namespace)
            && (self.name.is_empty() || self.name == object.key.name)
            && self.labels.matches(&object.meta().labels)
            && self.fields.matches(|path| object.selectable_field(&self.resource, path).unwrap_or_default())
    }

    /// Whether everything there is, in its namespace, is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object has to be decoded for it, unless its fields are known already.
    pub fn reads_documents(&self) -> bool {
        self.fields.paths().any(|path| !path.starts_with("metadata."))
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
