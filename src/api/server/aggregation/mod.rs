//! Servers behind API services: where they are, and connections to them (what upstream's kube-aggregator does).
//!
//! An `ApiService` object with a service names a group and version that another server answers for. [`Aggregator`]
//! has the [`Backend`] of each; `http/aggregation` passes requests of clients on, and units of this process ask through [`Backend::ask`].
//! Who calls is told in headers that the server believes because of our certificate (`auth/request_header`). Whoever keeps the table says
//! which there are ([`Aggregator::replace`]); nothing here looks for them.

mod backend;
pub mod calls;
pub mod description;
mod dial;
pub mod endpoints;

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

pub use self::{
    backend::{Answer, Backend, BackendError, BackendOptions, OutgoingBody, whole},
    description::{ApiServiceSpec, ServiceReference},
};

/// A version of a group that another server answers for.
#[derive(Clone)]
pub struct RemoteService {
    pub spec: Arc<ApiServiceSpec>,
    /// Whether it passed its last check: requests go nowhere else.
    pub available: bool,
    pub backend: Arc<Backend>,
}

impl RemoteService {
    /// Whether requests may go there.
    ///
    /// # Errors
    /// Why not: nobody is asked, or it did not pass its last check.
    pub fn usable(&self) -> Result<(), BackendError> {
        self.backend.open()?;
        if self.available { Ok(()) } else { Err(BackendError::Nowhere("the API service did not pass its last check".into())) }
    }
}

/// By group, then by version.
type Services = HashMap<Arc<str>, HashMap<Arc<str>, RemoteService>>;

/// All of them, as requests find them. Shared; looked up without a lock.
#[derive(Default)]
pub struct Aggregator {
    services: ArcSwap<Services>,
}

impl Aggregator {
    /// Who answers for a version; `None` where that is this server itself.
    pub fn find(&self, group: &str, version: &str) -> Option<RemoteService> {
        self.services.load().get(group)?.get(version).cloned()
    }

    /// From now on there are these.
    pub fn replace(&self, services: impl Iterator<Item = RemoteService>) {
        let mut all = Services::new();
        for service in services {
            all.entry(service.spec.group.clone()).or_default().insert(service.spec.version.clone(), service);
        }
        self.services.store(Arc::new(all));
    }
}
