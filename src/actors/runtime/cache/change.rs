//! What subscribers hear of: versions of objects that are decoded when somebody looks, once for all who do.

use std::{cell::OnceCell, sync::Arc};

use troupe_api::{
    meta::{Cause, ObjectKey},
    projection::{Labels, MetaProjection},
    stored::{KubeObject, StoredObject},
};

use super::decoded;

/// One version of an object. Its metadata is always there; the rest is decoded when first asked for.
#[derive(Debug)]
pub struct Version<K> {
    stored: Arc<StoredObject>,
    object: OnceCell<Option<Arc<K>>>,
}

impl<K: KubeObject> Version<K> {
    pub fn new(stored: Arc<StoredObject>) -> Self {
        Version { stored, object: OnceCell::new() }
    }

    pub fn object(&self) -> Option<&Arc<K>> {
        self.object.get_or_init(|| decoded(&self.stored)).as_ref()
    }

    pub fn meta(&self) -> &MetaProjection {
        self.stored.meta()
    }

    pub fn stored(&self) -> &Arc<StoredObject> {
        &self.stored
    }
}

/// What happened to a key: added (nothing before), removed (nothing after) or changed. A key reused under another UID is two
/// changes.
#[derive(Debug)]
pub struct Change<K> {
    pub key: ObjectKey,
    pub cause: Cause,
    before: Option<Version<K>>,
    after: Option<Version<K>>,
}

impl<K: KubeObject> Change<K> {
    /// A change between two versions as they are stored.
    pub fn between(key: ObjectKey, before: Option<Arc<StoredObject>>, after: Option<Arc<StoredObject>>, cause: Cause) -> Self {
        Change { key, cause, before: before.map(Version::new), after: after.map(Version::new) }
    }

    /// The same, or a removal and an addition where these are two objects.
    pub(super) fn split(key: &ObjectKey, before: Option<Version<K>>, after: Option<Version<K>>, cause: &Cause) -> Vec<Self> {
        let change = |before, after| Change { key: key.clone(), cause: cause.clone(), before, after };
        match (&before, &after) {
            (Some(old), Some(new)) if old.meta().uid != new.meta().uid => vec![change(before, None), change(None, after)],
            _ => vec![change(before, after)],
        }
    }

    pub fn is_addition(&self) -> bool {
        self.before.is_none()
    }

    pub fn is_removal(&self) -> bool {
        self.after.is_none()
    }

    /// The object as it was, decoded.
    pub fn before(&self) -> Option<&Arc<K>> {
        self.before.as_ref().and_then(Version::object)
    }

    /// The object as it is, decoded.
    pub fn after(&self) -> Option<&Arc<K>> {
        self.after.as_ref().and_then(Version::object)
    }

    /// The object as it is stored now; nothing is decoded.
    pub fn stored_after(&self) -> Option<&Arc<StoredObject>> {
        self.after.as_ref().map(Version::stored)
    }

    /// The object as it was and as it is, decoded, as far as there are such.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<K>> {
        self.before().into_iter().chain(self.after())
    }

    /// The metadata as they were; nothing is decoded for them.
    pub fn meta_before(&self) -> Option<&MetaProjection> {
        self.before.as_ref().map(Version::meta)
    }

    /// The metadata as they are; nothing is decoded for them.
    pub fn meta_after(&self) -> Option<&MetaProjection> {
        self.after.as_ref().map(Version::meta)
    }

    /// The labels as they were and as they are; nothing is decoded for them.
    pub fn labels(&self) -> impl Iterator<Item = &Labels> + Clone {
        self.meta_before().into_iter().chain(self.meta_after()).map(|meta| &meta.labels)
    }
}
