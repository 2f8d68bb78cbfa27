//! Token secrets: a secret of type `kubernetes.io/service-account-token` gets its token, and goes with its account. One that is
//! gone its account lists no longer.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use parking_lot::Mutex;
use troupe_api::{
    auth::tokens::Issuer,
    meta::{FieldSelector, ObjectKey},
    service::{DeleteOptions, WatchOptions},
};

use super::writes::is_gone;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const TYPE: &str = "kubernetes.io/service-account-token";
pub(super) const ACCOUNT: &str = "kubernetes.io/service-account.name";
pub(super) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// See the module. Keys are secrets.
pub struct TokenSecretController {
    secrets: Cache<Secret>,
    issuer: Arc<Issuer>,
    ca_pem: Arc<str>,
    /// The accounts of secrets that are gone, by secret.
    gone: Arc<Mutex<HashMap<ObjectKey, Owner>>>,
}

/// Whose token a secret holds, or held.
#[derive(Clone, Debug)]
struct Owner {
    account: String,
    /// May be empty.
    uid: String,
}

impl Owner {
    fn of(secret: &Secret) -> Self {
        Owner { account: annotation(secret, ACCOUNT).to_owned(), uid: annotation(secret, ACCOUNT_UID).to_owned() }
    }

    fn is(&self, account: &ServiceAccount) -> bool {
        self.uid.is_empty() || account.metadata.uid.as_ref() == Some(&self.uid)
    }
}

impl TokenSecretController {
    pub fn new(caches: &Caches, issuer: Arc<Issuer>, ca_pem: impl Into<Arc<str>>) -> Self {
        TokenSecretController { secrets: secrets(caches), issuer, ca_pem: ca_pem.into(), gone: Arc::default() }
    }
}

/// The secrets of that type.
pub(super) fn secrets(caches: &Caches) -> Cache<Secret> {
    let fields = FieldSelector::parse(&format!("type={TYPE}")).expect("a valid selector");
    caches.selected(" of service accounts", WatchOptions { fields, ..WatchOptions::default() })
}

pub(super) fn annotation<'a>(secret: &'a Secret, name: &str) -> &'a str {
    secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).map_or("", String::as_str)
}

/// What a secret needs.
#[derive(Debug, PartialEq)]
enum Action {
    /// Its account is gone, or is another one now.
    Delete,
    /// Some of its data is missing or out of date.
    Fill { token: bool },
}

fn plan(secret: &Secret, account: Option<&ServiceAccount>, ca_pem: &str) -> Option<Action> {
    let bound_to = annotation(secret, ACCOUNT_UID);
    let uid = account.and_then(|account| account.metadata.uid.as_deref());
    if uid.is_none_or(|uid| !bound_to.is_empty() && bound_to != uid) {
        return Some(Action::Delete);
    }
    let data = |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).map_or(&[][..], |value| &value.0);
    let token = data("token").is_empty();
    let stale = token || data("ca.crt") != ca_pem.as_bytes() || data("namespace").is_empty();
    stale.then_some(Action::Fill { token })
}

/// The account without a secret in its list; `None` if it does not list it.
fn without(account: &ServiceAccount, secret: &str) -> Option<ServiceAccount> {
    let listed = account.secrets.as_ref()?;
    let others: Vec<_> = listed.iter().filter(|reference| reference.name.as_deref() != Some(secret)).cloned().collect();
    (others.len() < listed.len()).then(|| ServiceAccount { secrets: Some(others).filter(|others| !others.is_empty()), ..account.clone() })
}

impl TokenSecretController {
    /// A secret is gone: its account lists it no longer.
    async fn unlist(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let Some(owner) = self.gone.lock().remove(key) else { return Ok(()) };
        let written = self.unlist_from(&owner, key, cx).await;
        if written.is_err() {
            self.gone.lock().insert(key.clone(), owner);
        }
        written
    }

