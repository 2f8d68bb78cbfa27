//! How far a walk over a cache has come, in key order. Changes of what it has passed are news; what is ahead it will see as it
//! is then. So nothing is missed or told twice, without a copy of what is being walked over.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;
use troupe_api::{meta::ObjectKey, stored::StoredObject};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    Nothing,
    UpTo(ObjectKey),
    Everything,
}

impl Cursor {
    /// Whether the walk has passed this key.
    pub fn covers(&self, key: &ObjectKey) -> bool {
        match self {
            Cursor::Nothing => false,
            Cursor::UpTo(last) => key <= last,
            Cursor::Everything => true,
        }
    }

    /// What is ahead.
    pub fn rest_of<'a>(&self, objects: &'a OrdMap<ObjectKey, Arc<StoredObject>>) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<StoredObject>)> {
        let ahead = match self {
            Cursor::Nothing => Some(Bound::Unbounded),
            Cursor::UpTo(last) => Some(Bound::Excluded(last.clone())),
            Cursor::Everything => None,
        };
        ahead.map(|begin| objects.range((begin, Bound::Unbounded))).into_iter().flatten()
    }
}
