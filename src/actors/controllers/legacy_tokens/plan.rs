//! Which tokens nobody uses, and what becomes of them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use troupe_api::{
    auth::tokens::usage::{INVALID_SINCE, LAST_USED, day_of, read_day},
    meta::{ObjectKey, Revision, time::shifted},
};

use crate::controllers::token_secrets::{ACCOUNT, ACCOUNT_UID, annotation};

const A_DAY: SignedDuration = SignedDuration::from_hours(24);

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its token is not taken any more.
    MarkInvalid { secret: ObjectKey, uid: String, since: String },
    /// If it still is this version.
    Delete { secret: ObjectKey, revision: Option<Revision> },
}

/// What counts as long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Secrets that were made since are too young.
    created: Timestamp,
    /// Tokens that were used, and secrets that were marked, on this day or later stay as they are.
    day: String,
    today: String,
}

impl Limits {
    /// Those of tokens that nobody used for so long; `None` as long as uses have been noted for less, beginning on the day `tracked`.
    pub fn of(now: Timestamp, unused: SignedDuration, tracked: Date) -> Option<Self> {
        // On the first day some uses may have been missed.
        let since = shifted(tracked.to_zoned(TimeZone::UTC).ok()?.timestamp(), A_DAY);
        if now < shifted(since, unused) {
            return None;
        }
        let created = shifted(now, -unused);
        Some(Limits { created, day: day_of(created), today: day_of(now) })
    }
}

fn label<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// A secret by its key.
pub fn key_of(secret: &Secret) -> ObjectKey {
    ObjectKey::new(secret.metadata.namespace.as_deref().unwrap_or_default(), secret.metadata.name.as_deref().unwrap_or_default())
}

/// The secrets that were made for their service accounts and that nobody has used for long. `account` finds those.
pub fn unused(secrets: &[Arc<Secret>], limits: &Limits, account: impl Fn(&ObjectKey) -> Option<Arc<ServiceAccount>>) -> Vec<Arc<Secret>> {
    secrets.iter().filter(|secret| is_unused(secret, limits) && was_generated(secret, &account)).cloned().collect()
}

/// One without a label was not used since uses are noted; what a label means that is no day nobody knows.
fn is_unused(secret: &Secret, limits: &Limits) -> bool {
    let metadata = &secret.metadata;
    let is_young = metadata.creation_timestamp.as_ref().is_some_and(|created| created.0 >= limits.created);
    let was_used = label(secret, LAST_USED).is_some_and(|day| read_day(day).is_none() || *day >= *limits.day);
    !is_young && metadata.deletion_timestamp.is_none() && !was_used
}

/// Its service account refers to it, as older releases had it. Whoever made one by hand knows what it is for.
fn was_generated(secret: &Secret, account: impl Fn(&ObjectKey) -> Option<Arc<ServiceAccount>>) -> bool {
    let (name, uid) = (annotation(secret, ACCOUNT), annotation(secret, ACCOUNT_UID));
    let account = account(&ObjectKey::new(secret.metadata.namespace.as_deref().unwrap_or_default(), name)).filter(|_| !name.is_empty());
    account.is_some_and(|account| {
        let is_same = uid.is_empty() || account.metadata.uid.as_deref() == Some(uid);
        is_same && account.secrets.iter().flatten().any(|reference| reference.name == secret.metadata.name)
    })
}