    async fn unlist_from(&self, owner: &Owner, key: &ObjectKey, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let api = cx.client().namespaced::<ServiceAccount>(key.namespace.clone());
        let account = api.get_opt(&owner.account).await?.filter(|account| owner.is(account));
        let Some(updated) = account.and_then(|account| without(&account, &key.name)) else { return Ok(()) };
        match api.update(&updated).await {
            Err(status) if !is_gone(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }

    /// The secret with everything it should hold.
    fn filled(&self, secret: &Secret, account: &ServiceAccount, new_token: bool) -> Result<Secret, ReconcileError> {
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        let (name, uid) = (account.metadata.name.clone().unwrap_or_default(), account.metadata.uid.clone().unwrap_or_default());
        let mut updated = secret.clone();
        let data = updated.data.get_or_insert_default();
        data.insert("ca.crt".into(), ByteString(self.ca_pem.as_bytes().to_vec()));
        data.entry("namespace".into()).or_insert_with(|| ByteString(namespace.clone().into_bytes()));
        if new_token {
            let key = ObjectKey::new(namespace, name.as_str());
            let token = self.issuer.issue_legacy(&key, &uid, secret.metadata.name.as_deref().unwrap_or_default());
            data.insert("token".into(), ByteString(token.map_err(|error| ReconcileError::Other(error.to_string()))?.into_bytes()));
        }
        updated.metadata.annotations.get_or_insert_default().extend([(ACCOUNT.to_owned(), name), (ACCOUNT_UID.to_owned(), uid)]);
        Ok(updated)
    }
}

impl Controller for TokenSecretController {
    const NAME: &'static str = "token-secrets";

    fn watches(&self, watches: &mut Watches<'_>) {
        let gone = self.gone.clone();
        watches.map_of(&self.secrets, move |change| {
            if change.is_removal()
                && let Some(secret) = change.before()
            {
                gone.lock().insert(change.key.clone(), Owner::of(secret));
            }
            vec![change.key.clone()]
        });
        let secrets = self.secrets.clone();
        watches.map::<ServiceAccount>(move |change| {
            if !change.is_removal() {
                return Vec::new();
            }
            let of_account = secrets.list(&change.key.namespace).into_iter().filter(|secret| annotation(secret, ACCOUNT) == &*change.key.name);
            of_account.map(|secret| ObjectKey::new(change.key.namespace.clone(), secret.metadata.name.clone().unwrap_or_default())).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(secret) = self.secrets.get(key) else {
            self.unlist(key, cx).await?;
            return Ok(Outcome::Done);
        };
        let secret = secret.object;
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let account = cx.client().namespaced::<ServiceAccount>(key.namespace.clone()).get_opt(annotation(&secret, ACCOUNT)).await?;
        let api = cx.client().namespaced::<Secret>(key.namespace.clone());
        match (plan(&secret, account.as_deref(), &self.ca_pem), account) {
            (Some(Action::Fill { token }), Some(account)) => match api.update(&self.filled(&secret, &account, token)?).await {
                Ok(written) => cx.wrote(&self.secrets, &*written),
                Err(status) if is_gone(&status) => {}
                Err(status) => return Err(status.into()),
            },
            (Some(_), _) => {
                let uid = secret.metadata.uid.clone().unwrap_or_default();
                let revision = secret.metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
                let options = DeleteOptions { precondition_uid: Some(uid.clone()), precondition_revision: revision, ..DeleteOptions::default() };
                match api.delete(&key.name, options).await {
                    Ok(()) => cx.deleted(&self.secrets, key.clone(), uid),
                    Err(status) if is_gone(&status) => {}
                    Err(status) => return Err(status.into()),
                }
            }
            (None, _) => {}
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(uid: &str, data: &[(&str, &str)]) -> Secret {
        let mut secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": "s", "annotations": {ACCOUNT: "bot", ACCOUNT_UID: uid}}})).expect("a secret");
        secret.data = Some(data.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec()))).collect());
        secret
    }

    #[test]
    fn secrets_are_filled_kept_current_and_go_with_their_account() {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "bot", "uid": "u1"}})).expect("an account");
        let whole = [("token", "t"), ("ca.crt", "CA"), ("namespace", "n")];
        assert_eq!(plan(&secret("", &[]), Some(&account), "CA"), Some(Action::Fill { token: true }));
        assert_eq!(plan(&secret("u1", &whole), Some(&account), "CA"), None);
        assert_eq!(plan(&secret("u1", &whole), Some(&account), "new CA"), Some(Action::Fill { token: false }));
        assert_eq!(plan(&secret("u0", &whole), Some(&account), "CA"), Some(Action::Delete));
        assert_eq!(plan(&secret("u1", &whole), None, "CA"), Some(Action::Delete));
    }

    #[test]
    fn an_account_that_lists_a_secret_is_told_apart() {
        let account = |secrets: serde_json::Value| -> ServiceAccount {
            serde_json::from_value(json!({"metadata": {"name": "bot", "uid": "u1"}, "secrets": secrets})).expect("an account")
        };
        let both = without(&account(json!([{"name": "s"}, {"name": "t"}])), "s").expect("lists it");
        assert_eq!(both, account(json!([{"name": "t"}])));
        assert_eq!(without(&account(json!([{"name": "s"}])), "s").expect("lists it").secrets, None);
        assert_eq!(without(&account(json!([{"name": "t"}])), "s"), None);
        let is = |uid: &str| Owner::of(&secret(uid, &[])).is(&account(json!([])));
        assert_eq!([is("u1"), is(""), is("u2")], [true, true, false]);
    }
}
