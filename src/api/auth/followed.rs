//! How far a resource of the watch caches has been followed, for what is brought up to date when somebody asks.

use crate::{
    meta::{GroupResource, Revision},
    service::{ListerChange, ListerState, Listers},
};

/// How far a resource has been followed.
#[derive(Default)]
pub struct Followed {
    version: Option<Revision>,
    state: Option<ListerState>,
}

impl Followed {
    /// Whether nothing has changed up to `version`; never where changes are not counted.
    pub fn is_at(&self, version: Option<Revision>) -> bool {
        version.is_some() && version == self.version
    }

    /// What has changed since the last time.
    pub fn changes(&mut self, listers: &dyn Listers, resource: &GroupResource) -> Vec<ListerChange> {
        let version = listers.version(resource);
        if self.is_at(version) {
            return Vec::new();
        }
        let (state, changes) = listers.changes(resource, self.state.as_ref());
        *self = Followed { version, state: Some(state) };
        changes
    }
}
