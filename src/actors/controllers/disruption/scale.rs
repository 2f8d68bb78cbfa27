//! How many pods the controllers of some pods want.

use std::{collections::BTreeMap, sync::Arc};

use troupe_api::{
    meta::{GroupVersion, ObjectKey},
    projection::OwnerProjection,
    service::{Operation, Target},
};

use super::{Workloads, plan::Expectation};
use crate::{
    controllers::{owners::controller_of, pod_digest::PodDigest},
    runtime::controller::ReconcileContext,
};

/// A controller and what it wants.
struct Scale {
    uid: String,
    replicas: i32,
}

/// Sums up what the controllers of all pods want, each once.
pub(super) async fn expected(workloads: &Workloads, pods: &[Arc<PodDigest>], cx: &ReconcileContext) -> Result<Expectation, String> {
    let mut scales = BTreeMap::<String, i32>::new();
    let mut unmanaged = Vec::new();
    for pod in pods {
        let name = &*pod.meta.name;
        let Some(controller) = pod.meta.controller() else {
            unmanaged.push(name.to_owned());
            continue;
        };
        if scales.contains_key(&*controller.uid) {
            continue;
        }
        let namespace = &*pod.meta.namespace;
        let scale = match known(workloads, controller, namespace) {
            Some(scale) => Some(scale),
            None => asked(controller, namespace, cx).await?,
        };
        let scale = scale.ok_or_else(|| format!("found no controllers for pod {name:?}"))?;
        scales.insert(scale.uid, scale.replicas);
    }
    Ok(Expectation { count: scales.values().fold(0, |sum: i32, replicas| sum.saturating_add(*replicas)), unmanaged })
}

/// The scale of upstream's own workloads, from the caches.
fn known(workloads: &Workloads, controller: &OwnerProjection, namespace: &str) -> Option<Scale> {
    let key = ObjectKey::new(namespace, controller.name.clone());
    let scale = |uid: Option<&String>, replicas: Option<i32>| {
        let uid = uid.filter(|uid| **uid == *controller.uid)?;
        Some(Scale { uid: uid.clone(), replicas: replicas.unwrap_or(1) })
    };
    let group = GroupVersion::parse(&controller.api_version).group;
    match (&*group, &*controller.kind) {
        ("", "ReplicationController") => {
            let found = workloads.replication_controllers.get(&key)?.object;
            scale(found.metadata.uid.as_ref(), found.spec.as_ref().and_then(|spec| spec.replicas))
        }
        ("apps" | "extensions", "ReplicaSet") => replica_set(workloads, controller, &key),
        ("apps", "StatefulSet") => {
            let found = workloads.stateful_sets.get(&key)?.object;
            scale(found.metadata.uid.as_ref(), found.spec.as_ref().and_then(|spec| spec.replicas))
        }
        _ => None,
    }
}

/// The scale of a replica set, or of the deployment that it belongs to.
fn replica_set(workloads: &Workloads, controller: &OwnerProjection, key: &ObjectKey) -> Option<Scale> {
    let set = workloads.replica_sets.get(key)?.object;
    let uid = set.metadata.uid.clone().filter(|uid| **uid == *controller.uid)?;
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
    let Some(owner) = owner else {
        return Some(Scale { uid, replicas: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1) });
    };
    let deployment = workloads.deployments.get(&ObjectKey::new(key.namespace.clone(), owner.name.as_str()))?.object;
    let uid = deployment.metadata.uid.clone().filter(|uid| *uid == owner.uid)?;
    Some(Scale { uid, replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1) })
}

/// The scale of any other controller, by its `scale` subresource.
async fn asked(controller: &OwnerProjection, namespace: &str, cx: &ReconcileContext) -> Result<Option<Scale>, String> {
    let GroupVersion { group, version } = GroupVersion::parse(&controller.api_version);
    let row = cx.client().service().registry().by_kind(&group, &controller.kind).filter(|row| row.serves(&version));
    let resource = row.ok_or_else(|| format!("no matches for kind {:?} in version {:?}", controller.kind, controller.api_version))?;
    if resource.version(&version).subresource("scale").is_none() {
        return Err(format!("{} does not implement the scale subresource", resource.group_resource()));
    }
    let target = Target { resource, version, namespace: namespace.into(), name: controller.name.clone(), subresource: "scale".into() };
    let scale = match cx.client().call(target, Operation::Get { resource_version: None }).await {
        Ok(reply) => reply.into_tree().map_err(|status| status.message)?,
        Err(status) if status.is_not_found() => return Ok(None),
        Err(status) => return Err(status.message),
    };
    let replicas = scale.int(&["spec", "replicas"]).and_then(|replicas| i32::try_from(replicas).ok()).unwrap_or(0);
    Ok((*scale.uid() == *controller.uid).then(|| Scale { uid: controller.uid.to_string(), replicas }))
}
