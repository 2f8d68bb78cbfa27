//! The Node authorizer: a kubelet may touch its own node, the pods on it, and what those pods lead to.
//!
//! Everything else that nodes may do is the same for all of them: the rules of the role `system:node`. What a request
//! would write is not seen here; the admission plugin `NodeRestriction` looks at that.

mod graph;
mod identity;
pub mod references;
#[cfg(test)]
mod tests;
mod uses;

use std::sync::Arc;

pub use self::identity::{ClusterIdentity, Reserved};
use self::{graph::Graph, references::Kind};
use super::{
    Attributes, Authorizer, Decision, UserRules,
    bootstrap::{self, Addition},
    rbac::rules::Rule,
};
use crate::{
    local_path,
    meta::{GroupResource, ObjectKey},
    service::{Listers, UserInfo},
};

/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// What precedes the node's name in its user name.
pub const USER_PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

/// The name of the node that this user is; empty for a node that cannot be told, `None` for everybody else.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    user.groups.iter().any(|group| group == NODES).then_some(name)
}

/// The authorizer over the watch caches.
pub struct NodeAuthorizer {
    listers: Arc<dyn Listers>,
    graph: Graph,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        NodeAuthorizer::with(listers, &[])
    }

    /// The same where features are on that let nodes do more.
    pub fn with(listers: Arc<dyn Listers>, additions: &[Addition]) -> Self {
        NodeAuthorizer {
            graph: Graph::new(listers.clone()),
            rules: bootstrap::rules_of("system:node", additions).into_iter().map(Rule::from).collect(),
            listers,
        }
    }

    fn decide(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.path.is_some() {
            return self.by_rules(asked);
        }
        match (asked.group, asked.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, asked),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, asked),
            ("", "persistentvolumeclaims") if asked.subresource == "status" => self.write_claim_status(node, asked),
            ("", "persistentvolumeclaims") => self.get(asked, |key| self.graph.leads_to(node, Kind::VolumeClaim, key), node),
            ("resource.k8s.io", "resourceclaims") => self.get(asked, |key| self.graph.leads_to(node, Kind::ResourceClaim, key), node),
            ("", "persistentvolumes") => self.volume(node, asked),
            ("storage.k8s.io", "volumeattachments") => self.get(asked, |key| self.names_node(asked, key, node), node),
            ("", "serviceaccounts") => self.service_account(node, asked),
            ("coordination.k8s.io", "leases") => lease(node, asked),
            ("storage.k8s.io", "csinodes") => csi_node(node, asked),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(node, asked),
            ("certificates.k8s.io", "podcertificaterequests") => self.pod_certificate_request(node, asked),
            ("", "nodes") => own_node(node, asked),
            ("", "pods") => self.pod(node, asked),
            _ => self.by_rules(asked),
        }
    }

    fn by_rules(&self, asked: &Attributes<'_>) -> Decision {
        if self.rules.iter().any(|rule| rule.allows(asked)) { Decision::Allow } else { no("") }
    }

    /// Reads of secrets and config maps, one at a time.
    fn read(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        related(asked, node, |key| self.graph.leads_to(node, kind, key))
    }

    fn get(&self, asked: &Attributes<'_>, leads: impl FnOnce(&ObjectKey) -> bool, node: &str) -> Decision {
        if asked.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot get subresource");
        }
        related(asked, node, leads)
    }

    /// Beside the volumes of its pods a node sees those of the built-in provisioner that are its own, and takes away the ones that
    /// nobody claims any more.
    fn volume(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        let labels = asked.selection.labels;
        let is_own = || labels.and_then(|labels| labels.required_value(local_path::NODE_LABEL)) == Some(node);
        match (asked.subresource, asked.verb) {
            ("", "list" | "watch") if asked.name.is_empty() && is_own() => Decision::Allow,
            ("", "delete") => related(asked, node, |key| {
                let volume = self.listers.get(&GroupResource::new("", "persistentvolumes"), key).map(|volume| volume.to_object());
                volume.is_some_and(|volume| local_path::is_on(&volume, node) && local_path::is_done(&volume))
            }),
            _ => self.get(asked, |key| self.holds_volume(node, key), node),
        }
    }

    fn write_claim_status(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !matches!(asked.verb, "update" | "patch") {
            return no("can only get/update/patch this type");
        }
        related(asked, node, |key| self.graph.leads_to(node, Kind::VolumeClaim, key))
    }

    fn service_account(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.read(node, Kind::ServiceAccount, asked);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        related(asked, node, |key| self.graph.leads_to(node, Kind::ServiceAccount, key))
    }

    fn resource_slice(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match asked.verb {
            "create" => Decision::Allow,
            "get" | "update" | "patch" | "delete" => related(asked, node, |key| self.names_node(asked, key, node)),
            "watch" | "list" | "deletecollection" if selects(asked, "spec.nodeName", node) => Decision::Allow,
            "watch" | "list" | "deletecollection" => no("can only list/watch/deletecollection resourceslices with nodeName field selector"),
            _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"),
        }
    }

    fn pod_certificate_request(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match asked.verb {
            // NodeRestriction looks whose pod it is for.
            "create" => Decision::Allow,
            "get" => related(asked, node, |key| self.names_node(asked, key, node)),
            "list" | "watch" if selects(asked, "spec.nodeName", node) => Decision::Allow,
            "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
            verb => no(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn pod(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        let own = |key: &ObjectKey| self.names_node(asked, key, node);
        match (asked.subresource, asked.verb) {
            ("", "get") => related(asked, node, own),
            ("", "list" | "watch") if selects(asked, "spec.nodeName", node) => Decision::Allow,
            ("", "list" | "watch") if asked.name.is_empty() => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "list" | "watch") => related(asked, node, own),
            // Mirror pods, states and evictions of its own: NodeRestriction looks whose they are.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Decision::Allow,
            _ => no(""),
        }
    }

    /// Whether the object is there and its `spec.nodeName` is this node.
    fn names_node(&self, asked: &Attributes<'_>, key: &ObjectKey, node: &str) -> bool {
        let found = self.listers.get(&GroupResource::new(asked.group, asked.resource), key);
        found.is_some_and(|object| object.to_object().str(&["spec", "nodeName"]) == node)
    }

    /// Whether a pod on the node uses the claim that the volume is bound to.
    fn holds_volume(&self, node: &str, key: &ObjectKey) -> bool {
        let volume = self.listers.get(&GroupResource::new("", "persistentvolumes"), key);
        let claim = volume.and_then(|volume| references::of_volume(&volume.to_object()));
        claim.is_some_and(|(claim, _)| self.graph.leads_to(node, Kind::VolumeClaim, &claim))
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        match node_of(user) {
            None => no(""),
            Some("") => no(format!("unknown node for user {:?}", user.name)),
            Some(node) => self.decide(node, attributes),
        }
    }

    fn rules_for(&self, user: &UserInfo, _namespace: &str) -> UserRules {
        let is_node = node_of(user).is_some();
        let errors = is_node.then(|| "node authorizer does not support user rule resolution".to_owned());
        UserRules { rules: Vec::new(), incomplete: is_node, errors: errors.into_iter().collect() }
    }
}

/// Not allowed here; another authorizer may still allow it.
fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

fn related(asked: &Attributes<'_>, node: &str, leads: impl FnOnce(&ObjectKey) -> bool) -> Decision {
    if asked.name.is_empty() {
        return no("No Object name found");
    }
    if leads(&ObjectKey::new(asked.namespace, asked.name)) {
        return Decision::Allow;
    }
    no(format!("no relationship found between node '{node}' and this object"))
}

fn selects(asked: &Attributes<'_>, field: &str, value: &str) -> bool {
    asked.selection.fields.is_some_and(|fields| fields.required_value(field) == Some(value))
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASES {
        return no(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    // A create does not show its name here; NodeRestriction looks at it.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Decision::Allow
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Decision::Allow
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow,
        ("", "get" | "list" | "watch") if asked.name == node => Decision::Allow,
        ("", "get" | "list" | "watch") if asked.name.is_empty() => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
        ("", "get" | "list" | "watch") => no(format!("node '{node}' cannot read '{}', only its own Node object", asked.name)),
        _ => no(""),
    }
}
