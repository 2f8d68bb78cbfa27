//! The [`Connect`] of an API server: finds the kubelet and hands over to the subresource.

use std::sync::Arc;

use actix_web::HttpResponse;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{
    backend,
    dialer::KubeletDialer,
    logs,
    place::{self, Kubelet},
    remote,
};
use crate::{
    http::connect::{Connect, ConnectRequest},
    meta::{GroupResource, ObjectKey},
    service::{Listers, Target},
    status::{Reason, Status},
};

/// Serves connect subresources through kubelets.
pub struct KubeletConnect {
    places: Places,
}

impl KubeletConnect {
    /// Pods and nodes are read from `listers`, kubelets dialled by `dialer`.
    pub fn new(listers: Arc<dyn Listers>, dialer: KubeletDialer) -> KubeletConnect {
        KubeletConnect { places: Places { listers, dialer, loopback: false } }
    }

    /// Lets proxies reach this machine's own addresses, which a cluster's server must not: for tests.
    #[must_use]
    pub fn reaching_loopback(mut self) -> Self {
        self.places.loopback = true;
        self.places.dialer = self.places.dialer.reaching_loopback();
        self
    }
}

impl Connect for KubeletConnect {
    fn connect(&self, request: ConnectRequest) -> LocalBoxFuture<'static, Result<HttpResponse, Status>> {
        let places = self.places.clone();
        Box::pin(async move {
            match (&*request.target.resource.plural, &*request.target.subresource) {
                ("pods", "log") => logs::serve(&places, request).await,
                ("pods", "exec" | "attach" | "portforward") => remote::serve(&places, request).await,
                ("pods" | "services" | "nodes", "proxy") => backend::serve(&places, request).await,
                (resource, subresource) => Err(Status::new(501, Reason::Unknown, format!("{resource}/{subresource} is not served here"))),
            }
        })
    }
}

/// Where things are, and how to get there.
#[derive(Clone)]
pub struct Places {
    pub listers: Arc<dyn Listers>,
    pub dialer: KubeletDialer,
    pub loopback: bool,
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
