//! The [`Connect`] of an API server: finds the kubelet and hands over to the subresource.

use std::sync::Arc;

use actix_web::HttpResponse;
use futures::future::LocalBoxFuture;
use troupe_api::{
    service::Listers,
    status::{Reason, Status},
};

use super::{backend, dialer::KubeletDialer, logs, places::Places, remote};
use crate::http::connect::{Connect, ConnectRequest};

/// Serves connect subresources through kubelets.
pub struct KubeletConnect {
    places: Places,
}

impl KubeletConnect {
    /// Pods and nodes are read from `listers`, kubelets dialled by `dialer`.
    pub fn new(listers: Arc<dyn Listers>, dialer: KubeletDialer) -> KubeletConnect {
        KubeletConnect { places: Places { listers, dialer, loopback: false, splits_logs: false } }
    }

    /// Whether clients may ask for one output of a container alone.
    #[must_use]
    pub fn splitting_logs(mut self, splits: bool) -> Self {
        self.places.splits_logs = splits;
        self
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