/// What becomes of secrets that are [`unused`]. `mentioned` are those that pods may mount, by namespace.
pub fn plan(unused: &[Arc<Secret>], mentioned: &BTreeMap<String, BTreeSet<String>>, limits: &Limits) -> Vec<Action> {
    let is_mentioned = |key: &ObjectKey| mentioned.get(&*key.namespace).is_some_and(|names| names.contains(&*key.name));
    let mut actions = Vec::new();
    for secret in unused {
        let (key, metadata) = (key_of(secret), &secret.metadata);
        if is_mentioned(&key) {
            continue;
        }
        match label(secret, INVALID_SINCE).filter(|day| read_day(day).is_some()) {
            None => actions.push(Action::MarkInvalid { secret: key, uid: metadata.uid.clone().unwrap_or_default(), since: limits.today.clone() }),
            Some(since) if *since >= *limits.day => {}
            Some(_) => {
                let revision = metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
                actions.push(Action::Delete { secret: key, revision });
            }
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAME: &str = "token";

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn limits() -> Limits {
        let year = SignedDuration::from_hours(8760);
        Limits::of(at("2026-06-15T12:00:00Z"), year, Date::constant(2020, 1, 1)).expect("uses are noted for long")
    }

    fn secret(created: &str, labels: Value) -> Arc<Secret> {
        let annotations = json!({ACCOUNT: "bot", ACCOUNT_UID: "u1"});
        let metadata = json!({"name": NAME, "namespace": "n", "uid": "s1", "resourceVersion": "7", "creationTimestamp": created,
            "labels": labels, "annotations": annotations});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "type": "kubernetes.io/service-account-token"})).expect("a secret"))
    }

    fn account(uid: &str, secrets: Value) -> Option<Arc<ServiceAccount>> {
        let metadata = json!({"name": "bot", "namespace": "n", "uid": uid});
        Some(Arc::new(serde_json::from_value(json!({"metadata": metadata, "secrets": secrets})).expect("an account")))
    }

    /// What becomes of a secret of an account that refers to it.
    fn planned(secret: &Arc<Secret>, mentioned: &[&str]) -> Vec<Action> {
        let unused = unused(std::slice::from_ref(secret), &limits(), |key| {
            assert_eq!(key.to_string(), "n/bot");
            account("u1", json!([{"name": NAME}]))
        });
        let names = mentioned.iter().map(|name| (*name).to_owned()).collect();
        plan(&unused, &BTreeMap::from([("n".to_owned(), names)]), &limits())
    }

    const OLD: &str = "2025-06-15T11:59:59Z";

    #[test]
    fn an_unused_token_is_marked_and_goes_when_nobody_missed_it_for_as_long_again() {
        let key = || ObjectKey::new("n", NAME);
        let marked = [Action::MarkInvalid { secret: key(), uid: "s1".into(), since: "2026-06-15".into() }];
        let deleted = [Action::Delete { secret: key(), revision: Some(Revision(7)) }];
        assert_eq!(planned(&secret(OLD, json!({})), &["other"]), marked);
        assert_eq!(planned(&secret(OLD, json!({LAST_USED: "2025-06-14"})), &[]), marked);
        assert_eq!(planned(&secret(OLD, json!({INVALID_SINCE: "no day"})), &[]), marked);
        assert_eq!(planned(&secret(OLD, json!({INVALID_SINCE: "2025-06-15"})), &[]), []);
        assert_eq!(planned(&secret(OLD, json!({INVALID_SINCE: "2025-06-14"})), &[]), deleted);
    }

    #[test]
    fn what_is_young_used_mounted_or_unclear_stays() {
        assert_eq!(planned(&secret("2025-06-15T12:00:00Z", json!({})), &[]), []);
        assert_eq!(planned(&secret(OLD, json!({LAST_USED: "2025-06-15"})), &[]), []);
        assert_eq!(planned(&secret(OLD, json!({LAST_USED: "yesterday"})), &[]), []);
        assert_eq!(planned(&secret(OLD, json!({INVALID_SINCE: "2025-06-14"})), &[NAME]), []);
    }

    #[test]
    fn only_secrets_that_their_account_refers_to_were_made_for_it() {
        let old = [secret(OLD, json!({}))];
        let found = |account: Option<Arc<ServiceAccount>>| unused(&old, &limits(), |_| account.clone()).len();
        let refers = json!([{"name": "other"}, {"name": NAME}]);
        assert_eq!(found(account("u1", refers.clone())), 1);
        assert_eq!(found(account("u2", refers)), 0, "another account of that name");
        assert_eq!(found(account("u1", json!([{"name": "other"}]))), 0);
        assert_eq!(found(None), 0);
    }

    #[test]
    fn nothing_goes_before_uses_were_noted_for_long_enough() {
        let (day, tracked) = (SignedDuration::from_hours(24), Date::constant(2026, 1, 1));
        assert_eq!(Limits::of(at("2026-01-02T23:59:59Z"), day, tracked), None);
        let limits = Limits::of(at("2026-01-03T00:00:00Z"), day, tracked).expect("long enough");
        assert_eq!((limits.day.as_str(), limits.today.as_str()), ("2026-01-02", "2026-01-03"));
    }
}
