//! Commits in the runtime's recorder: which write, for what reason, led to which revision.

use std::{sync::Arc, time::Duration};

use troupe_api::{
    meta::{Cause, ObjectKey, ObjectVersion, Revision},
    resources::{Feature, Resource},
};

use crate::runtime::{
    recorder::{Hop, Name},
    system::System,
};

/// Records commits as hops from outside to the resource's path.
pub struct HopRecorder {
    system: System,
    message: Name,
}

impl HopRecorder {
    pub fn new(system: System) -> Self {
        let message = system.recorder().intern("Commit");
        HopRecorder { system, message }
    }

    /// Records that a write committed `key` at `revision`, `took` after it began. News about changes are not recorded among them.
    pub fn committed(&self, resource: &Resource, key: &ObjectKey, revision: Revision, cause: &Cause, took: Duration) {
        if resource.has(Feature::News) {
            return;
        }
        let name: Arc<str> = resource.group_resource().to_string().into();
        let to = self.system.recorder().intern(&format!("apiserver/{name}"));
        let produced = Arc::new(ObjectVersion { resource: name, key: key.clone(), revision });
        let hop = Hop::commit(Name::OUTSIDE, to, self.message, cause.clone(), produced, took);
        if resource.has(Feature::Renewals) { self.system.recorder().renewal(hop) } else { self.system.recorder().keep(hop) }
    }
}
