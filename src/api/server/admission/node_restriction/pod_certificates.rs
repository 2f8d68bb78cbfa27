//! Requests for certificates of pods: a node asks for those of pods that run on it, as what they are.
//!
//! What the caches may not show yet is no refusal: whoever asks again may be right then.

use troupe_api::{
    auth::node::references::MIRROR,
    meta::{Object, ObjectKey},
    status::{Reason, Status},
};

use super::{Attributes, Operation, lookup, verb};

pub fn check(request: &Attributes<'_>, node: &str, subresource: &str) -> Result<(), Status> {
    if request.operation != Operation::Create {
        return Err(request.forbidden(format!("unexpected operation {}", verb(request.operation))));
    }
    if !subresource.is_empty() {
        return Err(request.forbidden(format!("unexpected subresource {subresource}")));
    }
    let Some(asked) = request.object() else { return Ok(()) };
    check_node(request, node, asked)?;
    check_pod(request, asked)?;
    let (pod, account, uid) = (pod_name(request, asked), spec(asked, "serviceAccountName"), spec(asked, "serviceAccountUID"));
    let path = format!("{}/{account}", request.target.namespace);
    let known = found(request, "serviceaccounts", &request.target.namespace, account, || format!("service account {path:?}"))?;
    let known = &*known.meta().uid;
    if known != uid {
        let why = format!("names service account UID {uid:?}, which differs from the running service account ({known:?})");
        return Err(late(format!("PodCertificateRequest for pod {pod:?} {why}")));
    }
    Ok(())
}

fn check_node(request: &Attributes<'_>, node: &str, asked: &Object) -> Result<(), Status> {
    let (name, uid) = (spec(asked, "nodeName"), spec(asked, "nodeUID"));
    if name != node {
        return Err(request.forbidden(format!("PodCertificateRequest.Spec.NodeName={name:?}, which is not the requesting node {node:?}")));
    }
    let known = found(request, "nodes", "", name, || format!("node {name:?}"))?;
    let known = &*known.meta().uid;
    if known != uid {
        let pod = pod_name(request, asked);
        return Err(late(format!("PodCertificateRequest for pod {pod:?} names node UID {uid:?}, inconsistent with the running node ({known:?})")));
    }
    Ok(())
}

fn check_pod(request: &Attributes<'_>, asked: &Object) -> Result<(), Status> {
    let (path, uid, node) = (pod_name(request, asked), spec(asked, "podUID"), spec(asked, "nodeName"));
    let known = found(request, "pods", &request.target.namespace, spec(asked, "podName"), || format!("pod {path:?}"))?;
    let known_uid = &*known.meta().uid;
    if known_uid != uid {
        return Err(late(format!("PodCertificateRequest for pod {path:?} contains pod UID ({uid:?}) which differs from running pod {known_uid:?}")));
    }
    let pod = known.to_object();
    if pod.str(&["spec", "nodeName"]) != node {
        return Err(request.forbidden(format!("pod {path:?} is not running on node {node:?} named in the PodCertificateRequest")));
    }
    if pod.annotation(MIRROR).is_some() {
        return Err(request.forbidden(format!("pod {path:?} is a mirror pod")));
    }
    let (account, own) = (spec(asked, "serviceAccountName"), pod.str(&["spec", "serviceAccountName"]));
    if account != own {
        let why = format!("contains serviceAccountName ({account:?}) that differs from running pod ({own:?})");
        return Err(request.forbidden(format!("PodCertificateRequest for pod {path:?} {why}")));
    }
    Ok(())
}

fn spec<'a>(asked: &'a Object, field: &str) -> &'a str {
    asked.str(&["spec", field])
}

/// The pod with its namespace.
fn pod_name(request: &Attributes<'_>, asked: &Object) -> String {
    format!("{}/{}", request.target.namespace, spec(asked, "podName"))
}

/// An object that the request names.
fn found(
    request: &Attributes<'_>,
    plural: &str,
    namespace: &str,
    name: &str,
    what: impl FnOnce() -> String,
) -> Result<std::sync::Arc<troupe_api::stored::StoredObject>, Status> {
    let key = ObjectKey::new(namespace, name);
    lookup(request, plural, &key)
        .map_err(|status| late(format!("while retrieving {} named in the PodCertificateRequest: {}", what(), status.message)))
}

/// An error that may be gone when somebody tries again.
fn late(why: String) -> Status {
    Status::new(500, Reason::Unknown, why)
}
