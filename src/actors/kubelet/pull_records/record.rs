//! What is written down of a pulled image, in upstream's format (`kubelet.config.k8s.io/v1beta1`), and what credentials it grants. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use troupe_api::meta::time::format_time;

use crate::kubelet::credentials::{Coordinates, Credential, Source};

pub(super) const GROUP_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "ImagePulledRecord";
/// Secrets, accounts and names that are written down of one image: whoever falls out pulls again.
const MOST: usize = 100;

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePulledRecord {
    pub kind: String,
    pub api_version: String,
    /// RFC 3339, whole seconds.
    pub last_updated_time: String,
    /// The runtime's id of it.
    pub image_ref: String,
    /// By the image's name in pods, without tag and digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credential_mapping: BTreeMap<String, ImagePullCredentials>,
}

/// What an image was pulled with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePullCredentials {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_secrets: Vec<ImagePullSecret>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_service_accounts: Vec<Coordinates>,
    /// With what all pods of the node have, or with nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub node_pods_accessible: bool,
}

/// A secret that it was pulled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    #[serde(flatten)]
    pub secret: Coordinates,
    /// Of the credential in it.
    pub credential_hash: String,
}

/// What credentials are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Denied,
    /// And what is to be written down of them.
    Granted(Option<ImagePullCredentials>),
}

impl ImagePulledRecord {
    /// Of an image of which nobody knows what it was pulled with.
    pub fn new(image_ref: &str, now: Timestamp) -> Self {
        ImagePulledRecord {
            kind: KIND.into(),
            api_version: GROUP_VERSION.into(),
            last_updated_time: format_time(now),
            image_ref: image_ref.to_owned(),
            credential_mapping: BTreeMap::new(),
        }
    }

    /// Takes in what the image was pulled with under a name.
    pub fn merge(&mut self, name: &str, credentials: &ImagePullCredentials, now: Timestamp) {
        self.last_updated_time = format_time(now);
        if !self.credential_mapping.contains_key(name) && self.credential_mapping.len() >= MOST {
            self.credential_mapping.pop_first();
        }
        self.credential_mapping.entry(name.to_owned()).or_default().merge(credentials);
    }
}

impl ImagePullCredentials {
    /// Those of a pull with a credential, or without one.
    pub fn of(credential: Option<&Credential>) -> Self {
        let mut all = ImagePullCredentials::default();
        match credential.and_then(|credential| Some((credential, credential.source.as_ref()?))) {
            None => all.node_pods_accessible = true,
            Some((credential, Source::Secret(secret))) => {
                all.kubernetes_secrets.push(ImagePullSecret { secret: secret.clone(), credential_hash: credential.hash.clone() });
            }
            Some((_, Source::ServiceAccount(account))) => all.kubernetes_service_accounts.push(account.clone()),
        }
        all
    }

    /// What all may use needs no credentials any more.
    fn merge(&mut self, more: &ImagePullCredentials) {
        if self.node_pods_accessible || more.node_pods_accessible {
            *self = ImagePullCredentials { node_pods_accessible: true, ..ImagePullCredentials::default() };
            return;
        }
        for secret in &more.kubernetes_secrets {
            put(&mut self.kubernetes_secrets, secret, |known| &known.secret);
        }
        for account in &more.kubernetes_service_accounts {
            put(&mut self.kubernetes_service_accounts, account, |known| known);
        }
    }

    /// What a pod's credentials for the image are worth. A secret that was renamed counts by what is in it, one that was changed by its name.
    pub fn access(&self, shown: &[Credential]) -> Access {
        let mut by_name = None;
        for credential in shown {
            match &credential.source {
                Some(Source::Secret(secret)) => {
                    let same = self.kubernetes_secrets.iter().filter(|known| known.credential_hash == credential.hash);
                    let mut same = same.peekable();
                    if same.peek().is_some() {
                        let is_known = same.any(|known| known.secret == *secret);
                        return Access::Granted((!is_known).then(|| ImagePullCredentials::of(Some(credential))));
                    }
                    if self.kubernetes_secrets.iter().any(|known| known.secret == *secret) {
                        by_name = by_name.or(Some(credential));
                    }
                }
                Some(Source::ServiceAccount(account)) if self.kubernetes_service_accounts.contains(account) => return Access::Granted(None),
                _ => {}
            }
        }
        by_name.map_or(Access::Denied, |credential| Access::Granted(Some(ImagePullCredentials::of(Some(credential)))))
    }
}

