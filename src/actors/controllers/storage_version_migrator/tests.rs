use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::storagemigration::v1beta1::StorageVersionMigration;
use serde_json::json;
use troupe_api::{
    resources::{Resource, builtin},
    service::Verb,
};

use super::plan::{Action, FAILED, RUNNING, SUCCEEDED, View, finished, plan, with_condition};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn migration(name: &str, created: i64) -> StorageVersionMigration {
    let created = Timestamp::from_second(created).expect("small").to_string();
    let metadata = json!({"name": name, "uid": name, "creationTimestamp": created});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"resource": {"group": "", "resource": "secrets"}}})).expect("a migration")
}

fn with(migration: StorageVersionMigration, conditions: &[&str]) -> StorageVersionMigration {
    conditions.iter().fold(migration, |migration, kind| with_condition(&migration, kind, "R", "", NOW))
}

fn noted(mut migration: StorageVersionMigration) -> StorageVersionMigration {
    migration.status.get_or_insert_default().resource_version = Some("7".into());
    migration
}

fn secrets() -> Arc<Resource> {
    builtin().into_iter().find(|row| &*row.plural == "secrets").expect("is built in")
}

fn next_of(own: &StorageVersionMigration, others: &[StorageVersionMigration], row: Option<&Resource>, now: Timestamp) -> Option<Action> {
    let others: Vec<_> = others.iter().chain([own]).cloned().map(Arc::new).collect();
    plan(&View { own, others: &others, row, now })
}

#[test]
fn a_migration_runs_notes_where_it_begins_migrates_and_ends() {
    let row = secrets();
    let next = |own: &StorageVersionMigration| next_of(own, &[], Some(&row), NOW);
    let own = migration("a", 0);
    assert_eq!(next(&own), Some(Action::Run));
    let running = with(own, &[RUNNING]);
    assert_eq!(next(&running), Some(Action::NoteRevision));
    let noted = noted(running);
    assert_eq!(next(&noted), Some(Action::Migrate));
    for end in [SUCCEEDED, FAILED] {
        let ended = with(noted.clone(), &[end]);
        assert_eq!(next(&ended), Some(Action::Finish));
        assert_eq!(next(&finished(&ended, NOW)), None, "nothing is left to do");
    }
}

#[test]
fn of_one_resource_the_oldest_runs_alone() {
    let row = secrets();
    let next = |own: &StorageVersionMigration, others: &[StorageVersionMigration]| next_of(own, others, Some(&row), NOW);
    let (old, new) = (migration("b", 1), migration("a", 2));
    assert_eq!((next(&old, std::slice::from_ref(&new)), next(&new, std::slice::from_ref(&old))), (Some(Action::Run), None));
    let equal = migration("c", 1);
    assert_eq!((next(&old, std::slice::from_ref(&equal)), next(&equal, std::slice::from_ref(&old))), (Some(Action::Run), None));
    let running = with(new.clone(), &[RUNNING]);
    assert_eq!(next(&old, &[running]), None, "another one runs");
    let ended = finished(&with(old, &[RUNNING, SUCCEEDED]), NOW);
    assert_eq!(next(&new, &[ended]), Some(Action::Run));
    let mut elsewhere = migration("d", 0);
    elsewhere.spec.as_mut().expect("has one").resource.resource = "pods".into();
    assert_eq!(next(&new, &[elsewhere]), Some(Action::Run));
}

#[test]
fn a_resource_that_nobody_serves_is_waited_for_a_minute() {
    let running = with(migration("a", 0), &[RUNNING]);
    let at = |seconds: i64| NOW + SignedDuration::from_secs(seconds);
    assert_eq!(next_of(&running, &[], None, at(59)), Some(Action::Wait));
    assert_eq!(next_of(&running, &[], None, at(60)), Some(Action::Fail("resource does not exist in discovery".into())));
    let noted = noted(running);
    let why = "migration encountered unhandled error: unable to obtain GVR from discovery";
    assert_eq!(next_of(&noted, &[], None, at(60)), Some(Action::Fail(why.into())));
}

#[test]
fn what_cannot_be_listed_or_written_fails_at_once() {
    let mut row = Resource::clone(&secrets());
    row.verbs.retain(|verb| *verb != Verb::Patch);
    let running = with(migration("a", 0), &[RUNNING]);
    let why = "resource \"/v1, Resource=secrets\" does not support discovery operations: [update patch list]";
    assert_eq!(next_of(&running, &[], Some(&row), NOW), Some(Action::Fail(why.into())));
}
