//! `kube-system/extension-apiserver-authentication`: whom extension servers believe, clients by their certificates and this server as a front
//! proxy. What several API servers say is put together (upstream's clusterauthenticationtrust controller).

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use troupe_api::{
    auth::{
        request_header::{CLIENT_NAME, EXTRA_PREFIX, GROUP, UID, USERNAME},
        x509::facts_of_pem,
    },
    meta::{Clock, GroupResource, ObjectKey},
    service::Listers,
    status::Status,
};

use super::super::{listers::CacheListers, server_client::ServerClient};
use crate::runtime::host::{Unit, UnitContext};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const EVERY: Duration = Duration::from_secs(60);
/// A certificate counts a little longer than it lasts: clocks differ.
const SLACK: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// What this server wants to be believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// PEM of the CA that signs client certificates.
    pub client_ca: Option<String>,
    /// PEM of the CA that signs those of front proxies.
    pub proxy_ca: Option<String>,
}

impl Trust {
    fn data(&self) -> Map<String, Value> {
        let mut data = Map::new();
        data.extend(self.client_ca.as_ref().map(|pem| ("client-ca-file".to_owned(), json!(pem))));
        if let Some(pem) = &self.proxy_ca {
            let list = |values: &[&str]| Value::from(json!(values).to_string());
            data.insert("requestheader-client-ca-file".into(), json!(pem));
            data.insert("requestheader-allowed-names".into(), list(&[CLIENT_NAME]));
            data.insert("requestheader-username-headers".into(), list(&[USERNAME]));
            data.insert("requestheader-uid-headers".into(), list(&[UID]));
            data.insert("requestheader-group-headers".into(), list(&[GROUP]));
            data.insert("requestheader-extra-headers-prefix".into(), list(&[EXTRA_PREFIX]));
        }
        data
    }
}

/// The data that says what is `known` and what is `wanted`: lists and authorities are joined, authorities that have expired are left out. Pure.
fn joined(known: &Value, wanted: &Map<String, Value>, now: Timestamp) -> Map<String, Value> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut data = Map::new();
    for (name, value) in wanted {
        let (known, wanted) = (text(known.get(name)), text(Some(value)));
        let all = if name.ends_with("-file") { authorities(&known, &wanted, now) } else { list(&known, &wanted) };
        data.insert(name.clone(), all.into());
    }
    data
}

fn list(known: &str, wanted: &str) -> String {
    let values = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
    let mut all = values(known);
    for value in values(wanted) {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    json!(all).to_string()
}

fn authorities(known: &str, wanted: &str, now: Timestamp) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let mut all: Vec<String> = Vec::new();
    for block in known.split_inclusive(END).chain(wanted.split_inclusive(END)) {
        let Some(begin) = block.find("-----BEGIN CERTIFICATE-----") else { continue };
        let block = block[begin..].trim().to_owned();
        let lasts = facts_of_pem(block.as_bytes()).is_some_and(|facts| facts.not_after + SLACK > now);
        if lasts && !all.contains(&block) {
            all.push(block);
        }
    }
    all.iter().map(|block| format!("{block}\n")).collect()
}

/// Keeps the ConfigMap. Cheap to clone.
#[derive(Clone)]
pub struct TrustKeeper {
    pub client: ServerClient,
    pub listers: Arc<CacheListers>,
    pub clock: Arc<dyn Clock>,
}

impl TrustKeeper {
    /// Says it where it is not said.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tell(&self, trust: &Trust) -> Result<(), Status> {
        let wanted = trust.data();
        if wanted.is_empty() {
            return Ok(());
        }
        let found = self.listers.get(&GroupResource::new("", "configmaps"), &ObjectKey::new(NAMESPACE, NAME)).map(|found| found.to_object());
        let known = found.as_ref().and_then(|found| found.get(&["data"]).cloned()).unwrap_or_else(|| json!({}));
        let data = joined(&known, &wanted, self.clock.now());
        if data.iter().all(|(name, value)| known.get(name) == Some(value)) {
            return Ok(());
        }
        let mut all = known.as_object().cloned().unwrap_or_default();
        all.extend(data);
        let metadata = json!({"name": NAME, "namespace": NAMESPACE});
        self.client.reconcile(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": all})).await
    }
}

/// The unit at `apiserver/cluster-authentication-trust`.
pub struct AuthenticationTrust {
    keeper: TrustKeeper,
    trust: Trust,
}

impl AuthenticationTrust {
    pub fn new(keeper: TrustKeeper, trust: Trust) -> Self {
        AuthenticationTrust { keeper, trust }
    }
}

impl Unit for AuthenticationTrust {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (keeper, trust) = (self.keeper.clone(), self.trust.clone());
        cx.spawn(async move {
            loop {
                if let Err(error) = keeper.tell(&trust).await {
                    tracing::warn!(%error, "extension servers are not told whom to believe, will retry");
                }
                tokio::time::sleep(EVERY).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::auth::pki::Pki;

    use super::*;

    #[test]
    fn what_two_servers_say_is_joined_once_and_expired_authorities_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, other) = (Pki::open(dir.path()).expect("a CA"), Pki::open_front_proxy(dir.path()).expect("a CA"));
        let trust = |pki: &Pki| Trust { client_ca: Some("junk".into()), proxy_ca: Some(pki.ca_pem().to_owned()) };
        let now = Timestamp::now();
        let first = joined(&json!({}), &trust(&one).data(), now);
        assert_eq!(first["requestheader-allowed-names"], "[\"front-proxy-client\"]");
        assert_eq!(first["requestheader-uid-headers"], "[\"X-Remote-Uid\"]");
        assert_eq!(first["client-ca-file"], "", "what is no certificate is left out");
        let mut known = Value::from(first.clone());
        assert_eq!(joined(&known, &trust(&one).data(), now), first);
        known["requestheader-allowed-names"] = json!("[\"another\"]");
        let both = joined(&known, &trust(&other).data(), now);
        assert_eq!(both["requestheader-allowed-names"], "[\"another\",\"front-proxy-client\"]");
        assert_eq!(both["requestheader-client-ca-file"].as_str().expect("text").matches("BEGIN").count(), 2);
        let later = now + jiff::SignedDuration::from_hours(24 * 3660);
        assert_eq!(joined(&known, &trust(&other).data(), later)["requestheader-client-ca-file"], "");
    }
}
