//! Where pods and kubelets are.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    service::{Listers, Target},
    status::Status,
};

use super::dialer::KubeletDialer;
use crate::backends::place::{self, Kubelet};

/// Where things are, and how to get there.
#[derive(Clone)]
pub struct Places {
    pub listers: Arc<dyn Listers>,
    pub dialer: KubeletDialer,
    pub loopback: bool,
    /// Clients may ask for one output of a container alone.
    pub splits_logs: bool,
}

impl Places {
    /// The pod that a request names.
    ///
    /// # Errors
    /// 404.
    pub fn pod(&self, target: &Target) -> Result<Arc<Pod>, Status> {
        let pods = GroupResource::new("", "pods");
        let stored = self.listers.get(&pods, &target.key()).ok_or_else(|| Status::not_found(&pods, &target.name))?;
        stored.typed::<Pod>().map_err(Status::internal)
    }

    /// The kubelet of a node.
    ///
    /// # Errors
    /// 404 when there is no such node.
    pub fn kubelet(&self, node: &str) -> Result<Kubelet, Status> {
        let nodes = GroupResource::new("", "nodes");
        let stored = self.listers.get(&nodes, &ObjectKey::new("", node)).ok_or_else(|| Status::not_found(&nodes, node))?;
        let address = place::kubelet_address(&*stored.typed::<Node>().map_err(Status::internal)?)?;
        Ok(Kubelet { node: node.to_owned(), address })
    }
}
