//! Gathering what a pod refers to: config maps, secrets, tokens.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;
use troupe_api::Status;

use crate::{
    kubelet::{
        cluster::{Cluster, Token},
        context::NodeContext,
        env::{self, References},
        images, trust_bundles,
        volumes::{
            self,
            claim::{self, Found, Sources},
            payload,
        },
    },
    storage,
};

/// Each is signed, and signed again while the pod lives.
const MOST_TOKENS: usize = 64;

/// The tokens of one pod; asked for again when four fifths of their time, or a day, have passed.
#[derive(Default)]
pub struct Tokens {
    known: Mutex<BTreeMap<payload::TokenRequest, Token>>,
}

impl Tokens {
    /// All tokens that a pod's volumes need, fresh ones where the old ones age.
    pub async fn for_pod(&self, context: &NodeContext, pod: &Pod) -> Result<BTreeMap<payload::TokenRequest, String>, Status> {
        let wanted: BTreeSet<_> = volumes::volumes(pod).iter().flat_map(payload::token_requests).collect();
        if wanted.len() > MOST_TOKENS {
            let message = format!("the pod asks for {} different tokens, this node gets {MOST_TOKENS} at most", wanted.len());
            return Err(Status::bad_request(message));
        }
        let mut all = BTreeMap::new();
        for request in wanted {
            let token = self.get(context, pod, &request).await?;
            all.insert(request, token.token);
        }
        Ok(all)
    }

    /// One token of the pod's service account.
    pub async fn get(&self, context: &NodeContext, pod: &Pod, request: &payload::TokenRequest) -> Result<Token, Status> {
        let known = self.known.lock().get(request).cloned();
        let token = match known.filter(|token| !is_aging(token, context.clock.now())) {
            Some(token) => token,
            None => context.cluster.token(pod, request).await?,
        };
        self.known.lock().insert(request.clone(), token.clone());
        Ok(token)
    }
}

fn is_aging(token: &Token, now: Timestamp) -> bool {
    let life = token.expires.duration_since(token.issued);
    let age = now.duration_since(token.issued);
    // One from the future, of a clock that was set back since, is not valid yet.
    age.is_negative() || age > life * 4 / 5 || age > SignedDuration::from_hours(24)
}

/// Fetches all config maps and secrets that a pod's volumes, or one container's environment, refer to.
pub(super) async fn references(cluster: &dyn Cluster, pod: &Pod, container: Option<&str>) -> Result<References, Status> {
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    let mut add = |(more_maps, more_secrets): (Vec<String>, Vec<String>)| {
        maps.extend(more_maps);
        secrets.extend(more_secrets);
    };
    match container {
        None => volumes::volumes(pod).iter().for_each(|volume| add(payload::referenced(volume))),
        Some(name) => {
            let spec = pod.spec.as_ref();
            if let Some(container) = spec.and_then(|spec| super::find_any(spec, name)) {
                add(env::referenced(&container));
            }
            add((Vec::new(), images::pull_secrets(pod)));
        }
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut references = References::default();
    if container.is_none() && volumes::volumes(pod).iter().any(trust_bundles::is_asked_for) {
        references.trust_bundles = Some(cluster.trust_bundles().await?);
    }
    for name in maps {
        let map = cluster.config_map(namespace, &name).await?;
        references.config_maps.insert(name, map);
    }
    for name in secrets {
        let secret = cluster.secret(namespace, &name).await?;
        references.secrets.insert(name, secret);
    }
    Ok(references)
}

/// Asks what the claims of some of a pod's volumes lead to. Those of which it cannot be told now are said, the others are found.
pub(super) async fn claims(context: &NodeContext, pod: &Pod, wanted: impl Fn(&str) -> bool) -> (Sources, Option<String>) {
    let (mut sources, mut failure) = (Sources::new(), None);
    let claimed = volumes::volumes(pod).iter().filter(|volume| volumes::Plugin::of(volume) == Some(volumes::Plugin::Claim));
    for volume in claimed.filter(|volume| wanted(&volume.name)) {
        match claim_source(context, pod, volume).await {
            Ok(source) => drop(sources.insert(volume.name.clone(), source)),
            Err(why) => failure = failure.or(Some(why)),
        }
    }
    (sources, failure)
}

async fn claim_source(context: &NodeContext, pod: &Pod, volume: &Volume) -> Result<claim::Source, String> {
    let cluster = &context.cluster;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = storage::claim_of(pod, volume).map(|claim| claim.name).unwrap_or_default();
    let unreadable =
        |what: &str, status: Status| format!("error processing PVC {namespace}/{name}: failed to fetch {what} from API server: {status}");
    let claim = cluster.claim(namespace, &name).await.map_err(|status| unreadable("PVC", status))?;
    let bound = match claim.as_deref().map(storage::volume_name).filter(|name| !name.is_empty()) {
        Some(bound) => cluster.volume(bound).await.map_err(|status| unreadable(&format!("PV {bound}"), status))?,
        None => None,
    };
    let node = cluster.node(&context.node_name).await.map_err(|status| unreadable("node", status))?;
    let found = Found { claim: claim.as_deref(), volume: bound.as_deref(), node: node.as_deref(), directory: &context.volumes };
    claim::source(pod, volume, found)
}
