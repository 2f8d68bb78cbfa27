//! `NodeRestriction`: what a kubelet writes must be about its own node and the pods on it.
//!
//! The Node authorizer decides by names; this plugin looks at what is written.

mod addresses;
mod kubelet_port;
mod labels;
mod pod_certificates;
mod pods;
mod tokens;

pub use labels::node_may_label;

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    auth::node::node_of,
    meta::{GroupResource, Object, ObjectKey},
    status::Status,
    stored::StoredObject,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeRestriction;

const LEASES: &str = "kube-node-lease";
/// Signers whose certificates name a node.
const NODE_SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CHANGES
    }
}

#[async_trait]
impl MutatingPlugin for NodeRestriction {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        check(request)
    }
}

fn check(request: &Attributes<'_>) -> Result<(), Status> {
    let Some(node) = node_of(request.user) else { return Ok(()) };
    if request.operation == Operation::Connect {
        return Ok(());
    }
    if node.is_empty() {
        return Err(request.forbidden(format!("could not determine node from user {:?}", request.user.name)));
    }
    let target = request.target;
    match (&*target.resource.group, &*target.resource.plural, &*target.subresource) {
        ("", "pods", subresource) => pods::check(request, node, subresource),
        ("", "nodes", _) => check_node(request, node),
        ("", "persistentvolumeclaims", "status") => check_claim_status(request, node),
        ("", "persistentvolumeclaims", _) => Err(request.forbidden("may only update PVC status")),
        ("", "serviceaccounts", "token") if request.operation == Operation::Create => tokens::check(request, node),
        ("coordination.k8s.io", "leases", _) if &*target.namespace != LEASES => {
            Err(request.forbidden(format!("can only access leases in the {LEASES:?} system namespace")))
        }
        ("coordination.k8s.io", "leases", _) => own_name(request, node, "can only access node lease with the same name as the requesting node"),
        ("storage.k8s.io", "csinodes", _) => own_name(request, node, "can only access CSINode with the same name as the requesting node"),
        ("resource.k8s.io", "resourceslices", _) => check_resource_slice(request, node),
        ("certificates.k8s.io", "certificatesigningrequests", "") => check_signing_request(request, node),
        ("certificates.k8s.io", "podcertificaterequests", subresource) => pod_certificates::check(request, node, subresource),
        _ => Ok(()),
    }
}

/// The object's name, which a create shows only here.
fn name<'a>(request: &'a Attributes<'_>) -> &'a str {
    match request.object() {
        Some(object) if request.operation == Operation::Create => object.name(),
        _ => &request.target.name,
    }
}

fn own_name(request: &Attributes<'_>, node: &str, why: &str) -> Result<(), Status> {
    if name(request) == node { Ok(()) } else { Err(request.forbidden(why)) }
}

fn check_node(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let name = name(request);
    if name != node {
        return Err(request.forbidden(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let Some(new) = request.object() else { return Ok(()) };
    addresses::check(request, node, new, request.old)?;
    addresses::check_pod_ranges(request, node, new, request.old)?;
    kubelet_port::check(request, node, new, request.old)?;
    let config_source = |object: &Object| object.get(&["spec", "configSource"]).filter(|source| !source.is_null()).cloned();
    let Some(old) = request.old else {
        if config_source(new).is_some() {
            return Err(request.forbidden(format!("node {node:?} is not allowed to create pods with a non-nil configSource")));
        }
        let refused = labels::refused(new, None);
        return if refused.is_empty() {
            Ok(())
        } else {
            Err(request.forbidden(format!("node {node:?} is not allowed to set the following labels: {}", refused.join(", "))))
        };
    };
    if config_source(new).is_some() && config_source(new) != config_source(old) {
        return Err(request.forbidden(format!("node {node:?} is not allowed to update configSource to a new non-nil configSource")));
    }
    if !same_list(new, old, &["spec", "taints"]) {
        return Err(request.forbidden(format!("node {node:?} is not allowed to modify taints")));
    }
    if !same_list(new, old, &["metadata", "ownerReferences"]) {
        return Err(request.forbidden(format!("node {node:?} is not allowed to modify ownerReferences")));
    }
    let refused = labels::refused(new, Some(old));
    if refused.is_empty() { Ok(()) } else { Err(request.forbidden(format!("is not allowed to modify labels: {}", refused.join(", ")))) }
}

fn same_list(new: &Object, old: &Object, path: &[&str]) -> bool {
    new.list(path) == old.list(path)
}

/// Of a claim, a node reports how large it is and how resizing goes, and nothing else.
fn check_claim_status(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let (Operation::Update, Some(new), Some(old)) = (request.operation, request.object(), request.old) else {
        return Err(request.forbidden(format!("unexpected operation {:?}", verb(request.operation))));
    };
    let rest = |claim: &Object| {
        let mut rest = claim.clone();
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            rest.remove(&["status", field]);
        }
        for field in ["resourceVersion", "managedFields"] {
            rest.remove(&["metadata", field]);
        }
        rest
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(request.forbidden(format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions")))
}

fn check_resource_slice(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let (slice, verb) = match request.operation {
        Operation::Create => (request.object(), "create"),
        Operation::Delete => (request.old, "delete"),
        _ => return Ok(()),
    };
    match slice {
        Some(slice) if slice.str(&["spec", "nodeName"]) != node => {
            Err(request.forbidden(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")))
        }
        _ => Ok(()),
    }
}

/// A node asks for certificates in its own name only.
fn check_signing_request(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let Some(object) = request.object().filter(|_| request.operation == Operation::Create) else { return Ok(()) };
    if !NODE_SIGNERS.contains(&object.str(&["spec", "signerName"])) {
        return Ok(());
    }
    let parsed = troupe_api::certificates::SigningRequest::from_base64(object.str(&["spec", "request"]));
    match parsed {
        Err(error) => Err(request.forbidden(format!("unable to parse csr: {error}"))),
        Ok(parsed) if parsed.common_name == format!("system:node:{node}") => Ok(()),
        Ok(_) => Err(request.forbidden(format!("can only create a node CSR with CN=system:node:{node}"))),
    }
}

fn lookup(request: &Attributes<'_>, plural: &str, key: &ObjectKey) -> Result<std::sync::Arc<StoredObject>, Status> {
    let resource = GroupResource::new("", plural);
    request.reads.listers().get(&resource, key).ok_or_else(|| Status::not_found(&resource, &key.name))
}

fn on_node(pod: &StoredObject, node: &str) -> bool {
    pod.to_object().str(&["spec", "nodeName"]) == node
}

/// The operation as upstream spells it.
fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