/// Puts one in its place in a list that is sorted by namespace and name.
fn put<T: Clone>(list: &mut Vec<T>, new: &T, whose: impl Fn(&T) -> &Coordinates) {
    let order = |one: &T| {
        let Coordinates { uid, namespace, name } = whose(one);
        (namespace.clone(), name.clone(), uid.clone())
    };
    match list.binary_search_by_key(&order(new), order) {
        Ok(at) => list[at] = new.clone(),
        Err(mut at) => {
            if list.len() >= MOST {
                // Any but the new one.
                let last = at == list.len();
                let falls_out = if last { 0 } else { list.len() - 1 };
                list.remove(falls_out);
                at = if last { at - 1 } else { at };
            }
            list.insert(at, new.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, password: &str) -> Credential {
        let coordinates = Coordinates { uid: format!("u-{name}"), namespace: "a".into(), name: name.into() };
        Credential::basic("me", password, Some(Source::Secret(coordinates)))
    }

    fn account(name: &str) -> Credential {
        let coordinates = Coordinates { uid: "u".into(), namespace: "a".into(), name: name.into() };
        Credential::basic("me", "p", Some(Source::ServiceAccount(coordinates)))
    }

    #[test]
    fn who_has_what_it_was_pulled_with_may_use_it() {
        let mut known = ImagePullCredentials::of(Some(&secret("s", "p")));
        known.merge(&ImagePullCredentials::of(Some(&account("robot"))));
        let learnt = |credential: &Credential| Access::Granted(Some(ImagePullCredentials::of(Some(credential))));
        assert_eq!(known.access(&[secret("s", "p")]), Access::Granted(None));
        assert_eq!(known.access(&[secret("x", "q"), secret("t", "p")]), learnt(&secret("t", "p")), "the same in another secret");
        assert_eq!(known.access(&[secret("s", "q")]), learnt(&secret("s", "q")), "the secret has another password now");
        assert_eq!(known.access(&[account("robot")]), Access::Granted(None));
        assert_eq!(known.access(&[account("other"), secret("t", "q"), Credential::basic("me", "p", None)]), Access::Denied);
        assert_eq!(known.access(&[]), Access::Denied);
        known.merge(&ImagePullCredentials::of(None));
        assert_eq!(known, ImagePullCredentials { node_pods_accessible: true, ..Default::default() }, "it was pulled without any");
    }

    #[test]
    fn records_are_upstreams_and_stay_small() {
        let mut record = ImagePulledRecord::new("sha256:1", Timestamp::UNIX_EPOCH);
        record.merge("registry.example/a", &ImagePullCredentials::of(Some(&secret("s", "p"))), Timestamp::UNIX_EPOCH);
        let text = json!({"kind": "ImagePulledRecord", "apiVersion": "kubelet.config.k8s.io/v1beta1", "lastUpdatedTime": "1970-01-01T00:00:00Z",
            "imageRef": "sha256:1", "credentialMapping": {"registry.example/a": {"kubernetesSecrets": [
                {"uid": "u-s", "namespace": "a", "name": "s", "credentialHash": secret("s", "p").hash}]}}});
        assert_eq!(serde_json::to_value(&record).expect("encodes"), text);
        assert_eq!(serde_json::from_value::<ImagePulledRecord>(text).expect("decodes"), record);
        for number in 0..2 * MOST {
            let names = [format!("z{number:03}"), format!("b{number:03}")];
            for name in &names {
                record.merge("registry.example/a", &ImagePullCredentials::of(Some(&secret(name, "p"))), Timestamp::UNIX_EPOCH);
                let list = &record.credential_mapping["registry.example/a"].kubernetes_secrets;
                assert!(list.len() <= MOST && list.iter().any(|known| known.secret.name == *name), "{name}");
                assert!(list.is_sorted_by_key(|known| known.secret.name.clone()));
            }
            record.merge(&names[0], &ImagePullCredentials::of(None), Timestamp::UNIX_EPOCH);
            assert!(record.credential_mapping.len() <= MOST && record.credential_mapping.contains_key(&names[0]));
            record.merge("registry.example/a", &ImagePullCredentials::of(Some(&secret("s", "p"))), Timestamp::UNIX_EPOCH);
        }
    }
}
