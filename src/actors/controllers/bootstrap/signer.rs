//! `bootstrapsigner`: the ConfigMap `cluster-info` carries one signature for each token that may sign.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use troupe_api::{
    auth::bootstrap_tokens::{self, NAMESPACE, SIGNATURE_PREFIX, sign_detached, signing_token},
    meta::{FieldSelector, ObjectKey},
    service::WatchOptions,
};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const MAP_NAMESPACE: &str = "kube-public";
const MAP: &str = "cluster-info";

/// See the module. Its only key is the ConfigMap.
pub struct BootstrapSigner {
    secrets: Cache<Secret>,
    maps: Cache<ConfigMap>,
}

impl BootstrapSigner {
    pub fn new(caches: &Caches) -> Self {
        let fields = FieldSelector::parse(&format!("metadata.namespace={MAP_NAMESPACE},metadata.name={MAP}")).expect("a valid selector");
        let maps = caches.selected(" cluster-info", WatchOptions { fields, ..WatchOptions::default() });
        BootstrapSigner { secrets: super::tokens(caches), maps }
    }
}

/// The map with the signatures it should have; `None` when it has them, or nothing to sign.
fn plan(map: &ConfigMap, secrets: &[Arc<Secret>], now: Timestamp) -> Option<ConfigMap> {
    let data = map.data.as_ref()?;
    let content = data.get("kubeconfig")?;
    let unsigned = data.iter().filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX)).map(|(key, value)| (key.clone(), value.clone()));
    let signed = secrets.iter().filter_map(|secret| signing_token(secret, now));
    let signed = signed.map(|token| (format!("{SIGNATURE_PREFIX}{}", token.id), sign_detached(content, &token)));
    let wanted: BTreeMap<String, String> = unsigned.chain(signed).collect();
    (wanted != *data).then(|| ConfigMap { data: Some(wanted), ..map.clone() })
}

/// When the next token ends, and its signature with it.
fn next_end(secrets: &[Arc<Secret>], now: Timestamp) -> Option<Duration> {
    let ends = secrets.iter().filter_map(|secret| bootstrap_tokens::expires(secret)).filter(|end| *end > now);
    ends.min().and_then(|end| Duration::try_from(end.duration_since(now)).ok())
}

impl Controller for BootstrapSigner {
    const NAME: &'static str = "bootstrapsigner";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.maps, |change| {
            let ours = (&*change.key.namespace, &*change.key.name) == (MAP_NAMESPACE, MAP);
            ours.then(|| change.key.clone()).into_iter().collect()
        });
        watches.map_of(&self.secrets, |change| {
            let token = change.versions().any(|secret| bootstrap_tokens::is_token(secret));
            (token && &*change.key.namespace == NAMESPACE).then(|| ObjectKey::new(MAP_NAMESPACE, MAP)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(map) = self.maps.get(key) else { return Ok(Outcome::Done) };
        let mut secrets = self.secrets.list(NAMESPACE);
        secrets.retain(|secret| bootstrap_tokens::is_token(secret));
        if let Some(signed) = plan(&map.object, &secrets, cx.now()) {
            match cx.client().namespaced::<ConfigMap>(MAP_NAMESPACE).update(&signed).await {
                Ok(written) => cx.wrote(&self.maps, &*written),
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status.into()),
            }
        }
        Ok(next_end(&secrets, cx.now()).map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(id: &str, ends: Option<Timestamp>) -> Arc<Secret> {
        let mut secret: Secret = serde_json::from_value(json!({"metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token"}))
        .expect("a secret");
        let mut data = vec![("token-id", id.to_owned()), ("token-secret", "0123456789abcdef".into()), ("usage-bootstrap-signing", "true".into())];
        data.extend(ends.map(|end| ("expiration", troupe_api::meta::time::format_time(end))));
        secret.data = Some(data.into_iter().map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.into_bytes()))).collect());
        Arc::new(secret)
    }

    #[test]
    fn every_living_token_signs_and_signatures_of_others_go() {
        let now = Timestamp::from_second(1_000).expect("a time");
        let map: ConfigMap = serde_json::from_value(json!({"data": {"kubeconfig": "K", "jws-kubeconfig-gone00": "x"}})).expect("a map");
        let secrets = [token("aaaaaa", None), token("bbbbbb", Some(now))];
        let signed = plan(&map, &secrets, now).expect("changes");
        let keys: Vec<_> = signed.data.as_ref().expect("data").keys().cloned().collect();
        assert_eq!(keys, ["jws-kubeconfig-aaaaaa", "kubeconfig"]);
        assert_eq!(plan(&signed, &secrets, now), None);
        assert_eq!(next_end(&secrets, now - jiff::SignedDuration::from_secs(7)), Some(Duration::from_secs(7)));
    }
}
