//! What is next for a migration. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::storagemigration::v1beta1::StorageVersionMigration,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use troupe_api::{resources::Resource, service::Verb};

pub const RUNNING: &str = "Running";
pub const SUCCEEDED: &str = "Succeeded";
pub const FAILED: &str = "Failed";
/// How long a resource that was defined just now may not be known yet.
const UNKNOWN_FOR: SignedDuration = SignedDuration::from_secs(60);
/// What a resource must be able to do.
const WANTED: [Verb; 3] = [Verb::Update, Verb::Patch, Verb::List];

/// What is looked at.
pub struct View<'a> {
    pub own: &'a StorageVersionMigration,
    /// All migrations.
    pub others: &'a [Arc<StorageVersionMigration>],
    /// The resource, if it is served.
    pub row: Option<&'a Resource>,
    pub now: Timestamp,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The resource may still turn up.
    Wait,
    /// Says that it runs, first of the definition of a custom resource.
    Run,
    /// Notes how far what is stored may be old.
    NoteRevision,
    /// Writes every object that is as old, and says how it went.
    Migrate,
    Fail(String),
    /// Says that it runs no more, first of the definition.
    Finish,
}

/// The next step; `None` where nothing is to be done, or another migration has its turn.
pub fn plan(view: &View<'_>) -> Option<Action> {
    let own = view.own;
    match (has(own, RUNNING), is_finished(own)) {
        (true, true) => Some(Action::Finish),
        (false, true) => None,
        (false, false) => is_next(view).then_some(Action::Run),
        (true, false) => Some(step(view)),
    }
}

/// The step of one that runs.
fn step(view: &View<'_>) -> Action {
    let noted = view.own.status.as_ref().and_then(|status| status.resource_version.as_deref()).is_some_and(|version| !version.is_empty());
    let Some(row) = view.row else {
        let begun = view.own.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        return match (view.now.duration_since(begun) < UNKNOWN_FOR, noted) {
            (true, _) => Action::Wait,
            (false, false) => Action::Fail("resource does not exist in discovery".to_owned()),
            (false, true) => Action::Fail("migration encountered unhandled error: unable to obtain GVR from discovery".to_owned()),
        };
    };
    if noted {
        return Action::Migrate;
    }
    if WANTED.iter().all(|verb| row.verbs.contains(verb)) {
        return Action::NoteRevision;
    }
    let resource = format!("{}/{}, Resource={}", row.group, row.metadata_version(), row.plural);
    Action::Fail(format!("resource {resource:?} does not support discovery operations: [update patch list]"))
}

/// Whether no other migration of the resource runs, or comes before.
fn is_next(view: &View<'_>) -> bool {
    let place = |one: &StorageVersionMigration| (one.metadata.creation_timestamp.as_ref().map(|time| time.0), one.metadata.name.clone());
    let rivals = view.others.iter().filter(|other| resource(other) == resource(view.own) && other.metadata.uid != view.own.metadata.uid);
    !rivals.filter(|other| !is_finished(other)).any(|other| has(other, RUNNING) || place(other) < place(view.own))
}

/// The group and the plural name of what is to be migrated.
pub fn resource(migration: &StorageVersionMigration) -> (&str, &str) {
    migration.spec.as_ref().map_or(("", ""), |spec| (spec.resource.group.as_str(), spec.resource.resource.as_str()))
}

/// Whether a condition holds.
pub fn has(migration: &StorageVersionMigration, condition: &str) -> bool {
    let conditions = migration.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|one| one.type_ == condition && one.status == "True")
}

fn is_finished(migration: &StorageVersionMigration) -> bool {
    has(migration, SUCCEEDED) || has(migration, FAILED)
}

/// The migration with a condition that was not there.
pub fn with_condition(migration: &StorageVersionMigration, kind: &str, reason: &str, message: &str, now: Timestamp) -> StorageVersionMigration {
    let mut new = migration.clone();
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    if !conditions.iter().any(|one| one.type_ == kind) {
        let (kind, reason, message) = (kind.into(), reason.into(), message.into());
        conditions.push(Condition {
            type_: kind,
            status: "True".into(),
            reason,
            message,
            last_transition_time: Time(now),
            observed_generation: None,
        });
    }
    new
}

/// The migration that runs no more.
pub fn finished(migration: &StorageVersionMigration, now: Timestamp) -> StorageVersionMigration {
    let mut new = migration.clone();
    let generation = migration.metadata.generation;
    for condition in new.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()).filter(|one| one.type_ == RUNNING) {
        condition.status = "False".into();
        condition.reason = "MigrationCompleted".into();
        condition.message = "Migration completed".into();
        condition.last_transition_time = Time(now);
        condition.observed_generation = generation;
    }
    new
}
