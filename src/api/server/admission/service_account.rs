//! `ServiceAccount`: every pod runs under a service account, whose token it finds mounted.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rand::Rng;
use serde_json::{Value, json};
use troupe_api::{
    auth::node::references,
    meta::{GroupResource, Object, ObjectKey},
    status::Status,
    stored::StoredObject,
};

use super::{
    Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin,
    mountable_secrets::{self, Mountable},
};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceAccount;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The account of pods that name none.
const DEFAULT: &str = "default";
/// How often, and how long apart, the default account is looked for.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(75);
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour and a few seconds, by which upstream tells its own tokens from others.
const TOKEN_SECONDS: i64 = 3607;
/// Lower-case letters and digits that spell no words.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl MutatingPlugin for ServiceAccount {
    fn work(&self, request: &Attributes<'_>) -> usize {
        if !is_new_pod(request) {
            return 0;
        }
        let named = request.object().map_or("", |pod| pod.str(&["spec", "serviceAccountName"]));
        let key = ObjectKey::new(request.target.namespace.clone(), if named.is_empty() { DEFAULT } else { named });
        let account = request.reads.listers().get(&GroupResource::new("", "serviceaccounts"), &key);
        account.map_or(0, |account| account.encoded_length())
    }

    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !is_new_pod(request) {
            return Ok(());
        }
        if let Some(pod) = request.object()
            && pod.annotation(MIRROR).is_some()
        {
            return check_mirror(request, pod);
        }
        if let Some(pod) = request.object_mut()
            && pod.str(&["spec", "serviceAccountName"]).is_empty()
        {
            pod.set(&["spec", "serviceAccountName"], DEFAULT);
        }
        let account = account_of(request).await?;
        let Some(pod) = request.object_mut() else { return Ok(()) };
        let name = pod.str(&["spec", "serviceAccountName"]).to_owned();
        pod.set(&["spec", "serviceAccount"], name);
        if automounts(pod, &account) {
            mount_token(pod);
        }
        let secrets = account.list(&["imagePullSecrets"]);
        if pod.list(&["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            pod.set(&["spec", "imagePullSecrets"], secrets.to_vec());
        }
        Ok(())
    }
}

#[async_trait]
impl ValidatingPlugin for ServiceAccount {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let ephemeral = request.operation == Operation::Update && is_subresource(request, "ephemeralcontainers");
        let Some(pod) = request.object().filter(|pod| ephemeral || is_new_pod(request) && pod.annotation(MIRROR).is_none()) else {
            return Ok(());
        };
        if pod.str(&["spec", "serviceAccountName"]).is_empty() {
            let key = ObjectKey::new(request.target.namespace.clone(), pod.name());
            return Err(request.forbidden(format!("no service account specified for pod {key}")));
        }
        let stored = stored_account(request).await?;
        if !mountable_secrets::may_enforce(&stored) {
            return Ok(());
        }
        let account = stored.to_object();
        let Some(mountable) = Mountable::of(&account) else { return Ok(()) };
        let refusal = if ephemeral { mountable.refusal_of_ephemeral(pod) } else { mountable.refusal(pod) };
        refusal.map_or(Ok(()), |why| Err(request.forbidden(why)))
    }
}

fn is_subresource(request: &Attributes<'_>, name: &str) -> bool {
    let target = &request.target;
    target.resource.group.is_empty() && &*target.resource.plural == "pods" && &*target.subresource == name
}

fn is_new_pod(request: &Attributes<'_>) -> bool {
    request.operation == Operation::Create && request.is_main("", "pods")
}

fn check_mirror(request: &Attributes<'_>, pod: &Object) -> Result<(), Status> {
    if !pod.str(&["spec", "serviceAccountName"]).is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    let mut uses_secrets = false;
    references::secret_names(pod, &mut |name| uses_secrets |= !name.is_empty());
    if uses_secrets {
        return Err(request.forbidden("a mirror pod may not reference secrets"));
    }
    let projects_token = |volume: &Value| {
        let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
        sources.is_some_and(|sources| sources.iter().any(|source| source.get("serviceAccountToken").is_some()))
    };
    if pod.list(&["spec", "volumes"]).iter().any(projects_token) {
        return Err(request.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

async fn account_of(request: &Attributes<'_>) -> Result<Object, Status> {
    Ok(stored_account(request).await?.to_object())
}

async fn stored_account(request: &Attributes<'_>) -> Result<Arc<StoredObject>, Status> {
    let name = request.object().map_or("", |pod| pod.str(&["spec", "serviceAccountName"])).to_owned();
    let accounts = GroupResource::new("", "serviceaccounts");
    let key = ObjectKey::new(request.target.namespace.clone(), name.clone());
    let mut found = request.reads.listers().get(&accounts, &key);
    // In a new namespace the default account is about to be made: whoever applies both at once is not refused for that.
    let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if found.is_some() {
            break;
        }
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        found = request.reads.live(&accounts, &key).await?;
    }
    match found {
        Some(account) => Ok(account),
        None => {
            let missing = Status::not_found(&GroupResource::new("", "serviceaccount"), &name);
            Err(request.forbidden(format!("error looking up service account {key}: {missing}")))
        }
    }
}

fn automounts(pod: &Object, account: &Object) -> bool {
    let asked = pod.get(&["spec", "automountServiceAccountToken"]).or_else(|| account.get(&["automountServiceAccountToken"]));
    asked.and_then(Value::as_bool).unwrap_or(true)
}

/// Mounts the token volume in each container that has nothing at its path; the volume exists only if one needs it.
fn mount_token(pod: &mut Object) {
    let existing = pod.list(&["spec", "volumes"]).iter().filter_map(|volume| volume["name"].as_str());
    let existing = existing.filter(|name| name.starts_with("kube-api-access-")).map(str::to_owned).next();
    let name = existing.clone().unwrap_or_else(|| format!("kube-api-access-{}", suffix()));
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let mut containers = pod.list(&["spec", field]).to_vec();
        for container in &mut containers {
            mounted |= mount_in(container, &name);
        }
        if !containers.is_empty() {
            pod.set(&["spec", field], containers);
        }
    }
    if mounted && existing.is_none() {
        let mut volumes = pod.list(&["spec", "volumes"]).to_vec();
        volumes.push(token_volume(&name));
        pod.set(&["spec", "volumes"], volumes);
    }
}

fn mount_in(container: &mut Value, volume: &str) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).cloned().unwrap_or_default();
    if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
        return false;
    }
    let mut mounts = mounts;
    mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    container["volumeMounts"] = mounts.into();
    true
}

fn suffix() -> String {
    let mut rng = rand::rng();
    (0..5).map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())])).collect()
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
