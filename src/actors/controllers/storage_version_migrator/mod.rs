//! Brings what is stored into the version that is for storage, as StorageVersionMigrations ask
//! (`pkg/controller/storageversionmigrator`).
//!
//! In: migrations, the resource table, definitions. Out: the conditions of migrations and of the definition of a custom resource, and writes
//! that change nothing but the form in which an object lies in the store. One migration of a resource runs at a time, the oldest first.

mod apply;
mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::storagemigration::v1beta1::StorageVersionMigration;
use troupe_api::meta::ObjectKey;

use self::plan::{Action, View};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// When a resource that is not served is looked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// See the module. Keys are migrations.
pub struct StorageVersionMigrator {
    migrations: Cache<StorageVersionMigration>,
}

impl StorageVersionMigrator {
    pub fn new(caches: &Caches) -> Self {
        StorageVersionMigrator { migrations: caches.cache() }
    }
}

impl Controller for StorageVersionMigrator {
    const NAME: &'static str = "storage-version-migrator";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<StorageVersionMigration>();
        let all = self.migrations.clone();
        // One that has ended, or is gone, lets the next one of its resource begin.
        watches.map::<StorageVersionMigration>(move |_| {
            all.list("").iter().filter_map(|one| one.metadata.name.clone()).map(ObjectKey::cluster).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(own) = self.migrations.get(key) else { return Ok(Outcome::Done) };
        let others = self.migrations.list("");
        let (group, plural) = plan::resource(&own.object);
        let row = cx.client().service().registry().by_resource(group, plural);
        let view = View { own: &own.object, others: &others, row: row.as_deref(), now: cx.now() };
        match plan::plan(&view) {
            None => Ok(Outcome::Done),
            Some(Action::Wait) => Ok(Outcome::RequeueAfter(AGAIN)),
            Some(action) => {
                let written = apply::apply(&action, &own.object, row, cx).await?;
                cx.wrote(&self.migrations, &*written);
                Ok(Outcome::Done)
            }
        }
    }
}
