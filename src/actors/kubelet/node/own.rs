//! The node object that this kubelet decides by: as the API shows it, or as this machine would register.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use troupe_api::meta::ObjectKey;

use crate::runtime::cache::Lister;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct OwnNode {
    key: ObjectKey,
    /// All nodes; `None` where this one is alone.
    nodes: Option<Lister<Node>>,
    made: Arc<Node>,
}

impl OwnNode {
    /// `made` is the node as it would register here.
    pub fn new(made: Node, nodes: Option<Lister<Node>>) -> Self {
        let key = ObjectKey::cluster(made.metadata.name.as_deref().unwrap_or_default());
        OwnNode { key, nodes, made: Arc::new(made) }
    }

    /// Whether the API's nodes are known, if there are any: what this machine makes up knows no label that people set.
    pub fn is_known(&self) -> bool {
        self.nodes.as_ref().is_none_or(Lister::is_synced)
    }

    /// The node as it was last seen.
    pub fn get(&self) -> Arc<Node> {
        match self.nodes.as_ref().and_then(|nodes| nodes.get(&self.key)) {
            Some(known) => self.completed(known.object),
            None => self.made.clone(),
        }
    }

    /// A node whose status nobody wrote yet has what this machine has.
    pub fn completed(&self, node: Arc<Node>) -> Arc<Node> {
        match node.status.as_ref().and_then(|status| status.allocatable.as_ref()) {
            Some(_) => node,
            None => Arc::new(Node { status: self.made.status.clone(), ..Node::clone(&node) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_without_status_has_what_the_machine_has() {
        let node = |value| -> Node { serde_json::from_value(value).expect("a node") };
        let made = node(json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2"}}}));
        let own = OwnNode::new(made.clone(), None);
        assert!(own.is_known() && *own.get() == made);
        let bare = own.completed(Arc::new(node(json!({"metadata": {"name": "n", "labels": {"a": "b"}}}))));
        assert_eq!((bare.metadata.labels.is_some(), &bare.status), (true, &made.status));
        let full = Arc::new(node(json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "9"}}})));
        assert_eq!(own.completed(full.clone()), full);
    }
}
