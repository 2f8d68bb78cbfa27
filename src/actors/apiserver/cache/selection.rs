//! Which objects a list or watch wants, and what a change looks like through that window.

use std::sync::Arc;

use troupe_api::{
    meta::{FieldSelector, LabelSelector},
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
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selection {
    pub fn matches(&self, object: &StoredObject) -> bool {
        (self.namespace.is_empty() || self.namespace == object.key.namespace)
            && (self.name.is_empty() || self.name == object.key.name)
            && (self.labels.is_everything() || self.labels.matches_projection(&object.meta().labels))
            && (self.fields.is_everything()
                || self.fields.matches_with(|path| object.selectable_field(&*self.resource.strategy, path).unwrap_or_default()))
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
